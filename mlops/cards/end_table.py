"""The table with which `register` ends: what was decided and why, every score, and what to type next."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlops.project.result_files import COMPARISON
from mlops.scoring.comparison import direction, shown_interval
from mlops.scoring.evaluation import Evaluation
from mlops.tracking.store import is_own, tracking_uri

WIDTH = 80 - 7
"""Of its two columns in a terminal of 80, without its lines."""
LONGER = "train for more steps, or add training images"
"""What may help a training in which the doctor has no failure to name."""
BEST = "set choose.checkpoint to best, or add training images"
"""What may help one that has become worse."""
SHORT = 1000
"""From here on a score is written without an exponent."""


def print_end(
    candidate: Evaluation,
    place: dict[str, Any],
    champion: str,
    number: str | None,
    doctor: dict[str, Any],
    choice: dict[str, Any],
    evaluation: Path,
) -> None:
    """Print one table, which fits 80 columns: what was decided and why, every score, and what to do and type next.

    Args:
        candidate: what was scored.
        place: what `register` writes.
        champion: which version it is, in words.
        number: of the champion's version; None if there is none.
        doctor: the content of `diagnosis.json`.
        choice: the content of `choice.json`.
        evaluation: the folder that `evaluate` wrote.
    """
    within = "within" if place["within_bounds"] else "outside"
    first, *others = _score_rows(candidate)
    others += [(f"parzen_{name}", f"{value:.3f}") for name, value in (candidate.parzen or {}).items()]
    decided = [("decision", f"{place['decision']}: {place['reason']}"), first, *_warnings(candidate, choice["trend"])]
    decided += [("champion", champion), ("bounds", f"{within} those of params.yaml")]
    decided += [("training", doctor["verdict"]), ("snapshot", choice["sentence"])]
    remedy = doctor["remedy"] or LONGER
    if choice["trend"] == "worse" and "more steps" in remedy:
        remedy = BEST
    if not place["within_bounds"]:
        decided.append(("try", f"{remedy}; or, if the pictures suffice, promote it by hand"))
    elif doctor["remedy"]:
        decided.append(("try", remedy))
    commands = _next(place, number)
    if choice["trend"] == "better":
        commands.append(f"dvc exp run -S train.steps={2 * choice['last']}    (it still improves)")
    then = [("look at", str(evaluation / COMPARISON)), *zip(["then", *[""] * len(commands)], commands, strict=False)]
    loading = _loading(place, number)
    then[1:1] = zip(["in Python", *[""] * len(loading)], loading, strict=False)
    extractor = candidate.passport["extractor"]["name"]
    title = f"done: {place['model']} version {place['version']}, scores by extractor {extractor}"
    table = Table(title=Text(title), title_justify="left", show_header=False)
    for rows in (decided, others, then):
        for row in rows:
            table.add_row(*map(Text, row))
        table.add_section()
    Console(highlight=False).print(table)


def _warnings(candidate: Evaluation, trend: str) -> list[tuple[str, str]]:
    """Return what a person should know who reads that all bounds hold."""
    fid, warnings = candidate.scores["fid"], []
    if fid.trivial is not None and fid.over_banks.mean > fid.trivial:
        times = f"{fid.over_banks.mean / fid.trivial:.1f} times the FID of two images laid over each other (trivial)"
        longer = ", and raise train.steps" if trend in ("better", "unknown") else ""
        warnings.append(("pictures", f"poor: {times}; look at them before you use them{longer}"))
    if candidate.few_images:
        few = f"{candidate.images:,} scored images are fewer than twice the dimension of features"
        warnings.append(("few images", f"{few}: FID is too high and noisy, that of real images as well"))
    return warnings


def _score_rows(candidate: Evaluation) -> list[tuple[str, str]]:
    """Return names and scores, which say what is better; the first is FID."""
    texts = {}
    for metric, score in candidate.scores.items():
        better = direction(metric, score)
        words = "no better than" if better == "neither" else f"{better} is better;"
        worst = "" if score.trivial is None else f", trivial {_shown(score.trivial)}"
        texts[metric] = f"{shown_interval(score.over_banks)}, {words} real {_shown(score.real)}{worst}"
    names = candidate.row_names(WIDTH - max(map(len, texts.values())))
    return [(names[metric], text) for metric, text in texts.items()]


def _shown(value: float) -> str:
    return f"{value:.3g}" if abs(value) < SHORT else f"{value:.0f}"


def _loading(place: dict[str, Any], champion: str | None) -> list[str]:
    """Return what loads the champion in Python, or this version if there is none."""
    uri = f"models:/{place['model']}" + (f"/{place['version']}" if champion is None else "@champion")
    store = [] if not is_own(tracking_uri()) else ['mlflow.set_tracking_uri("sqlite:///.mlflow/mlflow.db")']
    return ["import mlflow", *store, f'mlflow.pyfunc.load_model("{uri}")']


def _next(place: dict[str, Any], champion: str | None) -> list[str]:
    """Return what a person may type next; commands take the champion's images unless there is none."""
    version = place["version"]
    images = f"9 generated/{version} --model {version}" if champion is None else f"100 generated/{champion}"
    commands = ["make ui    (runs, pictures and decisions)", "source .venv/bin/activate"]
    commands.append(f"python -m commands.generate {images}")
    if champion not in (None, version):
        commands.append(f"python -m commands.compare champion {version}")
    if not place["within_bounds"]:
        commands.append(f'python -m commands.promote promote {version} --reason "..."')
    return commands
