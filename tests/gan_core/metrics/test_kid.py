import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor
from torch_fidelity.metric_kid import kid_features_to_metric

from gan_core.metrics.intervals import Interval
from gan_core.metrics.kid import difference, kid, multiple, p_value
from gan_core.runtime.randomness import stream

DIMENSION = 6


def normal(count: int, number: int, shift: float = 0.0) -> Tensor:
    """Return features (count, F) of a normal distribution whose mean lies `shift` from that of real ones."""
    features = torch.randn(count, DIMENSION, generator=stream(number, "features"))
    features[:, 0] += shift
    return features


def test_it_is_torch_fidelitys_of_one_subset_of_all_images() -> None:
    generated, real = normal(40, 0, 0.5), normal(40, 1)
    subsets = {"kid_subsets": 1, "kid_subset_size": 40, "rng_seed": 0, "verbose": False}
    theirs = kid_features_to_metric(generated, real, **subsets)["kernel_inception_distance_mean"]
    assert kid(generated, real).value == pytest.approx(theirs, rel=1e-6)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generated, real = normal(50, 0, 0.5), normal(30, 1)
    whole = kid(generated, real)
    monkeypatch.setattr("gan_core.metrics.kid.AT_ONCE", 7)
    parts = kid(generated, real)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    torch.testing.assert_close(parts.by_generated, whole.by_generated)
    torch.testing.assert_close(parts.by_real, whole.by_real)


@pytest.mark.parametrize("kind", ["by_generated", "by_real"])
def test_what_an_image_adds_is_what_is_lost_without_it(kind: str) -> None:
    """Of a U-statistic of degree 2: (N - 1) (U - U without i) is its first-order change, up to terms in 1 / N."""
    generated, real = normal(60, 0, 1.0), normal(50, 1)
    all_images = kid(generated, real)
    lost = []
    for number in range(len(generated if kind == "by_generated" else real)):
        kept = [torch.cat([images[:number], images[number + 1 :]]) for images in (generated, real)]
        pair = (kept[0], real) if kind == "by_generated" else (generated, kept[1])
        lost.append(all_images.value - kid(*pair).value)
    changes = getattr(all_images, kind)
    by_jackknife = torch.tensor(lost, dtype=torch.float64) * (len(lost) - 1)
    assert changes.mean().abs() < 1e-9
    assert np.corrcoef(changes, by_jackknife)[0, 1] > 0.999
    assert (changes.std() / by_jackknife.std()).item() == pytest.approx(1, abs=0.05)


def test_the_interval_has_the_true_difference_in_95_of_100_cases() -> None:
    def measured(number: int, count: int, real_count: int) -> Interval:
        real, latents = normal(real_count, 1000 + number), normal(count, number)
        first, other = latents.clone(), latents.clone()
        first[:, 0] += 1.0
        other[:, 1] -= 0.7
        return difference(kid(first, real), kid(other, real))

    truth = np.mean([measured(-1 - number, 2000, 2000).mean for number in range(3)])
    intervals = (measured(number, 150, 80) for number in range(200))
    inside = [bool(over.low <= truth <= over.high) for over in intervals]
    assert binomtest(sum(inside), 200, 0.95).pvalue > 1e-3


@pytest.mark.parametrize(("shift", "most"), [(0.0, 0.05), (0.6, 0.05)])
def test_equally_good_generators_differ_significantly_as_rarely_as_said(shift: float, most: float) -> None:
    values = []
    for number in range(200):
        first, other, real = normal(80, number, shift), normal(80, 2000 + number, shift), normal(50, 4000 + number)
        values.append(p_value(kid(first, real), kid(other, real)) < most)
    assert binomtest(sum(values), 200, most, alternative="greater").pvalue > 1e-3
    assert shift == 0 or sum(values) > 0


def test_a_worse_generator_of_the_same_latents_is_told_apart_where_other_latents_hide_it() -> None:
    real, good = normal(600, 0), normal(200, 1, 0.6)
    worse = good + torch.tensor([0.15] + [0.0] * (DIMENSION - 1))
    paired = p_value(kid(good, real), kid(worse, real))
    unpaired = p_value(kid(good, real), kid(normal(200, 2, 0.75), real))
    assert paired < 1e-3 < unpaired
    assert p_value(kid(worse, real), kid(good, real)) == pytest.approx(1 - paired)


def test_the_same_images_are_never_better() -> None:
    same = kid(normal(20, 0), normal(20, 1))
    assert p_value(same, same) == 1


def test_one_is_a_multiple_of_another_only_if_that_one_is_above_noise() -> None:
    real = normal(400, 1)
    near, far = kid(normal(400, 0, 0.5), real), kid(normal(400, 2, 1.5), real)
    assert multiple(far, near) == far.value / near.value
    assert multiple(near, near) == 1
    assert multiple(far, kid(normal(400, 3), real)) is None
