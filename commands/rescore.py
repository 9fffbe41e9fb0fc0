"""`python -m commands.rescore`: score the champion by the present data and extractor, for the gate to compare with."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
import pandas as pd

from gan_core.runtime.tensor_files import load_tensors
from mlops.project import params
from mlops.project.errors import UserError, command_line
from mlops.project.identity import git_commit
from mlops.promotion.decision import judge
from mlops.promotion.history import ModelId, replay
from mlops.promotion.ledger import locked_ledger
from mlops.promotion.naming import model_name
from mlops.safety.pipelines import MAIN, stage_outputs
from mlops.scoring.evaluation import Evaluation, summarise
from mlops.scoring.passport import passport_sha256
from mlops.tracking import versions as registry
from mlops.tracking.aliases import sync_aliases
from mlops.tracking.loaded_model import fetch_generator
from mlops.tracking.runs import connect

if TYPE_CHECKING:
    from mlops.scoring.scorer import Scorer


def rescore() -> str:
    """Score the champion anew if its scores have another passport than present ones would have; return what was done.

    The ledger gets the scores, and the champion stays what it is. If MLflow has not its weights, or it makes images of
    another kind than the present ones, that is a UserError.
    """
    values = params.load()
    register = replace(values.register, model_name=model_name(values.register, values.data))
    with locked_ledger() as ledger:
        champion = replay(ledger.entries, register.model_name).champion
    if champion is None:
        return f"{register.model_name} has no champion yet"
    from mlops.scoring.scorer import Scorer  # only here: torch takes two seconds to import

    outputs = stage_outputs(MAIN)
    (prepared,), (extractor,) = outputs["prepare"], outputs["extractor"]
    scorer = Scorer(prepared, extractor, values.compute, values.evaluate)
    if champion.passport == passport_sha256(scorer.passport()):
        return "the champion has present scores already"
    client, _ = connect()
    number = registry.number_of(champion, registry.versions(client, register.model_name))
    if number is None:
        raise UserError(
            f"the champion (weights {champion.weights[:12]}) is no version of {register.model_name} in this MLflow; "
            "set MLFLOW_TRACKING_URI to the server that has it"
        )
    with TemporaryDirectory() as folder:
        version = registry.find_version(client, register.model_name, number)
        measured = _measured(scorer, fetch_generator(version, Path(folder)))
    with locked_ledger() as ledger:
        scored = ModelId(champion.weights, measured.passport_sha256, champion.training)
        judgement = judge(ledger, scored, measured, register, git_commit())
        sync_aliases(client, register.model_name, ledger)
    return judgement.reason


def _measured(scorer: "Scorer", generator: Path) -> Evaluation:
    """Return the scores of a generator, if it makes images of the size, channels and classes of the present ones."""
    _, made = load_tensors(generator)
    present, classes = scorer.summary, made.get("classes", [])
    if (made["size"], made["channels"]) != (present.size, present.channels) or classes not in ([], present.classes):
        raise UserError(
            f"the champion makes images of {_kind(made['size'], made['channels'], classes)}, and the present ones are "
            f"of {_kind(present.size, present.channels, present.classes)}: no scores compare the two; promote by hand, "
            "or give the new model a name of its own, register.model_name in params.yaml"
        )
    banks = pd.DataFrame([{"training": 0, "bank": bank.number} | bank.metrics for bank in scorer.banks(generator)])
    return Evaluation(
        "the champion",
        summarise(banks, scorer.real(), scorer.references()),
        scorer.passport(),
        banks,
        images=scorer.count,
        few_images=scorer.few,
        skill=scorer.skill(),
    )


def _kind(size: int, channels: int, classes: Sequence[str] | None) -> str:
    return f"{size} pixels, {channels} channels and {', '.join(classes) if classes else 'no'} classes"


@click.command()
@command_line()
def main() -> None:
    """Score the champion by the present data and extractor, so that the gate compares with it under one passport."""
    print(rescore())


if __name__ == "__main__":
    main()
