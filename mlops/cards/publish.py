"""What MLflow's pages say of a version: its card, and its comparison with the champion."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from mlops.cards.model_card import Facts, card, model_card, plain, shortened
from mlops.figures.grids import png_bytes
from mlops.project.errors import UserError
from mlops.project.params import RegisterConfig
from mlops.project.prepared_data import Summary
from mlops.scoring.comparison import PICTURES, Model, compare_models, explanation, load_model, sentences
from mlops.scoring.evaluation import read_evaluation
from mlops.tracking import descriptions as pages
from mlops.tracking import versions as registry
from mlops.tracking.run_writer import RunWriter

PAGE = "comparison.html"
PAGE_WIDTH = 900
"""Pixels: MLflow's page shows a picture as wide as it is, and a laptop's window is not wider."""


def describe(
    writer: RunWriter,
    version: str,
    reigning: str | None,
    *,
    summary: Summary,
    training: dict[str, Any],
    evaluation: Path,
    doctor: dict[str, Any],
    register: RegisterConfig,
) -> None:
    """Write the card of a version into its description and its run, and its comparison with the champion into the run.

    The champion's card, in short, is the registered model's description too; so is the newest version's while there
    is no champion. A description that a person wrote stays.

    Args:
        writer: of the version's run.
        version: its number.
        reigning: the champion's number before this version could become it, if there was one.
        summary: of the prepared data.
        training: content of `training.json`.
        evaluation: the folder that `evaluate` wrote.
        doctor: content of `diagnosis.json`.
        register: name of the model, and how it is compared.
    """
    client, name = writer.client, register.model_name
    found = registry.find_model(client, name, version)
    model = _unaliased(Model(found, read_evaluation(f"version {version}", evaluation), evaluation))
    against = pages.opponent(client, name, version, reigning)
    verdict, reason, short = _judge(writer, model, against, register)
    pages.tag_version(client, name, version, {pages.VERDICT_TAG: short})
    facts = Facts(
        model=name,
        version=version,
        run_id=writer.id,
        commit=found.tags.get("git.commit", ""),
        summary=summary,
        training=training,
        evidence=model.evidence,
        doctor=doctor["sentence"],
        verdict=verdict,
        reason=reason,
    )
    _write(writer, facts, evaluation)


def _unaliased(model: Model) -> Model:
    """Return a model that is called by its number alone: aliases move, and what is written here stays."""
    return replace(model, found=replace(model.found, aliases=()))


def _judge(writer: RunWriter, model: Model, against: str | None, register: RegisterConfig) -> tuple[str, str, str]:
    """Return a sentence on the model against a version, why, and the verdict in a few words.

    The whole comparison goes into the model's run.
    """
    known = model.summary(register.metric)
    if against is None:
        return f"{known}; there was no champion to compare it with.", "", "no champion to compare with"
    with TemporaryDirectory() as folder:
        try:
            models = [_unaliased(load_model(register.model_name, against, Path(folder))), model]
            rate = register.false_promotion_rate
            comparison = compare_models(models, register.metric, noise=register.noise, rate=rate)
        except UserError as error:
            lines = [f"- {plain(line)}" if line.startswith(" ") else plain(line) for line in str(error).splitlines()]
            return (
                f"{known}; not compared with version {against}.",
                "\n\n".join(lines),
                f"not comparable with {against}",
            )
        from mlops.cards.comparison_page import page  # only here: without a champion nothing needs matplotlib

        writer.write_file(page(comparison).encode(), PAGE)
    (verdict,), short = sentences(comparison), comparison.outcomes[0][register.metric].verdict
    reason = f"{plain(explanation(comparison))} `{PAGE}` of the run has all scores and pictures side by side."
    return verdict, reason, f"{short} {'from' if short == 'cannot tell' else 'than'} {against}"


def _write(writer: RunWriter, facts: Facts, evaluation: Path) -> None:
    for picture in PICTURES:
        writer.write_file(_narrow(evaluation / picture), f"card/{picture}")
    writer.write_file(card(facts, lambda picture: picture).encode(), "card/card.md")

    def address(picture: str) -> str:
        """MLflow's pages drop images whose address is data, and take what the tracking server itself has."""
        return f"get-artifact?path=card/{picture}&run_uuid={facts.run_id}"

    text = shortened(card(facts, address), f"`card/card.md` of run {facts.run_id}")
    pages.describe_version(writer.client, facts.model, facts.version, text)
    of_model = shortened(model_card(facts, address), "its page")
    writer.write_file(of_model.encode(), pages.MODEL_CARD)
    if registry.champion(writer.client, facts.model) is None:
        pages.describe_model(writer.client, facts.model, of_model)
    pages.describe_champion(writer.client, facts.model)


def _narrow(path: Path) -> bytes:
    with Image.open(path) as picture:
        picture.thumbnail((PAGE_WIDTH, picture.height), Image.Resampling.LANCZOS)
        return png_bytes(picture)
