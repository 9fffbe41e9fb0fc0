from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_core.generation.latents import draw_z
from gan_core.runtime.pixels import to_unit_range
from gan_core.runtime.randomness import stream
from gan_core.training.batches import Batches, StreamedBatches, taken
from gan_core.training.step_batch import StepBatch
from tests.gan_core.examples import ADAPTIVE, CONDITIONAL, CPU, IMAGES, MLP, POLICY, TRAIN, fresh, random_pixels

STATE = fresh(TRAIN, MLP)
PLACES = [(step, k) for step in (1, 2, 3) for k in (0, 1)]


def real(batch: StepBatch) -> Tensor:
    assert batch.real is not None
    return batch.real


def test_every_draw_of_an_update_has_its_own_name() -> None:
    """Checkpoints of before rely on these names."""
    batches = Batches(STATE, IMAGES)
    for batch, counters, names in (
        (batches.discriminator(3, 1), (3, 1), ("real", "z", "real dropout", "fake dropout")),
        (
            batches.generator(3),
            (3,),
            ("generator real", "generator z", "generator real dropout", "generator fake dropout"),
        ),
    ):
        rngs = [stream(TRAIN.seed, name, *counters) for name in names]
        indices = torch.randint(len(IMAGES), (TRAIN.batch_size,), generator=rngs[0])
        assert torch.equal(real(batch), to_unit_range(IMAGES[indices]))
        assert torch.equal(batch.z, draw_z(MLP, TRAIN.batch_size, rngs[1]))
        assert [rng.initial_seed() for rng in (batch.real_rng, batch.fake_rng)] == [
            rng.initial_seed() for rng in rngs[2:]
        ]


def test_penalties_draw_what_they_read_and_nothing_else() -> None:
    counters, shape = (3, 1), (TRAIN.batch_size, *IMAGES.shape[1:])
    extra = ("real_noise", "fake_noise", "real_again", "fake_again", "mix", "mix_rng")
    none = Batches(STATE, IMAGES).discriminator(*counters)
    assert [getattr(none, name) for name in extra] == [None] * len(extra)
    config = replace(TRAIN, penalty_gradient="finite_difference", wgan_gp=1.0)
    batch = Batches(fresh(config, MLP), IMAGES).discriminator(*counters)
    for noise, name in ((batch.real_noise, "real noise"), (batch.fake_noise, "fake noise")):
        assert noise is not None
        assert torch.equal(noise, torch.randn(shape, generator=stream(TRAIN.seed, name, *counters)))
    for rng, again in ((batch.real_rng, batch.real_again), (batch.fake_rng, batch.fake_again)):
        assert again is not None
        assert torch.equal(torch.rand(9, generator=rng), torch.rand(9, generator=again))
    assert batch.mix is not None
    assert torch.equal(batch.mix, torch.rand(TRAIN.batch_size, generator=stream(TRAIN.seed, "mix", *counters)))
    only_real = replace(config, r2_gamma=0.0, wgan_gp=0.0)
    batch = Batches(fresh(only_real, MLP), IMAGES).discriminator(*counters)
    assert [name for name in extra if getattr(batch, name) is not None] == ["real_noise", "real_again"]


def test_augmentation_and_mirrors_have_names_of_their_own() -> None:
    """They move no other draw, and each kind of image and each update draws its own."""
    plain = Batches(STATE, IMAGES)
    state = fresh(replace(TRAIN, mirror=True), MLP, augmentation=POLICY)
    batches = Batches(state, IMAGES)
    drawn = []
    for one, other in (
        (batches.discriminator(3, 1), plain.discriminator(3, 1)),
        (batches.generator(3), plain.generator(3)),
    ):
        assert torch.equal(one.z, other.z)
        assert one.real_rng.initial_seed() == other.real_rng.initial_seed()
        flipped = (real(one) == real(other).flip(-1)).flatten(1).all(dim=1)
        kept = (real(one) == real(other)).flatten(1).all(dim=1)
        assert (flipped ^ kept).all()
        assert 0 < flipped.sum() < len(flipped)
        assert one.real_draws.shape == one.fake_draws.shape == (TRAIN.batch_size, 7)
        assert other.real_draws.shape == (TRAIN.batch_size, 0)
        drawn += [one.real_draws, one.fake_draws]
    assert len({draws.sum().item() for draws in drawn}) == 4
    name = stream(TRAIN.seed, "fake augmentation", 3, 1)
    assert torch.equal(drawn[1], torch.rand(TRAIN.batch_size, 7, generator=name))


def test_streamed_images_adapt_as_those_at_hand_and_nothing_is_kept_for_later() -> None:
    state = fresh(TRAIN, MLP, augmentation=ADAPTIVE)
    at_hand = Batches(state, IMAGES, unseen=IMAGES.flip(0))
    streamed = StreamedBatches(state, IMAGES, unseen=IMAGES.flip(0))
    for step in (4, 8, 12):
        for one, other in zip(at_hand.adaptation(step), streamed.adaptation(step), strict=True):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[2], other[2])
    assert streamed._ahead == {}


def test_every_other_real_image_is_mirrored() -> None:
    config = replace(TRAIN, batch_size=10_000, mirror=True)
    sides = torch.tensor([[0, 255]], dtype=torch.uint8).expand(40, 1, 1, 2)
    for batches in (Batches(fresh(config, MLP), sides), StreamedBatches(fresh(config, MLP), sides)):
        right = real(batches.discriminator(1, 0))[:, 0, 0, 1]
        assert (right > 0).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_an_augmentation_that_adapts_asks_for_unseen_images() -> None:
    with pytest.raises(ValueError, match="not trained on"):
        Batches(fresh(TRAIN, MLP, augmentation=ADAPTIVE), IMAGES).adaptation(4)


def test_shared_latents_are_the_discriminators_last() -> None:
    batches = Batches(fresh(replace(TRAIN, generator_z="shared"), MLP), IMAGES)
    assert torch.equal(batches.generator(2).z, batches.discriminator(2, TRAIN.discriminator_steps - 1).z)
    assert not torch.equal(batches.generator(2).z, batches.discriminator(2, 0).z)


def test_a_loss_that_reads_no_real_images_draws_none() -> None:
    assert Batches(fresh(replace(TRAIN, loss="non_saturating"), MLP), IMAGES).generator(1).real is None


def test_streamed_batches_are_those_of_images_at_hand() -> None:
    at_hand, streamed = Batches(STATE, IMAGES), StreamedBatches(STATE, IMAGES)
    for place in [*PLACES, (7, 1), (2, 0), (1, 0)]:  # in order, and as after a resume
        assert torch.equal(real(at_hand.discriminator(*place)), real(streamed.discriminator(*place)))
    for step in (1, 2, 5):
        assert torch.equal(real(at_hand.generator(step)), real(streamed.generator(step)))


def test_the_next_step_is_gathered_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    streamed = StreamedBatches(STATE, IMAGES)
    drawn: list[tuple[str, *tuple[int, ...]]] = []

    def indices(purpose: str, *counters: int) -> Tensor:
        drawn.append((purpose, *counters))
        return Batches._indices(streamed, purpose, *counters)

    monkeypatch.setattr(streamed, "_indices", indices)
    streamed.discriminator(4, 1)
    streamed.discriminator(5, 1)
    streamed._thread.shutdown()
    assert drawn == [("real", 4, 1), ("real", 5, 1), ("real", 6, 1)]


@pytest.mark.parametrize("count", [40, 10**12])
def test_a_draw_costs_no_more_among_more_images(count: int) -> None:
    endless = torch.zeros(1, dtype=torch.uint8).expand(count, 1)  # that many rows in one byte of memory
    assert real(Batches(STATE, endless).discriminator(1, 0)).shape == (TRAIN.batch_size, 1)


def test_every_image_is_drawn_equally_often() -> None:
    numbers = torch.arange(40.0)[:, None]
    batch = Batches(fresh(replace(TRAIN, batch_size=40_000), MLP), numbers).discriminator(1, 0)
    counts = torch.bincount(real(batch).long().flatten(), minlength=40)
    assert ((counts - 1000).abs() < 6 * 1000**0.5).all()


def test_images_are_seen_in_the_unit_range_and_points_as_they_are() -> None:
    indices = torch.tensor([3, 1, 3])
    assert torch.equal(taken(IMAGES, indices, CPU), to_unit_range(IMAGES[indices]))
    points = torch.randn(50, 2)
    assert torch.equal(taken(points, indices, CPU), points[indices])


def test_other_places_are_other_draws() -> None:
    batches = [Batches(STATE, random_pixels(1000)).discriminator(*place) for place in PLACES]
    assert len({tuple(real(batch).flatten().tolist()) for batch in batches}) == len(PLACES)
    assert len({batch.z.sum().item() for batch in batches}) == len(PLACES)


# Points that are their own index, so that a batch shows which it has; every fourth is of class 1, the others of 0.
NUMBERS = torch.arange(40.0)[:, None]
QUARTERS = (torch.arange(40) % 4 == 0).long()


def labelled(batches: type[Batches] = Batches, **changes: Any) -> Batches:
    return batches(fresh(replace(TRAIN, **changes), CONDITIONAL[0]), NUMBERS, QUARTERS)


def labels(batch: StepBatch) -> Tensor:
    assert batch.labels is not None
    return batch.labels


@pytest.mark.parametrize("kind", [Batches, StreamedBatches])
@pytest.mark.parametrize("balance", ["data", "uniform"])
@pytest.mark.parametrize("generator_z", ["fresh", "shared"])
def test_labels_are_those_of_the_real_samples_beside_them(kind: Any, balance: str, generator_z: str) -> None:
    drawn = labelled(kind, class_balance=balance, generator_z=generator_z)
    for batch in (drawn.discriminator(1, 0), drawn.discriminator(1, 1), drawn.generator(1), drawn.generator(2)):
        assert torch.equal(labels(batch), QUARTERS[real(batch).long().flatten()])


@pytest.mark.parametrize("loss", ["relativistic", "non_saturating"])
def test_shared_images_keep_the_labels_with_which_they_were_generated(loss: str) -> None:
    drawn = labelled(generator_z="shared", loss=loss, batch_size=40)
    last = drawn.discriminator(2, TRAIN.discriminator_steps - 1)
    assert torch.equal(drawn.generator(2).z, last.z)
    assert torch.equal(labels(drawn.generator(2)), labels(last))
    fresh_ones = labelled(loss=loss, batch_size=40)
    assert not torch.equal(labels(fresh_ones.generator(2)), labels(last))


def test_labels_move_no_draw_of_what_is_drawn_without_them() -> None:
    plain = Batches(STATE, NUMBERS)
    for with_labels, without in (
        (labelled().discriminator(3, 1), plain.discriminator(3, 1)),
        (labelled().generator(3), plain.generator(3)),
    ):
        assert torch.equal(real(with_labels), real(without))
        assert torch.equal(with_labels.z, without.z)
        assert without.labels is None


def test_uniform_balance_draws_classes_and_images_within_one_equally_often() -> None:
    batch = labelled(class_balance="uniform", batch_size=40_000).discriminator(1, 0)
    counts = torch.bincount(real(batch).long().flatten(), minlength=40)
    expected = torch.where(QUARTERS == 1, 20_000 / 10, 20_000 / 30)
    assert ((counts - expected).abs() < 6 * expected.sqrt()).all()


def test_a_class_without_images_is_never_drawn() -> None:
    state = fresh(replace(TRAIN, class_balance="uniform", batch_size=400), CONDITIONAL[0])
    batch = Batches(state, NUMBERS, QUARTERS * 2).discriminator(1, 0)
    assert labels(batch).unique().tolist() == [0, 2]
