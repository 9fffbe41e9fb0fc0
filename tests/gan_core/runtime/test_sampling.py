import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gan_core.runtime.randomness import stream
from gan_core.runtime.sampling import sample

sizes_of_classes = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(sum)
seeds = st.integers(0, 2**32)


def sorted_labels(sizes: list[int]) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def drawn(size: int, count: int, seed: int, labels: Tensor | None = None) -> Tensor:
    return sample(size, count, stream(seed, "test sample"), labels)


@given(sizes_of_classes, st.integers(0, 500), seeds)
def test_a_sample_has_its_size_no_image_twice_and_each_class_its_share(sizes: list[int], count: int, seed: int) -> None:
    labels, size = sorted_labels(sizes), sum(sizes)
    indices = drawn(size, count, seed, labels)
    assert indices.dtype == torch.int64
    assert len(indices) == len(set(indices.tolist())) == min(count, size)
    counts = torch.bincount(labels[indices], minlength=len(sizes)).tolist()
    for have, of_class in zip(counts, sizes, strict=True):
        assert abs(have * size - min(count, size) * of_class) < size


@given(sizes_of_classes, st.integers(0, 500), seeds)
def test_the_order_of_the_images_changes_no_count_of_a_class(sizes: list[int], count: int, seed: int) -> None:
    labels, size = sorted_labels(sizes), sum(sizes)
    shuffled = labels[torch.randperm(size, generator=stream(seed, "test order"))]
    counts = [
        torch.bincount(given[drawn(size, count, seed, given)], minlength=len(sizes)) for given in (labels, shuffled)
    ]
    assert counts[0].tolist() == counts[1].tolist()


@given(st.integers(1, 300), st.integers(0, 300), seeds)
def test_without_labels_a_sample_has_its_size_and_no_image_twice(size: int, count: int, seed: int) -> None:
    indices = drawn(size, count, seed).tolist()
    assert len(indices) == len(set(indices)) == min(count, size)
    assert set(indices) <= set(range(size))


@given(sizes_of_classes, st.integers(0, 9), st.booleans())
def test_a_whole_split_stays_as_it_is(sizes: list[int], more: int, labelled: bool) -> None:
    size = sum(sizes)
    assert drawn(size, size + more, 0, sorted_labels(sizes) if labelled else None).tolist() == list(range(size))


@given(seeds, seeds, st.booleans())
def test_two_samples_are_equal_exactly_when_their_seeds_are(first: int, second: int, labelled: bool) -> None:
    labels = sorted_labels([100] * 4) if labelled else None
    samples = [drawn(400, 60, seed, labels).tolist() for seed in (first, second)]
    assert (samples[0] == samples[1]) == (first == second)


def test_every_image_of_a_class_and_every_class_with_an_equal_remainder_is_drawn_as_often() -> None:
    labels, draws = sorted_labels([10, 10, 10]), 3000
    often = torch.stack([torch.bincount(drawn(30, 4, seed, labels), minlength=30) for seed in range(draws)]).sum(dim=0)
    # 4 of 30 images, so 400 times each; eight standard deviations.
    assert (often - draws * 4 / 30).abs().max() < 150


def test_classes_are_mixed_in_the_order_of_the_draw() -> None:
    labels = sorted_labels([500, 500])
    first_half = labels[drawn(1000, 400, 0, labels)][:200]
    assert 60 < first_half.sum() < 140
