"""The stage `register`: fill in what MLflow lacks, register the generator, and name the champion."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from gan_core.config import ExtractorConfig
from stages import registry
from stages.lineage import file_digest
from stages.origin import write_lineage
from stages.params import DataConfig, EvaluateConfig, PrepareConfig, RegisterConfig
from stages.results import (
    COMPARISON,
    DIAGNOSIS,
    HISTORY,
    INSTRUMENTS,
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
from stages.tracking import KEY_TAG, RunWriter, open_run


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
    """Make MLflow say what DVC's outputs say; doing it twice changes nothing.

    The training's run gets what it lacks (all of it, where MLflow was lost or DVC restored the outputs), the generator
    becomes a version of the registered model unless it is one, and the first version within the bounds of
    `params.yaml` becomes `champion`.

    Args:
        prepared: what `prepare` wrote.
        generator: what `train` wrote.
        training: the folder that `train` wrote.
        diagnosis: the folder that `diagnose` wrote.
        evaluation: the folder that `evaluate` wrote.
        registration: JSON: where in MLflow it all is.
        data: logged.
        prepare: logged.
        extractor: logged.
        evaluate: logged.
        register: name of the model and bounds for `champion`.
    """
    facts, scores = load_json(training / TRAINING), load_json(evaluation / SCORES)
    writer = open_run(facts, prepared, scores["passport"])
    sections: dict[str, Any] = {
        "data": data,
        "prepare": prepare,
        "extractor": extractor,
        "evaluate": evaluate,
    }
    writer.write_params({name: asdict(section) for name, section in sections.items()})
    _fill(writer, training, evaluation, scores)
    doctor = load_json(diagnosis / DIAGNOSIS)
    writer.write_diagnosis(doctor, diagnosis / INSTRUMENTS)
    lineage = write_lineage(writer, prepared)
    version = _version(writer, generator, register.model_name, facts, lineage | scores)
    passed = within_bounds(scores, register)
    reigning = registry.champion(writer.client, register.model_name)
    if passed and reigning is None:
        registry.crown(writer.client, register.model_name, version)
        reigning = version
    place = {"run_id": writer.id, "experiment_id": writer.run.info.experiment_id}
    model = {"model": register.model_name, "version": version, "within_bounds": passed}
    save_json(registration, place | model)
    _print_end(scores, model, reigning, doctor["verdict"], evaluation)


def within_bounds(scores: dict[str, Any], bounds: RegisterConfig) -> bool:
    """Return whether FID, relative to that of real test images and to that of noise, is within the bounds."""
    to_real, to_noise = (_one(scores, ending) for ending in ("_to_real", "_to_noise"))
    return to_real <= bounds.max_fid_ratio_to_real and to_noise <= bounds.max_fid_ratio_to_noise


def _one(scores: dict[str, Any], ending: str) -> float:
    (value,) = (float(value) for name, value in scores.items() if name.startswith("fid") and name.endswith(ending))
    return value


def _fill(writer: RunWriter, training: Path, evaluation: Path, scores: dict[str, Any]) -> None:
    """Write rows, grids, scores and papers that the run lacks; a run that lost its training is ended as finished."""
    writer.write_rows(load_history(training / HISTORY))
    for step, path in grids(training / SAMPLES).items():
        with Image.open(path) as picture:
            writer.write_grid(picture, step)
    numbers = {name: value for name, value in scores.items() if name != "passport"}
    speed = load_json(training / SPEED)
    writer.write_scores(numbers | speed, step=speed["steps"])
    writer.write_papers(evaluation, scores["passport"], [COMPARISON, PASSPORT, SCORES])
    writer.finish()


def _version(writer: RunWriter, generator: Path, name: str, facts: dict[str, Any], said: dict[str, Any]) -> str:
    """Return the version of the registered model that holds this generator; made now, if there is none."""
    sha256 = file_digest(generator)
    found = registry.find_version(writer.client, name, writer.id, sha256)
    if found is None:
        tags = {registry.WEIGHTS_TAG: sha256, KEY_TAG: facts["key"], "data.dvc_md5": facts["data_md5"]}
        found = registry.add_version(name, writer.id, generator, tags)
    for key, value in said.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        if found.tags.get(key) != shown:
            writer.client.set_model_version_tag(name, found.version, key, shown)
    return str(found.version)


def _print_end(
    scores: dict[str, Any], model: dict[str, Any], reigning: str | None, doctor: str, evaluation: Path
) -> None:
    table = Table(title="done", title_justify="left", show_header=False)
    for name in sorted(name for name in scores if name.startswith(("fid", "is", "parzen"))):
        table.add_row(name, f"{scores[name]:.3f}")
    verdict = "within" if model["within_bounds"] else "outside"
    table.add_row("doctor", doctor)
    table.add_row("registered", f"{model['model']} version {model['version']}, {verdict} the bounds of params.yaml")
    table.add_row("champion", "none yet" if reigning is None else f"version {reigning}")
    table.add_row("look at", str(evaluation / COMPARISON))
    table.add_row("then", "make ui    (MLflow and Prefect in the browser)")
    Console(width=110).print(table)
