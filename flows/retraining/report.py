"""What a retraining came to, as one page in Prefect's UI."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact

LEDGER = Path("ledger.jsonl")


def report(story: dict[str, str], place: dict[str, Any]) -> None:
    """Leave in Prefect's UI why it was trained, the drift, what was decided, and the scores of both models."""
    version = f"{place['model']} version {place['version']}"
    parts = [f"# {place['decision']}: {version}", f"**Why it was trained:** {story['why']}."]
    if "changes" in story:
        parts += [f"**Images:** {story['changes']}.", f"**Drift:** {story['drift']}."]
    parts += [f"**The champion:** {story['champion']}.", f"**The gate:** {place['reason']}", *_scores(place["model"])]
    create_markdown_artifact(
        key="gan-retraining",
        markdown="\n\n".join(parts),
        description=f"{place['decision']}: {version}; {story.get('changes', story['why'])}",
    )


def _scores(model: str) -> Iterator[str]:
    """Yield a table of the scores of challenger and champion, as the ledger has them of the last decision."""
    entries = [entry for line in LEDGER.read_text().splitlines() if (entry := json.loads(line))["model"] == model]
    scored = [entry for entry in entries if entry["evidence"]]
    decided = [entry for entry in scored if entry["action"] in ("promoted", "refused")]
    if not decided:
        return
    challenger, champion = decided[-1]["candidate"], decided[-1]["champion_before"]
    sides = [_last(scored, challenger["weights"], challenger["passport"])]
    sides.append(_last(scored, champion["weights"], challenger["passport"]) if champion else {})
    rows = [
        f"| {name} | {_interval(score)} | {_interval(sides[1].get(name))} | {score['real']:.4g} |"
        for name, score in sides[0].items()
        if isinstance(score, dict) and "low" in score
    ]
    yield "\n".join(["| score, 95 % | challenger | champion | real |", "|---|---|---|---|", *rows])


def _last(scored: list[dict[str, Any]], weights: str, passport: str) -> dict[str, Any]:
    """Return the newest scores of a model under a passport; empty if there are none."""
    mine = [
        entry for entry in scored if entry["candidate"].items() >= {"weights": weights, "passport": passport}.items()
    ]
    return mine[-1]["evidence"]["scores"] if mine else {}


def _interval(score: dict[str, float] | None) -> str:
    return "" if score is None else f"{score['mean']:.4g} [{score['low']:.4g}, {score['high']:.4g}]"
