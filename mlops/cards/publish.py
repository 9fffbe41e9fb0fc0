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
from mlops.project.result_files import COMPARISON
from mlops.promotion.decision import Judgement
from mlops.promotion.gate import bounds
from mlops.promotion.history import REFUSED, Standing
from mlops.scoring.comparison import Comparison, explanation, sentence, shown_interval, summary
from mlops.scoring.evaluation import Evaluation
from mlops.scoring.utility import read_utility
from mlops.tracking import descriptions as pages
from mlops.tracking import versions as registry
from mlops.tracking.run_writer import RunWriter
from mlops.tracking.runs import FID_TAG

PAGE = "comparison.html"
OUTSIDE = "outside the bounds"
PAGE_WIDTH = 900
"""Pixels: MLflow's page shows a picture as wide as it is, and a laptop's window is not wider."""
RUN_WIDTH = 640
"""Pixels: a run's page has a second column."""


@dataclass(frozen=True)
class Verdict:
    """What a version is and why, as a sentence of markdown, what explains it, and how it compares, in a few words.

    `page` is whether a comparison is a page of its run.
    """

    sentence: str
    reason: str
    short: str
    page: bool = False


def describe(
    writer: RunWriter,
    version: str,
    judgement: Judgement,
    standing: Standing,
    evaluation: Evaluation,
    folder: Path,
    data: Summary,
    training: dict[str, Any],
    doctor: dict[str, Any],
    register: RegisterConfig,
) -> None:
    """Write the card of a version into its description and its run's, and what it links to into the run.

    The champion's card, in short, is the registered model's description too; so is the newest version's while there
    is no champion. A description that a person wrote stays. `folder` is what `evaluate` wrote; `training` and `doctor`
    are the content of `training.json`, with that of `choice.json` as `choice`, and of `diagnosis.json`.
    """
    client, name = writer.client, register.model_name
    record = registry.find_model(client, name, version)
    model = ScoredModel(record, replace(evaluation, name=f"version {version}"), folder)
    verdict = _verdict(writer, model, judgement, standing, register)
    pages.tag_version(client, name, version, {pages.VERDICT_TAG: verdict.short})
    score, extractor = evaluation.scores["fid"].over_banks, evaluation.passport["extractor"]["name"]
    writer.set_tags({pages.VERDICT_TAG: verdict.short, FID_TAG: f"{shown_interval(score)} {extractor}"})
    facts = Facts(
        model=name,
        version=version,
        run_id=writer.id,
        experiment=writer.run.info.experiment_id,
        commit=record.tags.get("git.commit", ""),
        summary=data,
        training=training,
        evaluation=model.evaluation,
        utility=read_utility(folder),
        doctor=doctor["sentence"],
        standing=verdict.sentence,
        scores=summary(model.evaluation, register.metric),
        reason=verdict.reason,
        compared=verdict.page,
    )
    _write_cards(writer, facts, folder)


def _verdict(
    writer: RunWriter, model: ScoredModel, judgement: Judgement, standing: Standing, register: RegisterConfig
) -> Verdict:
    """Return what to write of a decision and a comparison; as a page the latter goes into the model's run."""
    challenge = judgement.challenge
    now = replace(standing, reason=plain(standing.reason))
    within = now.head != REFUSED or all(bound.holds for bound in bounds(model.evaluation, register))
    if challenge is None:
        return Verdict(now.sentence, "", "not compared" if within else OUTSIDE)
    client, name = writer.client, register.model_name
    scored = replace(challenge.champion, passport=model.evaluation.passport_sha256)
    number = registry.number_of(scored, registry.versions(client, name))
    champion = f"version {number}" if number else f"the champion with weights {challenge.champion.weights[:12]}"
    if challenge.comparison is None:
        return Verdict(now.sentence, "", f"not comparable with {number or champion}")
    comparison = challenge.comparison.renamed(champion, model.evaluation.name)
    outcome, compared = comparison.outcome.verdict, plain(sentence(comparison))
    short = f"{outcome} {'from' if outcome == 'cannot tell' else 'than'} {number or champion}"
    reason, page = plain(explanation([comparison])), True
    try:
        _write_page(writer, model, comparison, name, number)
    except UserError as error:
        missing = plain(f"There is no {PAGE}, for the pictures of {champion} are missing: {error}")
        reason, page = f"{reason} {missing}", False
    if judgement.action == "promoted":
        now = replace(now, reason=compared)
    elif now.head == REFUSED and within:
        why = "worse" if outcome == "worse" else "not better by more than noise"
        now = replace(now, reason=f"it is {why}. {compared}")
    short = short if within else OUTSIDE
    return Verdict(now.sentence, reason, short, page)


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
    writer.write_file(card(facts, lambda picture: picture, whole=True).encode(), "card/card.md")

    def address(picture: str) -> str:
        """MLflow's pages drop images whose address is data, and take what the tracking server itself has."""
        return f"get-artifact?path=card/{picture}&run_uuid={facts.run_id}"

    text = shortened(card(facts, address), f"`card/card.md` of run {facts.run_id}")
    pages.describe_version(writer.client, facts.model, facts.version, text)
    writer.write_file(_narrow(folder / COMPARISON, RUN_WIDTH), "card/run.png")
    pages.describe_run(
        writer.client, writer.id, shortened(card(facts, lambda _: address("run.png"), "run"), "its version")
    )
    of_model = shortened(card(facts, address, "model"), "its page")
    writer.write_file(of_model.encode(), pages.MODEL_CARD)
    if registry.champion(writer.client, facts.model) in (None, facts.version):
        pages.describe_model(writer.client, facts.model, of_model)


def _narrow(path: Path, width: int = PAGE_WIDTH) -> bytes:
    with Image.open(path) as picture:
        picture.thumbnail((width, picture.height), Image.Resampling.LANCZOS)
        return png_bytes(picture)
