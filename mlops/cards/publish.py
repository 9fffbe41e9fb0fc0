"""What MLflow's pages show of a version: its card, and its comparison with the champion."""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from mlops.cards.model_card import Facts, card, plain, shortened
from mlops.cards.scored_model import PICTURES, ScoredModel
from mlops.figures.grids import png_bytes
from mlops.project.errors import UserError
from mlops.project.params import RegisterConfig
from mlops.project.prepared_data import Summary
from mlops.promotion.decision import Judgement
from mlops.scoring.comparison import Comparison, explanation, sentence, summary
from mlops.scoring.evaluation import Evaluation
from mlops.tracking import descriptions as pages
from mlops.tracking import versions as registry
from mlops.tracking.run_writer import RunWriter

PAGE = "comparison.html"
PAGE_WIDTH = 900
"""Pixels: MLflow's page shows a picture as wide as it is, and a laptop's window is not wider."""


@dataclass(frozen=True)
class Verdict:
    """A sentence on a version against the champion, what explains it as markdown, and the verdict in a few words."""

    sentence: str
    reason: str
    short: str


def describe(
    writer: RunWriter,
    version: str,
    judgement: Judgement,
    evaluation: Evaluation,
    folder: Path,
    data: Summary,
    training: dict[str, Any],
    doctor: dict[str, Any],
    register: RegisterConfig,
) -> None:
    """Write the card of a version into its description and its run, and its comparison with the champion into the run.

    The champion's card, in short, is the registered model's description too; so is the newest version's while there
    is no champion. A description that a person wrote stays. `folder` is what `evaluate` wrote; `training` and `doctor`
    are the content of `training.json` and `diagnosis.json`.
    """
    client, name = writer.client, register.model_name
    record = registry.find_model(client, name, version)
    model = ScoredModel(record, replace(evaluation, name=f"version {version}"), folder)
    verdict = _verdict(writer, model, judgement, register)
    pages.tag_version(client, name, version, {pages.VERDICT_TAG: verdict.short})
    facts = Facts(
        model=name,
        version=version,
        run_id=writer.id,
        commit=record.tags.get("git.commit", ""),
        summary=data,
        training=training,
        evaluation=model.evaluation,
        doctor=doctor["sentence"],
        verdict=verdict.sentence,
        reason=verdict.reason,
    )
    _write_cards(writer, facts, folder)


def _verdict(writer: RunWriter, model: ScoredModel, judgement: Judgement, register: RegisterConfig) -> Verdict:
    """Return what to write of a comparison; as a page it goes into the model's run."""
    known, challenge = summary(model.evaluation, register.metric), judgement.challenge
    stays = judgement.action in ("scored again", "promoted by hand", "rolled back")  # it was champion before this run
    if stays:
        known += "; this version is the champion, with its newest scores"
    if challenge is None and stays:
        return Verdict(f"{known}.", "", "the champion")
    if challenge is None:
        return Verdict(f"{known}; there was no champion to compare it with.", "", "no champion to compare with")
    client, name = writer.client, register.model_name
    scored = replace(challenge.champion, passport=model.evaluation.passport_sha256)
    number = registry.number_of(scored, registry.versions(client, name))
    champion = f"version {number}" if number else f"the champion with weights {challenge.champion.weights[:12]}"
    if challenge.comparison is None:
        short = f"not comparable with {number or champion}"
        return Verdict(f"{known}; not compared with {champion}.", plain(challenge.reason), short)
    comparison = challenge.comparison.renamed(champion, model.evaluation.name)
    outcome = comparison.outcome.verdict
    short = f"{outcome} {'from' if outcome == 'cannot tell' else 'than'} {number or champion}"
    where = f"`{PAGE}` of the run has all scores and pictures side by side."
    try:
        _write_page(writer, model, comparison, name, number)
    except UserError as error:
        where = plain(f"There is no {PAGE}, for the pictures of {champion} are missing: {error}")
    return Verdict(sentence(comparison), f"{plain(explanation([comparison]))} {where}", short)


def _write_page(writer: RunWriter, model: ScoredModel, comparison: Comparison, name: str, number: str | None) -> None:
    """Write the page of a comparison into the model's run; pictures of the champion come from MLflow."""
    from mlops.cards.comparison_page import page  # only here: without a champion nothing needs matplotlib

    if number is None:
        raise UserError(f"it is no version of {name} in this MLflow; set MLFLOW_TRACKING_URI to the server that has it")
    champion = replace(registry.find_model(writer.client, name, number), aliases=())
    with TemporaryDirectory() as folder:
        pictures = registry.fetch_evaluation(writer.client, champion, PICTURES, Path(folder))
        models = [ScoredModel(champion, comparison.first, pictures), model]
        writer.write_file(page(models, [comparison]).encode(), PAGE)


def _write_cards(writer: RunWriter, facts: Facts, folder: Path) -> None:
    for picture in PICTURES:
        writer.write_file(_narrow(folder / picture), f"card/{picture}")
    writer.write_file(card(facts, lambda picture: picture).encode(), "card/card.md")

    def address(picture: str) -> str:
        """MLflow's pages drop images whose address is data, and take what the tracking server itself has."""
        return f"get-artifact?path=card/{picture}&run_uuid={facts.run_id}"

    text = shortened(card(facts, address), f"`card/card.md` of run {facts.run_id}")
    pages.describe_version(writer.client, facts.model, facts.version, text)
    of_model = shortened(card(facts, address, whole=False), "its page")
    writer.write_file(of_model.encode(), pages.MODEL_CARD)
    if registry.champion(writer.client, facts.model) is None:
        pages.describe_model(writer.client, facts.model, of_model)
    pages.describe_champion(writer.client, facts.model)


def _narrow(path: Path) -> bytes:
    with Image.open(path) as picture:
        picture.thumbnail((PAGE_WIDTH, picture.height), Image.Resampling.LANCZOS)
        return png_bytes(picture)
