"""The model card: what a version is, how good it is and how sure that is, and how to use it, as markdown."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from mlops.cards.scored_model import MORE_PICTURES, PICTURES
from mlops.cards.templates import render
from mlops.project.prepared_data import Summary
from mlops.project.result_files import COMPARISON
from mlops.scoring.comparison import direction, shown_interval
from mlops.scoring.evaluation import Evaluation
from mlops.scoring.utility import BASELINES, Utility

Part = Literal["version", "model", "run"]
"""Whose page has the card."""
LIMIT = 5000
"""Characters that MLflow's database has room for in a description."""


@dataclass(frozen=True)
class Facts:
    """All that a card shows: of a version, its data (`summary`), its training and the doctor.

    `training` is the content of `training.json` and, as `choice`, that of `choice.json`; `utility` is None if it was
    not measured; `standing` is markdown that says first what was decided, `scores` a sentence, `reason` markdown that
    says more; `compared` is whether its run has a page that compares it with the champion.
    """

    model: str
    version: str
    run_id: str
    experiment: str
    commit: str
    summary: Summary
    training: dict[str, Any]
    evaluation: Evaluation
    utility: Utility | None
    doctor: str
    standing: str
    scores: str
    reason: str
    compared: bool


def card(facts: Facts, address: Callable[[str], str], part: Part = "version", *, whole: bool = False) -> str:
    """Return the card of a version as markdown; its first line can stand alone in a list of versions.

    `address` returns the address of one of `PICTURES` or `MORE_PICTURES`. Data, training, passport and most pictures
    are on the version's own page alone; a run's page has no commands either, whose lines are wider than its column. A
    page has room for `PICTURES`; the card as a file is `whole`.
    """
    text = render(
        "model_card.md.jinja",
        facts=facts,
        evaluation=facts.evaluation,
        summary=facts.summary,
        parameters=facts.training["parameters"],
        score_rows=_scores(facts.evaluation),
        utility_rows=_utility(facts.utility),
        training_rows=_trained_on(facts),
        passport_rows=_passport(facts.evaluation),
        pictures=PICTURES if part == "version" else {COMPARISON: PICTURES[COMPARISON]},
        more_pictures=MORE_PICTURES if whole else {},
        part=part,
        address=address,
        page=lambda name: _page(facts, name),
        plain=plain,
        table=table,
    )
    return re.sub(r"\n{3,}", "\n\n", text.strip())


def _page(facts: Facts, name: str) -> str:
    """Return the address of an artifact's view on MLflow's page, from any other of its pages."""
    return f"#/experiments/{facts.experiment}/runs/{facts.run_id}/artifacts/{name}?workflowType=machine_learning"


def shortened(text: str, rest: str, limit: int = LIMIT) -> str:
    """Return markdown that fits `limit` characters: longer text ends with a paragraph and where the rest is."""
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


def _scores(evaluation: Evaluation) -> list[list[str]]:
    replicated = evaluation.trainings > 1
    rows = [["score", "better", "95 % over z", *(["95 % over seeds"] if replicated else []), "real test images"]]
    for metric, score in evaluation.scores.items():
        intervals = [score.over_banks, score.over_seeds] if replicated else [score.over_banks]
        shown = [shown_interval(interval) for interval in intervals]
        rows.append([plain(evaluation.public_name(metric)), direction(metric, score), *shown, f"{score.real:.4g}"])
    return rows


def _utility(utility: Utility | None) -> list[list[str]]:
    head = ["a classifier trained on", "accuracy, %", *(f"more than {base}, points" for base in BASELINES)]
    return [head, *utility.rows()] if utility else []


def table(rows: list[list[str]]) -> str:
    """Return a markdown table; MLflow's page sets no space between columns, so the cells bring their own."""
    lines = ["|" + "&emsp;|".join(row) + "|" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _trained_on(facts: Facts) -> list[list[str]]:
    summary, training = facts.summary, facts.training
    counts = f"{summary.train:,} for training, {summary.validation:,} for validation, {summary.test:,} for testing"
    classes = "no classes" if summary.classes is None else f"{len(summary.classes)} classes"
    data = f"{plain(summary.name)}: {counts} images, {classes}, md5 {plain(training['data_md5'])}"
    rows = [["", ""], ["data", data]]
    for section in ("network", "augmentation", "train"):
        if training["parameters"][section] == {"kind": "none"}:
            continue
        values = training["parameters"][section].items()
        rows.append(
            [
                section,
                written(
                    {name: value for name, value in values if not (name.endswith("_every") or value in (None, False))}
                ),
            ]
        )
    last = {"device": str(training["device"]), "key": training["key"]}
    last |= {"commit": facts.commit or "not under git", "run": facts.run_id}
    return rows + [[name, plain(value)] for name, value in last.items()]


def _passport(evaluation: Evaluation) -> list[list[str]]:
    rows = [["", ""], ["sha256", evaluation.passport_sha256]]
    return rows + [[plain(name), written(value)] for name, value in evaluation.passport.items()]


def written(value: Any) -> str:
    """Return nested values as words: {"a": 1, "b": {"c": 2}} gives a 1, b (c 2)."""
    if not isinstance(value, dict):
        return plain(str(value))
    if value.keys() == {"start", "end", "shape", "images"}:
        of = "" if value["images"] is None else f" over {value['images']:,} images"
        return plain(f"{value['start']} to {value['end']}, {value['shape']}{of}")
    parts = []
    for name, inner in value.items():
        text = written(inner)
        parts.append(f"{plain(name)} ({text})" if isinstance(inner, dict) else f"{plain(name)} {text}")
    return ", ".join(parts)
