"""The model card: what a version is, how good it is and how sure that is, and how to use it, as markdown."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlops.project.prepared_data import Summary
from mlops.project.result_files import COMPARISON
from mlops.scoring.comparison import PICTURES, shown_interval
from mlops.scoring.evaluation import LOWER_IS_BETTER, Evaluation, Noise, suffix

LIMIT = 5000
"""Characters that MLflow's database has room for in a description."""
LOAD = """import mlflow
import pandas as pd

model = mlflow.pyfunc.load_model("models:/{name}/{version}")
png = model.predict(pd.DataFrame({{"seed": [0], "count": [1]}})).png[0]  # the bytes of a PNG file
"""
SHELL = """python -m commands.generate 100 generated/hundred --model models:/{name}/{version}
mlflow models serve -m models:/{name}@champion --env-manager local -p 5001
python -m commands.compare champion {version} --html comparison.html
"""


@dataclass(frozen=True)
class Facts:
    """All that a card says: of a version, its data (`summary`), its training (`training.json`) and the doctor.

    `verdict` is one sentence on the version against the champion; `reason` is markdown that says more of it.
    """

    model: str
    version: str
    run_id: str
    commit: str
    summary: Summary
    training: dict[str, Any]
    evidence: Evaluation
    doctor: str
    verdict: str
    reason: str


def card(facts: Facts, picture: Callable[[str], str]) -> str:
    """Return the card of a version, the most important first; its first line can stand alone in a list of versions.

    Args:
        facts: to be said.
        picture: returns the address of one of `PICTURES`.

    Returns:
        Markdown.
    """
    shown = [f"**{title}**\n\n![{title}]({picture(name)})" for name, title in PICTURES.items()]
    passport = ["## Passport", "Scores are compared only under the same passport:", _passport(facts.evidence)]
    return "\n\n".join([*_judgement(facts), *shown, *_use(facts), "## Trained on", _trained_on(facts), *passport])


def model_card(facts: Facts, picture: Callable[[str], str]) -> str:
    """Return the card of a registered model: of one version, short enough to leave its list of versions in sight.

    Args:
        facts: of the version.
        picture: returns the address of one of `PICTURES`.

    Returns:
        Markdown.
    """
    rest = f"The page of version {facts.version} has the whole card: data, training, passport and more pictures."
    return "\n\n".join([*_judgement(facts), f"![{PICTURES[COMPARISON]}]({picture(COMPARISON)})", *_use(facts), rest])


def _judgement(facts: Facts) -> list[str]:
    return [
        plain(facts.verdict),
        *_warning(facts.evidence.scores),
        *([facts.reason] if facts.reason else []),
        _what(facts),
        f"**The doctor:** {plain(facts.doctor)}",
        "## Scores",
        _scores(facts.evidence),
        _reading(facts.evidence),
    ]


def _use(facts: Facts) -> list[str]:
    return [
        "## Load, generate, serve, compare",
        "Set `MLFLOW_TRACKING_URI` to the address of the MLflow that shows this card.",
        f"```python\n{LOAD.format(name=facts.model, version=facts.version)}```",
        f"```\n{SHELL.format(name=facts.model, version=facts.version)}```",
    ]


def shortened(text: str, rest: str, limit: int = LIMIT) -> str:
    """Return a text that fits, cut where a paragraph ends, with a last line that says so.

    Args:
        text: markdown.
        rest: where all of it is.
        limit: characters.

    Returns:
        The text itself, if it fits.
    """
    if len(text) <= limit:
        return text
    end = f"\n\n*Cut at {limit:,} characters: {rest} has all of it.*"
    kept = text[: limit - len(end)]
    return kept[: kept.rfind("\n\n")] + end


def plain(text: str) -> str:
    """Return a text that markdown shows as it is, also in a cell of a table; what needs no escape is left readable."""
    shown = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    shown = re.sub(r"[\\`*|]|(?<!\w)_|_(?!\w)", lambda sign: f"\\{sign[0]}", shown)
    return shown.replace("](", "]\\(").replace("][", "]\\[")


def _warning(scores: dict[str, Any]) -> list[str]:
    if not scores["few_images"]:
        return []
    few = f"{scores['images']:,} images are fewer than twice the dimension of the features"
    return [f"**WARNING, FEW IMAGES:** {few}, so FID is biased upwards and noisy."]


def _what(facts: Facts) -> str:
    summary, parameters = facts.summary, facts.training["parameters"]
    network, train = parameters["network"]["family"], parameters["train"]
    shape = f"{summary.channels} x {summary.size} x {summary.size}"
    return (
        f"Version {facts.version} of {plain(facts.model)} generates images of {shape} (channels, pixels) like those of "
        f"{plain(summary.name)}: the averaged {plain(network)} generator after {train['steps']:,} steps with the "
        f"{plain(train['loss'])} loss."
    )


def _scores(evidence: Evaluation) -> str:
    ending, scores = suffix(evidence.passport), evidence.scores
    again = scores["trainings"] > 1
    rows = [["score", "better", "95 % over z", *(["95 % over seeds"] if again else []), "real test images"]]
    for metric, lower in LOWER_IS_BETTER.items():
        column = f"{metric}{ending}"
        if column in scores:
            noises: list[Noise] = ["sampling", "seeds"] if again else ["sampling"]
            shown = [shown_interval(scores, column, noise) for noise in noises]
            rows.append([plain(column), "lower" if lower else "higher", *shown, f"{scores[f'{column}_of_real']:.4g}"])
    return table(rows)


def table(rows: list[list[str]]) -> str:
    """Return a markdown table; MLflow's page sets no space between columns, so the cells bring their own."""
    lines = ["|" + "&emsp;|".join(row) + "|" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _reading(evidence: Evaluation) -> str:
    scores, fid = evidence.scores, f"fid{suffix(evidence.passport)}"
    seeds = "" if scores["trainings"] > 1 else " It was trained once: what another seed would change was not measured."
    return (
        f"Means with intervals over {scores['banks']} banks of z of {scores['images']:,} images, against the training "
        f"images. {plain(fid)} of uniform noise is {scores[f'{fid}_of_noise']:.4g}.{seeds}"
    )


def _trained_on(facts: Facts) -> str:
    summary, training = facts.summary, facts.training
    counts = f"{summary.train:,} for training, {summary.validation:,} for validation, {summary.test:,} for testing"
    classes = "no classes" if summary.classes is None else f"{len(summary.classes)} classes"
    rows = [["", ""]]
    rows.append(["data", f"{plain(summary.name)}: {counts} images, {classes}, md5 {plain(training['data_md5'])}"])
    for section in ("network", "train"):
        values = training["parameters"][section].items()
        rows.append([section, written({name: value for name, value in values if not name.endswith("_every")})])
    rows.append(["device", plain(str(training["device"]))])
    rows.append(["key", plain(training["key"])])
    rows.append(["commit", plain(facts.commit or "not under git")])
    rows.append(["run", plain(facts.run_id)])
    return table(rows)


def _passport(evidence: Evaluation) -> str:
    rows = [["", ""], ["sha256", evidence.scores["passport"]]]
    return table(rows + [[plain(name), written(value)] for name, value in evidence.passport.items()])


def written(value: Any) -> str:
    """Return nested values as words: {"a": 1, "b": {"c": 2}} gives a 1, b (c 2)."""
    if not isinstance(value, dict):
        return plain(str(value))
    parts = []
    for name, inner in value.items():
        text = written(inner)
        parts.append(f"{plain(name)} ({text})" if isinstance(inner, dict) else f"{plain(name)} {text}")
    return ", ".join(parts)
