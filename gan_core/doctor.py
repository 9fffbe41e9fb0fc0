"""A verdict on a training, from the readings of its instruments: what is wrong, its evidence, and what to try."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from gan_core.config import DoctorConfig

HEALTHY = "healthy"
TOO_EARLY = "too early to say"
LOSSES_AND_GRADIENTS = ("d_loss", "g_loss", "d_grad_norm", "g_grad_norm")
Readings = dict[str, float]


@dataclass(frozen=True)
class Diagnosis:
    """A verdict: the first step from which on it holds, a sentence, what may help, and the readings behind it."""

    verdict: str
    step: int
    sentence: str
    remedy: str
    evidence: Readings


@dataclass(frozen=True)
class Failure:
    """A way in which training fails: `holds` decides on readings; `sentence` is formatted with those in `evidence`.

    If it is of what is generated, it is judged only after `DoctorConfig.min_images`.
    """

    name: str
    holds: Callable[[DoctorConfig, Readings], bool]
    evidence: tuple[str, ...]
    sentence: str
    remedy: str
    of_images: bool = True


FAILURES = (
    Failure(
        "divergence",
        lambda config, now: max(abs(now[name]) for name in LOSSES_AND_GRADIENTS) > config.max_magnitude,
        LOSSES_AND_GRADIENTS,
        "losses or gradients are out of range: the discriminator's loss is {d_loss:.4g} nats and its gradient "
        "{d_grad_norm:.2g}, the generator's {g_loss:.4g} nats and {g_grad_norm:.2g}",
        "lower both learning rates, raise r1_gamma and r2_gamma, or revert the last change to them",
        of_images=False,
    ),
    Failure(
        "vanished generator gradient",
        # At its equilibrium least squares has no gradient either.
        lambda config, now: (
            (now["g_signal"] < config.min_signal and now["distance"] > config.min_gap) or now["g_grad_norm"] == 0
        ),
        ("g_signal", "g_grad_norm", "fake_prob"),
        "the generator's loss passes on {g_signal:.2g} of a gradient, whose norm at its weights is {g_grad_norm:.2g}; "
        "D(G(z)) is {fake_prob:.2g}",
        "use the non_saturating or relativistic loss, fewer discriminator_steps or a lower "
        "discriminator_learning_rate; if the gradient is 0, the generator died: lower generator_learning_rate",
        of_images=False,
    ),
    Failure(
        "stalled",
        lambda config, now: now["g_update_ratio"] < config.min_update,
        ("g_update_ratio", "g_grad_norm"),
        "the generator hardly changes: a step moves its weights by {g_update_ratio:.2g} of their norm, though the norm "
        "of its gradient is {g_grad_norm:.2g}",
        "raise generator_learning_rate",
        of_images=False,
    ),
    Failure(
        "mode collapse",
        lambda config, now: now["variety"] < config.min_variety,
        ("variety", "fake_prob"),
        "the variety of generated images is {variety:.2g} times that of real ones",
        "use the relativistic loss with r1_gamma and r2_gamma, a lower generator_learning_rate, or larger batches",
    ),
    Failure(
        "the discriminator has won",
        lambda config, now: now["unseen_prob"] - now["fake_prob"] > config.max_lead,
        ("unseen_prob", "fake_prob"),
        "the discriminator tells generated images from real ones that it has never seen, almost without error: D(x) is "
        "{unseen_prob:.2f} and D(G(z)) {fake_prob:.2f}; both would be 0.5 if they could not be told apart",
        "use the relativistic loss with r1_gamma and r2_gamma, a lower discriminator_learning_rate or a narrower "
        "discriminator, or train for longer if the samples still get better",
    ),
    Failure(
        "discriminator overfitting",
        lambda config, now: (
            now["real_prob"] - now["fake_prob"] > config.min_gap and now["overfitting"] > config.max_overfitting
        ),
        ("overfitting", "real_prob", "unseen_prob", "fake_prob"),
        "logits of real images outside the training set lie {overfitting:.2f} of the way from those of training images "
        "to those of generated ones; D(x) is {real_prob:.2f} for training images, {unseen_prob:.2f} for the others "
        "and {fake_prob:.2f} for generated ones",
        "add training images, use an augmentation (as the preset small-data), train for fewer steps, raise r1_gamma "
        "and r2_gamma or dropout, or narrow the discriminator",
    ),
)
"""In the order in which they explain each other: the first that holds is the verdict."""

OF_PICTURES = (
    Failure(
        "repeated images",
        lambda config, now: now["spacing"] < config.min_spacing,
        ("spacing",),
        "a generated image is {spacing:.2f} times as far from the next one as a real image is from the next real one, "
        "in the features of the extractor",
        "use the relativistic loss with r1_gamma and r2_gamma, a larger z_dim, or larger batches",
    ),
    Failure(
        "leaked augmentation",
        lambda config, now: now.get("leaked", 0.0) > config.max_leaked,
        ("leaked",),
        "{leaked:.0%} of generated images look as the augmentation leaves real ones, with holes or turned, in the "
        "features of the extractor",
        "leave that transform out of the augmentation, lower its probability, or train for longer",
    ),
    Failure(
        "spectral artefacts",
        lambda config, now: now["spectral_distance"] > config.max_spectral_distance,
        ("spectral_distance",),
        "{spectral_distance:.0%} of the spectral power of generated images is at frequencies where real ones have "
        "none, as that of checkerboards or noise",
        "train for longer, raise r1_gamma and r2_gamma, or lower both learning rates",
    ),
    Failure(
        "ragged pictures",
        lambda config, now: now.get("kid_to_trivial", 0.0) > config.max_kid_to_trivial,
        ("kid_to_trivial",),
        "generated images are {kid_to_trivial:.1f} times as far from real ones as two real images laid over each other "
        "are, by KID in the features of the extractor",
        "train for longer, use the relativistic loss with r1_gamma and r2_gamma, or a narrower network that takes more "
        "steps in the same time",
    ),
)
"""What only the finished generator's pictures show."""

BREAKING = ("divergence", "mode collapse")
"""Failures that end a training if `DoctorConfig.stop` is true."""


class Doctor:
    """Reads the rows of a training one after the other and always has a verdict.

    A failure holds if its condition does for the medians of all readings of the last `window` of the training's steps,
    after the first `grace` of them: one bad batch raises no alarm, nor do the first steps, in which every training is
    unbalanced and the verdict is `TOO_EARLY`.
    """

    def __init__(self, config: DoctorConfig, steps: int) -> None:
        self._config = config
        self._window, self._grace = config.window * steps, config.grace * steps
        self._rows = deque[Readings]()
        self._reported = set[str]()
        self._since = dict[str, int]()
        self._medians: Readings = {}
        self._non_finite: Diagnosis | None = None

    def read(self, row: Readings) -> Diagnosis | None:
        """Read the step, losses and instruments of a row, of a later step than all before.

        Returned is the verdict if it is a failure that was not the verdict of any step before, else None.
        """
        step = int(row["step"])
        if self._non_finite is not None:
            return None
        if names := [name for name, value in row.items() if not math.isfinite(value)]:
            self._non_finite = non_finite(step, names)
            return self._non_finite
        self._rows.append(row)
        while self._rows[0]["step"] <= step - self._window:
            self._rows.popleft()
        latest = {"step": step, "images_seen": row["images_seen"]}
        self._medians = {name: median(past[name] for past in self._rows) for name in row} | latest
        for failure in FAILURES:
            judged = step >= self._grace and not (failure.of_images and self._too_few())
            if not judged or not failure.holds(self._config, self._medians):
                self._since.pop(failure.name, None)
            else:
                self._since.setdefault(failure.name, step)
        diagnosis = self.verdict()
        if diagnosis.verdict in {HEALTHY, TOO_EARLY, *self._reported}:
            return None
        self._reported.add(diagnosis.verdict)
        return diagnosis

    def read_all(self, rows: Iterable[Readings], pictures: Readings | None = None) -> Diagnosis:
        """Read the rows of a history in the order of their steps and return the verdict at its end."""
        for row in rows:
            self.read(row)
        return self.verdict(pictures)

    def _too_few(self) -> bool:
        return self._medians["images_seen"] < self._config.min_images

    def verdict(self, pictures: Readings | None = None) -> Diagnosis:
        """Return what holds after the last row, of which there is at least one; a non-finite reading holds for good.

        `pictures` are `spacing` and `spectral_distance` of `gan_core.metrics.pictures`, if they were measured, and
        `leaked`, the largest of the leaked shares, of a training with augmentation, and `kid_to_trivial`, the KID of
        generated images in units of that of two real images laid over each other, if the extractor measures that one.
        """
        if self._non_finite is not None:
            return self._non_finite
        for failure in FAILURES:
            if failure.name in self._since:
                evidence = {name: self._medians[name] for name in failure.evidence}
                return _failed(failure, self._since[failure.name], failure.sentence.format(**evidence), evidence)
        step = int(self._medians["step"])
        evidence = {name: self._medians[name] for name in ("real_prob", "unseen_prob", "fake_prob", "variety")}
        sentence = (
            "D(x) is {real_prob:.2f} for training images, {unseen_prob:.2f} for other real images and {fake_prob:.2f} "
            "for generated ones, whose variety is {variety:.2g} times that of real ones"
        ).format(**evidence)
        if step < self._grace or self._too_few():
            images = f"{self._medians['images_seen']:,.0f} of at least {self._config.min_images:,} images"
            sentence = f"{TOO_EARLY} at step {step:,}, after {images}: {sentence}."
            return _diagnosis(TOO_EARLY, step, sentence, "train for more steps", evidence)
        pictures = pictures or {}
        for failure in OF_PICTURES if pictures else ():
            if failure.holds(self._config, pictures):
                evidence = {name: pictures[name] for name in failure.evidence}
                return _failed(failure, step, failure.sentence.format(**evidence), evidence)
        return Diagnosis(HEALTHY, step, f"healthy at step {step:,}: {sentence}.", "", evidence | pictures)


def non_finite(step: int, names: Sequence[str] = ("a loss",)) -> Diagnosis:
    """Return the verdict on a training in which something was infinite or not a number at a step."""
    return _failed(FAILURES[0], step, f"{', '.join(names)} was not finite", {})


def _failed(failure: Failure, step: int, sentence: str, evidence: Readings) -> Diagnosis:
    sentence = f"{failure.name}, seen since step {step:,}: {sentence}."
    return _diagnosis(failure.name, step, sentence, failure.remedy, evidence)


def _diagnosis(verdict: str, step: int, sentence: str, remedy: str, evidence: Readings) -> Diagnosis:
    return Diagnosis(verdict, step, f"{sentence} Try: {remedy}.", remedy, evidence)
