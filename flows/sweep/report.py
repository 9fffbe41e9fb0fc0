"""What a sweep has found: a table of its trials, the best first, and two pictures."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as pictures
from prefect.utilities.urls import url_for

from flows.results import embedded, mlflow_address
from flows.sweep.trials import FLOW_RUN, RUN, SCORES, WHY, Sweep, score_name

PARALLEL, IMPORTANCES = "parallel_coordinates.png", "importances.png"
FEWEST = 3
"""Scored trials from which there is something to draw."""
WORDS = {TrialState.COMPLETE: "scored", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that have ended, the best first, then the pruned and the failed ones."""
    order = [*WORDS]
    ended = study.get_trials(deepcopy=False, states=order)
    return sorted(ended, key=lambda trial: (order.index(trial.state), _value(trial), trial.number))


def _value(trial: FrozenTrial) -> float:
    return trial.value if trial.state == TrialState.COMPLETE and trial.value is not None else 0.0


def draw(study: optuna.Study, folder: Path, score: str) -> list[Path]:
    """Draw parallel coordinates and importances into a folder; return the files, none if too little was scored."""
    scored = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    searched = [key for key in scored[0].params if len({trial.params[key] for trial in scored}) > 1] if scored else []
    if len(scored) < FEWEST or len({trial.value for trial in scored}) == 1 or not searched:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        axes = {
            PARALLEL: pictures.plot_parallel_coordinate(study, searched, target_name=score),
            IMPORTANCES: pictures.plot_param_importances(study, params=searched, target_name=score),
        }
    whole = [score, *(key.partition(".")[2] for key in sorted(searched))]  # Optuna cuts them
    axes[PARALLEL].set_xticks(range(len(whole)), whole, rotation=-20, ha="left")
    for name, axis in axes.items():
        figure = axis.get_figure(root=True)
        assert figure is not None
        figure.set_size_inches(2 + 1.8 * len(searched) if name == PARALLEL else 7, 4.5)
        figure.savefig(folder / name, dpi=100, bbox_inches="tight")
    return [folder / name for name in axes]


def table(sweep: Sweep, decisions: Mapping[int, str]) -> str:
    """Return all trials as a table of markdown."""
    keys = list(sweep.drawn)
    heads = [key.partition(".")[2] for key in keys]
    names = ["trial", sweep.asked["score"], "95 %", *heads, "decision", "links"]
    rows = [_row(sweep, trial, decisions.get(trial.number, "")) for trial in ranked(sweep.study)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [names, ["---"] * len(names), *rows])


def _row(sweep: Sweep, trial: FrozenTrial, decision: str) -> list[str]:
    params = sweep.parameters(trial)["overrides"] if trial.params.keys() == sweep.drawn.keys() else {}
    score = interval_of(trial.user_attrs.get(SCORES, {}), sweep.asked["score"])
    links = [f"[flow run]({url_for('flow-run', obj_id=trial.user_attrs[FLOW_RUN])})"] * (FLOW_RUN in trial.user_attrs)
    links += [f"[MLflow]({mlflow_address(trial.user_attrs[RUN])})"] * (RUN in trial.user_attrs)
    ended = WORDS[trial.state] if trial.state != TrialState.COMPLETE else ""
    why = _cell(f"{ended}: {trial.user_attrs[WHY]}"[:200] if WHY in trial.user_attrs else ended)
    values = [_cell(params.get(key, "")) for key in sweep.drawn]
    return [str(trial.number), *(score or (why, "")), *values, decision, ", ".join(links)]


def _cell(value: Any) -> str:
    return str(value).replace("|", r"\|").replace("\n", " ")


def interval_of(scores: Mapping[str, Mapping[str, float]], kind: str, prefix: str = "") -> tuple[str, str] | None:
    """Return a score and its interval as words, over banks of z or, with the prefix `seeds_`, over trainings."""
    name = score_name(scores, kind)
    if name is None or f"{prefix}mean" not in scores[name]:
        return None
    mean, low, high = (scores[name][f"{prefix}{end}"] for end in ("mean", "low", "high"))
    return f"{mean:.4g}", f"[{low:.4g}, {high:.4g}]"


def page(sweep: Sweep, decisions: Mapping[int, str], drawn: list[Path]) -> str:
    """Return the page of a sweep as markdown: its pictures, and all trials."""
    shown = [embedded(path, path.stem.replace("_", " ")) for path in drawn]
    return "\n\n".join([f"# {sweep.name}", *shown, table(sweep, decisions)])
