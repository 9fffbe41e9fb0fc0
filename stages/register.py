"""The stage `register`: fill in what MLflow lacks, register the generator, and let the gate decide on it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from gan_core.config import ExtractorConfig
from mlops.cards.publish import describe
from mlops.project.identity import file_digest, git_commit
from mlops.project.params import DataConfig, EvaluateConfig, PrepareConfig, RegisterConfig
from mlops.project.prepared_data import load_summary
from mlops.project.result_files import (
    BANKS,
    COMPARISON,
    DIAGNOSIS,
    HISTORY,
    INSTRUMENTS,
    INTERPOLATION,
    NEIGHBOURS,
    PASSPORT,
    SAMPLES,
    SCORES,
    SPEED,
    TRAINING,
    grids,
    load_history,
    load_json,
    save_json,
)
from mlops.promotion.decision import judge
from mlops.promotion.gate import bounds
from mlops.promotion.history import ModelId, replay
from mlops.promotion.ledger import LEDGER, locked_ledger
from mlops.provenance.record import write_lineage
from mlops.scoring.comparison import shown_interval
from mlops.scoring.evaluation import Evaluation, read_evaluation
from mlops.tracking import versions as registry
from mlops.tracking.aliases import sync_aliases
from mlops.tracking.descriptions import tag_version
from mlops.tracking.run_writer import RunWriter, open_run
from mlops.tracking.runs import KEY_TAG

EVALUATION_FILES = (SCORES, BANKS, PASSPORT, COMPARISON, NEIGHBOURS, INTERPOLATION)
"""Of `evaluate`, in the run: what every comparison reads, and what a person looks at."""


def register(
    prepared: Path,
    generator: Path,
    training: Path,
    diagnosis: Path,
    evaluation: Path,
    registration: Path,
    *,
    data: DataConfig,
    prepare: PrepareConfig,
    extractor: ExtractorConfig,
    evaluate: EvaluateConfig,
    register: RegisterConfig,
) -> None:
    """Make MLflow say what DVC's outputs and the ledger say; doing it twice changes nothing.

    The training's run gets what it lacks (all of it, where MLflow was lost or DVC restored the outputs), and the
    generator becomes a version of the registered model unless it is one. The gate decides whether it becomes
    `champion`: the decision goes to the ledger first, and from there to MLflow.

    Args:
        prepared: what `prepare` wrote.
        generator: what `train` wrote.
        training: the folder that `train` wrote.
        diagnosis: the folder that `diagnose` wrote.
        evaluation: the folder that `evaluate` wrote.
        registration: JSON: where in MLflow it all is, and what was decided.
        data: logged.
        prepare: logged.
        extractor: logged.
        evaluate: logged.
        register: name of the model, bounds for `champion`, and the test against the one that is.

    Raises:
        UserError: the ledger is damaged, or MLflow has seen a decision that it lacks.
    """
    facts, evidence = load_json(training / TRAINING), read_evaluation("the candidate", evaluation)
    writer = open_run(facts, prepared, evidence.scores["passport"])
    sections: dict[str, Any] = {
        "data": data,
        "prepare": prepare,
        "extractor": extractor,
        "evaluate": evaluate,
    }
    writer.write_params({name: asdict(section) for name, section in sections.items()})
    _fill(writer, training, evaluation, evidence.scores)
    doctor = load_json(diagnosis / DIAGNOSIS)
    writer.write_diagnosis(doctor, diagnosis / INSTRUMENTS)
    who = ModelId(file_digest(generator), evidence.scores["passport"], facts["key"])
    said = {"data.dvc_md5": facts["data_md5"]} | write_lineage(writer, prepared) | _score_tags(evidence.scores)
    version = _version(writer, generator, register.model_name, who, said)
    _repair(writer, register.model_name)
    before = registry.champion(writer.client, register.model_name)
    decided = _judge(writer, who, evidence, register)
    describe(
        writer,
        version,
        before,
        summary=load_summary(prepared),
        training=facts,
        evaluation=evaluation,
        doctor=doctor,
        register=register,
    )
    place = {"run_id": writer.id, "experiment_id": writer.run.info.experiment_id}
    within = all(bound.holds for bound in bounds(evidence, register))
    model = {"model": register.model_name, "version": version, "within_bounds": within}
    save_json(registration, place | model | decided)
    _print_end(evidence.scores, model | decided, _reigning(writer, register.model_name), doctor["verdict"], evaluation)


def _repair(writer: RunWriter, name: str) -> None:
    """Complete what a crash cut off between ledger and MLflow, and take back what nobody decided."""
    with locked_ledger() as ledger:
        for moved in sync_aliases(writer.client, name, ledger):
            print(moved)


def _judge(writer: RunWriter, who: ModelId, evidence: Evaluation, config: RegisterConfig) -> dict[str, str]:
    """Return what the gate says of the generator, once ledger and then MLflow have it."""
    with locked_ledger() as ledger:
        decision, reason = judge(ledger, who, evidence, config, git_commit())
        sync_aliases(writer.client, config.model_name, ledger)
    return {"decision": decision, "reason": reason}


def _reigning(writer: RunWriter, name: str) -> str:
    """Return what to say of the champion."""
    with locked_ledger() as ledger:
        champion = replay(ledger.entries, name).champion
    number = registry.number_of(champion, registry.versions(writer.client, name))
    if champion is None or number is not None:
        return "none yet" if number is None else f"version {number}"
    return (
        f"that of {LEDGER} (weights {champion.weights[:12]}, training {champion.training}) is no version of {name} in "
        "this MLflow; set MLFLOW_TRACKING_URI to the server that has it, or restore its params.yaml and dvc.lock from "
        "git and run dvc pull and dvc repro register"
    )


def _fill(writer: RunWriter, training: Path, evaluation: Path, scores: dict[str, Any]) -> None:
    """Write rows, grids, scores and papers that the run lacks; a run that lost its training is ended as finished."""
    writer.write_rows(load_history(training / HISTORY))
    for step, path in grids(training / SAMPLES).items():
        with Image.open(path) as picture:
            writer.write_grid(picture, step)
    speed = load_json(training / SPEED)
    writer.write_scores(_metrics(scores) | speed, step=speed["steps"])
    writer.write_evaluation(evaluation, scores["passport"], EVALUATION_FILES)
    writer.finish()


def _metrics(scores: dict[str, Any]) -> dict[str, float]:
    """Return what MLflow draws charts of: the generator's scores, without counts and those of real images and noise."""
    others = ("_of_real", "_of_noise", "images", "banks", "trainings", "passport")
    return {name: value for name, value in scores.items() if not name.endswith(others)}


def _version(writer: RunWriter, generator: Path, name: str, who: ModelId, said: dict[str, str]) -> str:
    """Return the version of the registered model that holds this generator; made now, if there is none."""
    found = registry.registered_version(writer.client, name, writer.id, who.weights)
    if found is None:
        tags = {registry.WEIGHTS_TAG: who.weights, KEY_TAG: who.training}
        found = registry.add_version(name, writer.id, generator, tags)
    tag_version(writer.client, name, str(found.version), said)
    return str(found.version)


def _score_tags(scores: dict[str, Any]) -> dict[str, str]:
    """Return what MLflow's list of versions shows beside each: every score with its interval, and their passport."""
    columns = [name.removesuffix("_of_real") for name in scores if name.endswith("_of_real")]
    return {column: shown_interval(scores, column) for column in columns} | {"passport": scores["passport"]}


def _print_end(scores: dict[str, Any], model: dict[str, Any], reigning: str, doctor: str, evaluation: Path) -> None:
    table = Table(title="done", title_justify="left", show_header=False)
    for column in (name.removesuffix("_of_real") for name in scores if name.endswith("_of_real")):
        table.add_row(column, f"{shown_interval(scores, column)}, real test images {scores[f'{column}_of_real']:.3g}")
    for name in sorted(name for name in scores if name.startswith("parzen")):
        table.add_row(name, f"{scores[name]:.3f}")
    verdict = "within" if model["within_bounds"] else "outside"
    table.add_row("doctor", doctor)
    table.add_row("registered", f"{model['model']} version {model['version']}, {verdict} the bounds of params.yaml")
    table.add_row("decision", f"{model['decision']}: {model['reason']}")
    table.add_row("champion", reigning)
    table.add_row("look at", str(evaluation / COMPARISON))
    table.add_row("then", "make ui    (MLflow and Prefect in the browser)")
    Console(width=110).print(table)
