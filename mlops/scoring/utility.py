"""Whether generated images help a classifier: the measured accuracies as a file, rows of a table, and a sentence."""

from dataclasses import asdict, dataclass
from pathlib import Path

from gan_core.metrics.intervals import Interval, interval
from gan_core.metrics.utility.gain import WAYS, Answer, answer, gain
from mlops.project.result_files import UTILITY, load_json, save_json
from mlops.scoring.comparison import shown_interval

BASELINES = ("real", "shifted")
DECIDING = "shifted_generated", "shifted"
"""What a person would train on without a generator, the second, and the same with generated images."""
SUBJECT = {
    "helps": "The generator helps",
    "does not help": "The generator does not help",
    "cannot tell": "It cannot be told whether the generator helps",
}


@dataclass(frozen=True)
class Utility:
    """Accuracies on `test` real images, of each way one a seed, after so many `steps` of a classifier.

    The generator was trained on `train` real images, as were classifiers; `mirror` is whether shifted images were
    mirrored, too.
    """

    accuracies: dict[str, list[float]]
    mirror: bool
    train: int
    test: int
    steps: int

    @property
    def gained(self) -> Interval:
        """The gain that decides."""
        return gain(self.accuracies, *DECIDING)

    @property
    def answer(self) -> Answer:
        """Whether that is above noise."""
        return answer(self.gained)

    def name(self, way: str) -> str:
        """Return what a way is called."""
        moved = "shifted, mirrored" if self.mirror else "shifted"
        names = ("real", moved, "generated", "real + generated", f"{moved} + generated")
        return dict(zip(WAYS, names, strict=True))[way]

    def rows(self) -> list[list[str]]:
        """Return a row for each way: its name, accuracy in %, and gains over `BASELINES` in points, with intervals."""
        return [
            [
                self.name(way),
                shown_interval(_percent(_mean(self.accuracies[way]))),
                *("" if way == base else _points(gain(self.accuracies, way, base)) for base in BASELINES),
            ]
            for way in WAYS
        ]

    def sentence(self) -> str:
        """Return in words whether the generator helps."""
        return (
            f"{SUBJECT[self.answer]} a classifier of {self.train:,} real images ({self.name('shifted')}): if every "
            f"second image that it is trained on is a generated one, its accuracy on {self.test:,} real test images "
            f"changes by {_points(self.gained)} points, over {len(self.accuracies['real'])} seeds"
        )


def _mean(shares: list[float]) -> Interval:
    """Return the mean with its interval, cut where no share can be."""
    measured = interval(shares)
    return Interval(measured.mean, max(measured.low, 0.0), min(measured.high, 1.0))


def _percent(share: Interval) -> Interval:
    return Interval(100 * share.mean, 100 * share.low, 100 * share.high)


def _points(share: Interval) -> str:
    text = shown_interval(_percent(share))
    return text if text.startswith("-") else f"+{text}"


def write_utility(utility: Utility, folder: Path) -> None:
    """Write `utility.json` into a folder: what was measured, and what it says."""
    accuracies = {way: asdict(_mean(values)) for way, values in utility.accuracies.items()}
    derived = {"accuracy": accuracies, "gain": asdict(utility.gained), "answer": utility.answer}
    save_json(folder / UTILITY, {"measured": asdict(utility), **derived})


def read_utility(folder: Path) -> Utility | None:
    """Return what `write_utility` wrote into a folder; None if it was not measured."""
    path = folder / UTILITY
    return Utility(**load_json(path)["measured"]) if path.exists() else None


def utility_metrics(utility: Utility | None) -> dict[str, float]:
    """Return accuracies and the deciding gain under flat names, as shares; none if they were not measured."""
    if utility is None:
        return {}
    gained = utility.gained
    flat = {f"utility_{way}": _mean(values).mean for way, values in utility.accuracies.items()}
    return flat | {"utility_gain": gained.mean, "utility_gain_low": gained.low, "utility_gain_high": gained.high}
