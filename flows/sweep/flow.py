"""The flow `gan-sweep`: trials that Optuna proposes, each a flow run of `gan-training`, and what they have found."""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from optuna.trial import FrozenTrial, TrialState
from prefect import State, flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.states import Failed
from pydantic import Field

from flows.experiment.form import PARAMS, Preset
from flows.experiment.workspace import output, uncommitted
from flows.failure import StageFailedError
from flows.sweep import runs
from flows.sweep.record import Record
from flows.sweep.report import draw, interval_of, page, ranked
from flows.sweep.space import Space, distributions
from flows.sweep.study import ID, open_study
from flows.sweep.trials import Sweep, score_name, stays_crashed
from flows.training import ROOT, check_starts

POLL = 5.0
"""Seconds between two questions to Prefect and MLflow."""
MOST_LOST = 30
"""Looks in a row without an answer, after which the sweep fails."""
UNSEEN, REPLICAS = 1_000_000, 4
"""Seeds of the training that goes to the gate follow this number; how many others than its own."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,60}$")]
Trials = Annotated[int, Field(ge=1, le=10_000)]
AtOnce = Annotated[int, Field(ge=1, le=100)]
Seed = Annotated[int, Field(ge=0)]


def _cancel_trials(flow: Any, flow_run: Any, state: State[Any]) -> None:
    """Cancel the trials of a cancelled sweep; those of one that was killed go on."""
    runs.cancel_all(flow_run.parameters["name"])


@flow(name="gan-sweep", flow_run_name="{name}", on_cancellation=[_cancel_trials])
def gan_sweep(
    name: Name,
    space: Space,
    trials: Trials = 12,
    at_once: AtOnce = 2,
    preset: Preset = PARAMS,
    data: str = "",
    commit: str = "",
    score: Literal["fid", "kid"] = "fid",
    prune: bool = True,
    to_gate: bool = False,
    seed: Seed = 0,
    deployment: str = "gan-training/local",
) -> State[None] | None:
    """Search parameters: Optuna proposes, each trial is a run of `gan-training` that is scored and not registered.

    A sweep that was stopped goes on if it is started again under its name; finished trials never run twice.

    Args:
        name: of the sweep; one of this name goes on.
        space: by key of params.yaml a range, {"low": 0.1, "high": 10, "log": true}, or a list of choices, one for a
            fixed value; `train.generator_learning_rate.start` is a part of a schedule.
        trials: in all, pruned and failed ones included.
        at_once: trials that run or wait for a worker.
        preset: what the other values start from, params.yaml of the commit or a file of presets/.
        data: digits, mnist, fashion_mnist or cifar10, or the path of a folder, zip or tar; empty, the preset's.
        commit: of code and params.yaml; empty, the last one when the sweep began.
        score: that is minimised, of the generator's final scores against test images.
        prune: end a trial whose KID on validation images is worse than the median of earlier ones at the same share of
            its steps.
        to_gate: train the best once more, under seeds that no trial had, and let the gate decide on it.
        seed: of what is proposed.
        deployment: FLOW/NAME of the trials.

    Returns:
        None, or why it failed.
    """
    asked = {"preset": preset, "data": data, "commit": commit, "score": score, "deployment": deployment}
    try:
        check_starts()
        os.chdir(ROOT)
        drawn = distributions(space)
        sweep = _opened(name, space, drawn, asked, trials, at_once, seed, prune)
        with sweep.record:
            _run(sweep, to_gate=to_gate)
    except StageFailedError as error:  # the state says all; an exception would add a traceback of the flow's own code
        return Failed(message=str(error))
    return None


def _run(sweep: Sweep, *, to_gate: bool) -> None:
    """Make trials until there are as many as asked for, and conclude; a server may be away for a while."""
    lost, more = 0, True
    try:
        while more:
            try:
                more, lost = sweep.step(), 0
            except StageFailedError:
                raise
            except Exception as error:  # of a client, the network, a server: what the sweep knows is in its study
                lost += 1
                if lost > MOST_LOST:
                    raise
                get_run_logger().warning(f"trying again in {POLL:.0f} seconds: {type(error).__name__}: {error}")
            time.sleep(POLL if more else 0)
        _conclude(sweep, to_gate=to_gate)
    except StageFailedError:
        sweep.record.ask(files=[], metrics={}, status="FAILED")
        raise


def _opened(
    name: str, space: Space, drawn: Any, asked: dict[str, Any], trials: int, at_once: int, seed: int, prune: bool
) -> Sweep:
    """Return the sweep of a name, which goes on with the commit that it began with."""
    known = {key: value if isinstance(value, list) else value.model_dump() for key, value in space.items()}
    study = open_study(ROOT, name, asked | {"space": known})
    if not (asked | study.user_attrs["asked"])["commit"]:
        if changed := uncommitted(ROOT):
            get_run_logger().warning(f"not in the trials, which start from a commit: changes of {', '.join(changed)}")
        head = output(["git", "rev-parse", "HEAD"], ROOT).strip()
        study.set_user_attr("asked", study.user_attrs["asked"] | {"commit": head})
    asked = study.user_attrs["asked"]
    params = {key: str(value) for key, value in asked.items()}
    record = Record(name, study.user_attrs[ID], params)
    return Sweep(name, study, space, drawn, asked, trials, at_once, seed, prune, record)


def _conclude(sweep: Sweep, *, to_gate: bool) -> None:
    """Leave the results in Prefect's UI and MLflow; with `to_gate`, after the best went there."""
    best = ranked(sweep.study)[0]
    if best.state != TrialState.COMPLETE:
        raise StageFailedError("no trial has a score: all were pruned or failed; read the messages of their flow runs")
    scores = best.user_attrs["scores"]
    name, interval = score_name(scores, sweep.asked["score"]), interval_of(scores, sweep.asked["score"])
    assert interval is not None
    sentences, decisions = [f"Trial {best.number} is the best: {name} {interval[0]} {interval[1]}."], {}
    if to_gate:
        decision, words = _gate(sweep, best)
        sentences.append(words)
        decisions[best.number] = decision
    with TemporaryDirectory() as folder:
        drawn = draw(sweep.study, Path(folder), name or "")
        create_markdown_artifact(
            key="gan-sweep", markdown=page(sweep, decisions, drawn), description=" ".join(sentences)
        )
        metrics = {f"best_{name}": best.value, "best_trial": best.number, "trials": len(ranked(sweep.study))}
        sweep.record.ask(files=[str(path) for path in drawn], metrics=metrics, status="FINISHED")


def _gate(sweep: Sweep, best: FrozenTrial) -> tuple[str, str]:
    """Train the best under unseen seeds, register it, and return the gate's decision, and a sentence about both."""
    parameters = sweep.parameters(best)
    values = parameters["overrides"]
    values |= {"train.seed": UNSEEN + values.get("train.seed", 0), "replicate.seeds": REPLICAS}
    key = f"{sweep.study.user_attrs[ID]}-gate-{best.number}"
    run = runs.start(sweep.asked["deployment"], parameters | {"to_registry": True}, key, sweep.name)
    get_run_logger().info(f"trial {best.number} is trained under seeds from {values['train.seed']} on, flow run {run}")
    while not (state := runs.states([run])[run]).is_final() or (state.is_crashed() and not stays_crashed(state)):
        time.sleep(POLL)
    if not state.is_completed():
        raise StageFailedError(f"the best trial could not be trained again: {state.message}")
    scores, kind = runs.scores(run), sweep.asked["score"]
    own, seeds = interval_of(scores, kind), interval_of(scores, kind, "seeds_")
    number = f"{own[0]} {own[1]}" if own else "no score"
    over = f", over {REPLICAS + 1} of them {seeds[0]} {seeds[1]}" if seeds else ""
    decision = runs.decision(run)
    return (
        decision,
        f"Under seeds that no trial had, from {values['train.seed']} on, it has {number}{over}: {decision}.",
    )
