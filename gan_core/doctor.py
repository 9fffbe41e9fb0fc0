"""What is wrong with a run, said from its instruments: one verdict, its evidence, and what to try."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from gan_core.config import DoctorConfig

HEALTHY = "healthy"
LOSSES_AND_GRADIENTS = ("d_loss", "g_loss", "d_grad_norm", "g_grad_norm")
Readings = dict[str, float]


@dataclass(frozen=True)
class Diagnosis:
    """A verdict. `step` is the first step from which on it was seen, `evidence` holds the readings that it rests on."""

    verdict: str
    step: int
    sentence: str
    evidence: Readings


@dataclass(frozen=True)
class Failure:
    """A way in which training fails: `seen` decides on readings, `sentence` is filled in with them."""

    name: str
    seen: Callable[[DoctorConfig, Readings], bool]
    evidence: tuple[str, ...]
    sentence: str
    remedy: str


FAILURES = (
    Failure(
        "divergence",
        lambda config, now: max(abs(now[name]) for name in LOSSES_AND_GRADIENTS) > config.max_magnitude,
        LOSSES_AND_GRADIENTS,
        "losses or gradients have left every sensible range: the discriminator's loss is {d_loss:.4g} nats and its "
        "gradient {d_grad_norm:.2g}, the generator's {g_loss:.4g} and {g_grad_norm:.2g}",
        "lower both learning rates, raise r1_gamma and r2_gamma, or take back the last change to them",
    ),
    Failure(
        "vanished generator gradient",
        lambda config, now: now["g_signal"] < config.min_signal or now["g_grad_norm"] == 0,
        ("g_signal", "g_grad_norm", "fake_prob"),
        "the generator's loss passes on {g_signal:.2g} of a gradient, which reaches its weights as {g_grad_norm:.2g}; "
        "the discriminator gives generated images {fake_prob:.2g}",
        "use the non_saturating or relativistic loss, fewer discriminator_steps or a lower "
        "discriminator_learning_rate; where the gradient is 0 the generator died: lower generator_learning_rate",
    ),
    Failure(
        "stalled",
        lambda config, now: now["g_update_ratio"] < config.min_update,
        ("g_update_ratio", "g_grad_norm"),
        "the generator stands still: a step moves its weights by {g_update_ratio:.2g} of their length, though its "
        "gradient is {g_grad_norm:.2g}",
        "raise generator_learning_rate",
    ),
    Failure(
        "mode collapse",
        lambda config, now: now["variety"] < config.min_variety,
        ("variety", "fake_prob"),
        "generated images differ from each other {variety:.2g} times as much as real ones",
        "use the relativistic loss with r1_gamma and r2_gamma, a lower generator_learning_rate, or larger batches",
    ),
    Failure(
        "discriminator overfitting",
        lambda config, now: (
            now["real_prob"] - now["fake_prob"] > config.min_gap and now["overfitting"] > config.max_overfitting
        ),
        ("overfitting", "real_prob", "unseen_prob", "fake_prob"),
        "real images that the discriminator never saw fall back by {overfitting:.2f} of the gap between its training "
        "images and generated ones; it gives them {unseen_prob:.2f}, its training images {real_prob:.2f} and generated "
        "ones {fake_prob:.2f}",
        "add training images, train for fewer steps, raise r1_gamma and r2_gamma or dropout, or narrow the "
        "discriminator",
    ),
)
"""In the order in which they explain each other: the first that is seen is the verdict."""

BREAKING = ("divergence", "mode collapse")
"""Failures that end a training where `DoctorConfig.stop` says so."""


class Doctor:
    """Takes a run's readings one after the other and always has a verdict.

    A failure is seen where it holds for the medians of all readings of the last `window` of the run's steps, after the
    first `grace` of them, so that neither one bad batch nor the first steps, when every game is uneven, raise an alarm.
    """

    def __init__(self, config: DoctorConfig, steps: int) -> None:
        self._config = config
        self._window, self._grace = config.window * steps, config.grace * steps
        self._rows = deque[Readings]()
        self._warned = set[str]()
        self._since = dict[str, int]()
        self._now: Readings = {}
        self._lost: Diagnosis | None = None

    def see(self, row: Readings) -> Diagnosis | None:
        """Take the readings of a step.

        Args:
            row: step, losses and instruments by name, of a later step than all before.

        Returns:
            The verdict where it is a failure that was not the verdict of any step before, else None.
        """
        step = int(row["step"])
        lost = [name for name, value in row.items() if not math.isfinite(value)]
        if self._lost is not None:
            return None
        if lost:
            self._lost = non_finite(step, lost)
            return self._lost
        self._rows.append(row)
        while self._rows[0]["step"] <= step - self._window:
            self._rows.popleft()
        self._now = {name: median(past[name] for past in self._rows) for name in row} | {"step": step}
        for failure in FAILURES:
            if step < self._grace or not failure.seen(self._config, self._now):
                self._since.pop(failure.name, None)
            else:
                self._since.setdefault(failure.name, step)
        now = self.verdict()
        if now.verdict == HEALTHY or now.verdict in self._warned:
            return None
        self._warned.add(now.verdict)
        return now

    def listen(self, rows: Iterable[Readings]) -> Diagnosis:
        """Take the rows of a history in the order of their steps and return the verdict at its end."""
        for row in rows:
            self.see(row)
        return self.verdict()

    def verdict(self) -> Diagnosis:
        """Return what holds now, after at least one row; a reading that was not finite is never forgotten."""
        if self._lost is not None:
            return self._lost
        for failure in FAILURES:
            if failure.name in self._since:
                evidence = {name: self._now[name] for name in failure.evidence}
                said = failure.sentence.format(**evidence)
                step = self._since[failure.name]
                sentence = f"{failure.name}, seen since step {step:,}: {said}. Try: {failure.remedy}."
                return Diagnosis(failure.name, step, sentence, evidence)
        step = int(self._now["step"])
        evidence = {name: self._now[name] for name in ("real_prob", "unseen_prob", "fake_prob", "variety")}
        said = (
            "the discriminator gives training images {real_prob:.2f}, real images that it never saw {unseen_prob:.2f} "
            "and generated ones {fake_prob:.2f}, which differ from each other {variety:.2g} times as much as real ones"
        ).format(**evidence)
        return Diagnosis(HEALTHY, step, f"healthy at step {step:,}: {said}.", evidence)


def non_finite(step: int, names: Sequence[str] = ("a loss",)) -> Diagnosis:
    """Return the verdict on a run in which something was infinite or not a number at a step."""
    sentence = f"divergence, seen since step {step:,}: {', '.join(names)} was not finite. Try: {FAILURES[0].remedy}."
    return Diagnosis(FAILURES[0].name, step, sentence, {})
