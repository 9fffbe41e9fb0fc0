"""The stage `register`: fill in what MLflow lacks, register the generator, and let the gate decide on it."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from PIL import Image

from gan_core.config import ExtractorConfig
from mlops.cards.end_table import print_end
from mlops.cards.publish import describe
from mlops.cards.samples_page import growth, samples_page
from mlops.project.identity import file_digest, git_commit
from mlops.project.params import DataConfig, EvaluateConfig, PrepareConfig, RegisterConfig
from mlops.project.prepared_data import load_summary
from mlops.project.result_files import (
    BANKS,
    CHOICE,
    CLASSES,
    COMPARISON,
    DIAGNOSIS,
    GROWTH,
    HISTORY,
    INSTRUMENTS,
    INTERPOLATION,
    NEIGHBOURS,
    PASSPORT,
    SAMPLES,
    SCORES,
    SPEED,
    TRAINING,
    TRUNCATION,
    UTILITY,
    WALK,
    grids,
    load_curve,
    load_history,
    load_json,
    save_json,
)
from mlops.promotion.decision import Judgement, judge
from mlops.promotion.gate import bounds
from mlops.promotion.history import ModelId, Standing, replay, standing
from mlops.promotion.ledger import LEDGER, locked_ledger
from mlops.promotion.naming import data_name, model_name
from mlops.provenance.record import write_lineage
from mlops.runs.kept_work import delete_recorded
from mlops.safety.new_outputs import Output
from mlops.scoring.comparison import shown_interval
from mlops.scoring.evaluation import Evaluation
from mlops.scoring.evaluation_files import mlflow_metrics, read_evaluation
from mlops.scoring.utility import read_utility, utility_metrics
from mlops.tracking import versions as registry
from mlops.tracking.aliases import sync_aliases
from mlops.tracking.descriptions import tag_version
from mlops.tracking.run_writer import RunWriter, open_run
from mlops.tracking.runs import KEY_TAG
from mlops.tracking.store import store_errors

SECTIONS = ("data", "prepare", "extractor", "evaluate")
"""Of `params.yaml`, that a run shows beside those of its training."""
EVALUATION_FILES = (SCORES, BANKS, PASSPORT, COMPARISON, NEIGHBOURS, INTERPOLATION)
"""Of `evaluate`, in the run: what every comparison reads, and what a person looks at."""
STEP_TAG = "generator.step"
"""Tag of a version: the step of its generator, and the last one of its training."""


@store_errors()
def register(
    prepared: Path,
    generator: Path,
    training: Path,
    choice: Path,
    diagnosis: Path,
    evaluation: Path,
    registration: Output,
    *,
    data: DataConfig,
    prepare: PrepareConfig,
    extractor: ExtractorConfig,
    evaluate: EvaluateConfig,
    register: RegisterConfig,
) -> None:
    """Bring MLflow in line with DVC's outputs and the ledger; doing it twice changes nothing.

    The training's run gets what it lacks (all of it, if MLflow was lost or DVC restored the outputs), and the
    generator becomes a version of the registered model unless it is one. The gate compares it with the champion and
    decides whether it takes its place: the decision goes to the ledger first, and from there to MLflow. `registration`
    is JSON: where in MLflow it all is, and what was decided. The sections `SECTIONS` are logged. If the ledger is
    damaged, or MLflow has a decision that it lacks, that is a UserError.
    """
    register = replace(register, model_name=model_name(register, data))
    facts, candidate = load_json(training / TRAINING), read_evaluation("the candidate", evaluation)
    doctor, chosen = load_json(diagnosis / DIAGNOSIS), load_json(choice / CHOICE)
    writer = open_run(facts, prepared, candidate.passport_sha256, data=data_name(data))
    writer.write_params(_by_section(data, prepare, extractor, evaluate))
    _fill(writer, training, candidate, evaluation)
    writer.write_curve(f"validation_{chosen['metric']}", load_curve(choice, chosen["metric"]))
    writer.write_diagnosis(doctor, diagnosis / INSTRUMENTS)
    model_id = ModelId(file_digest(generator), candidate.passport_sha256, facts["key"])
    tags = {"data.dvc_md5": facts["data_md5"]} | write_lineage(writer, prepared) | _score_tags(candidate)
    tags[STEP_TAG] = f"{chosen['step']} of {chosen['last']}"
    version = _version(writer, generator, register.model_name, model_id, tags)
    judgement, now = _judge(writer, model_id, candidate, register)
    summary, trained = load_summary(prepared), facts | {"choice": chosen}
    describe(writer, version, judgement, now, candidate, evaluation, summary, trained, doctor, register)
    place = _place(writer, version, judgement, candidate, register)
    save_json(registration, place)
    delete_recorded()
    print_end(candidate, place, *_champion(writer, register.model_name), doctor, chosen, evaluation)


def _by_section(*configs: Any) -> dict[str, Any]:
    return dict(zip(SECTIONS, map(asdict, configs), strict=True))


def _place(
    writer: RunWriter, version: str, judgement: Judgement, candidate: Evaluation, config: RegisterConfig
) -> dict[str, Any]:
    """Return where in MLflow the model is, and what was decided on it."""
    return {
        "run_id": writer.id,
        "experiment_id": writer.run.info.experiment_id,
        "model": config.model_name,
        "version": version,
        "within_bounds": all(bound.holds for bound in bounds(candidate, config)),
        "decision": judgement.action,
        "reason": judgement.reason,
    }


def _judge(
    writer: RunWriter, model_id: ModelId, candidate: Evaluation, config: RegisterConfig
) -> tuple[Judgement, Standing]:
    """Return the gate's judgement on the generator, once ledger and then MLflow have it, and what the generator is now.

    First it completes what a crash cut off between the two, and takes back what is in MLflow alone.
    """
    with locked_ledger() as ledger:
        for moved in sync_aliases(writer.client, config.model_name, ledger):
            print(moved)
        judgement = judge(ledger, model_id, candidate, config, git_commit())
        sync_aliases(writer.client, config.model_name, ledger)
        now = standing(model_id.weights, ledger.entries, config.model_name)
    assert now is not None  # something was decided
    return judgement, now


def _champion(writer: RunWriter, name: str) -> tuple[str, str | None]:
    """Return which version is champion, in words and as a number if MLflow has it."""
    with locked_ledger() as ledger:
        champion = replay(ledger.entries, name).champion
    number = registry.number_of(champion, registry.versions(writer.client, name))
    if champion is None or number is not None:
        return ("none yet" if number is None else f"version {number}"), number
    return (
        f"that of {LEDGER} (weights {champion.weights[:12]}, training {champion.training}) is no version of {name} in "
        "this MLflow; set MLFLOW_TRACKING_URI to the server that has it, or restore its params.yaml and dvc.lock from "
        "git and run dvc pull and dvc repro register"
    ), None


def _fill(writer: RunWriter, training: Path, candidate: Evaluation, evaluation: Path) -> None:
    """Write rows, grids and scores that the run lacks; a run that lost its training is ended as finished."""
    writer.write_rows(load_history(training / HISTORY))
    pictures = grids(training / SAMPLES)
    for step, path in pictures.items():
        with Image.open(path) as picture:
            writer.write_grid(picture, step)
    writer.write_file(samples_page(pictures, writer.run.info.run_name).encode(), f"{SAMPLES}.html")
    writer.write_file(growth(pictures), f"card/{GROWTH}")
    for name in (TRUNCATION, WALK):
        writer.write_file((evaluation / name).read_bytes(), f"card/{name}")
    of_utility = utility_metrics(read_utility(evaluation))
    writer.write_scores(mlflow_metrics(candidate) | of_utility | load_json(training / SPEED))
    optional = [name for name in (CLASSES, UTILITY) if (evaluation / name).exists()]
    writer.write_evaluation(evaluation, candidate.passport_sha256, [*EVALUATION_FILES, *optional])
    writer.finish()


def _version(writer: RunWriter, generator: Path, name: str, model_id: ModelId, tags: dict[str, str]) -> str:
    """Return the version of the registered model that holds this generator; made now, if there is none."""
    version = registry.registered_version(writer.client, name, writer.id, model_id.weights)
    if version is None:
        identity = {registry.WEIGHTS_TAG: model_id.weights, KEY_TAG: model_id.training}
        version = registry.add_version(name, writer.id, generator, identity)
    tag_version(writer.client, name, str(version.version), tags)
    return str(version.version)


def _score_tags(candidate: Evaluation) -> dict[str, str]:
    """Return what MLflow's list of versions shows beside each: every score with its interval, and their passport."""
    intervals = {
        candidate.public_name(metric): shown_interval(score.over_banks) for metric, score in candidate.scores.items()
    }
    return intervals | {"passport": candidate.passport_sha256}
