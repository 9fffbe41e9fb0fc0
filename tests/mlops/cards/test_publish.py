"""What MLflow's pages say of a version: written once, changed where it changed, and never over a person's words."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from gan_core.metrics.intervals import Interval
from mlops.cards.publish import describe
from mlops.cards.scored_model import ScoredModel
from mlops.project.params import Params
from mlops.project.prepared_data import Summary
from mlops.promotion.decision import Judgement
from mlops.promotion.gate import challenge
from mlops.promotion.history import Entry, ModelId, Standing
from mlops.scoring.evaluation import Score
from mlops.tracking.descriptions import describe_champion, restate
from mlops.tracking.run_writer import RunWriter
from mlops.tracking.runs import connect
from mlops.tracking.versions import PASSPORT_TAG, WEIGHTS_TAG

SUMMARY = Summary("digits", 8, 1, None, 1206, 155, 436, 0, 0, 0, 0, 0)
TRAINING = {
    "key": "f1ab63798643a2e2",
    "data_md5": "d" * 32,
    "device": "CPU",
    "choice": {"step": 60, "sentence": "the last"},
    "parameters": {
        "network": {"family": "mlp"},
        "augmentation": {"kind": "none"},
        "train": {"seed": 0, "steps": 60, "loss": "minimax"},
    },
}
Publish = Callable[..., tuple[str, str]]


@pytest.fixture
def name(root: Path, request: pytest.FixtureRequest) -> str:
    return str(request.node.name).replace("_", "-").translate({91: "-", 93: None})[-60:].strip("-")


@pytest.fixture
def publish(name: str, committed: Params) -> Publish:
    """Return a function that describes a made-up model as a version, compared with another; it returns both places."""
    client, experiment = connect()
    client.create_registered_model(name)
    rules = replace(committed.register, model_name=name, max_excess_near_copies=1.0)
    known: dict[Path, tuple[str, str]] = {}

    def described(
        model: ScoredModel, champion: ScoredModel | None = None, action: str = "promoted", limit: float = 1e9
    ) -> tuple[str, str]:
        register = replace(rules, max_fid_to_trivial=limit, max_fid_ratio_to_noise=limit)
        if model.folder not in known:
            run_id = client.create_run(experiment).info.run_id
            client.log_artifacts(run_id, str(model.folder), "evaluation")
            tags = {WEIGHTS_TAG: model.evaluation.name, PASSPORT_TAG: model.evaluation.passport_sha256}
            known[model.folder] = str(client.create_model_version(name, "/nowhere", run_id, tags).version), run_id
        version, run_id = known[model.folder]
        met = None
        if champion:
            model_id = ModelId(champion.evaluation.name, champion.evaluation.passport_sha256, "")
            met = challenge(model_id, replace(champion.evaluation, name="the champion"), model.evaluation, register)
        writer = RunWriter(client, client.get_run(run_id))
        facts = SUMMARY, TRAINING, {"sentence": "healthy."}, register
        now = Standing("Refused" if action == "refused" else f"Champion since today, {action}", "why")
        described = Judgement(action, "why", met), now, model.evaluation, model.folder
        describe(writer, version, *described, *facts)
        return version, run_id

    return described


def state(client: MlflowClient, name: str, version: str, run_id: str) -> tuple[Any, ...]:
    found, model = client.get_model_version(name, version), client.get_registered_model(name)
    files = {file.path: file.file_size for file in client.list_artifacts(run_id, "card")}
    return found.description, found.tags, found.last_updated_timestamp, model.description, model.tags, files


def test_the_card_is_the_description_and_an_artifact_with_its_pictures(
    publish: Publish, name: str, made_model: Callable[..., ScoredModel]
) -> None:
    client, _ = connect()
    version, run_id = publish(made_model(1, 3.0))
    description, _, _, of_model, _, files = state(client, name, version, run_id)
    assert description.startswith("Champion since today, promoted: why.\n\n[Samples at every step]")
    assert "Version 1 has fid_digits 3." in description
    assert client.get_model_version(name, version).tags["verdict"] == "not compared"
    run = client.get_run(run_id).data.tags
    assert run["mlflow.note.content"].startswith(description.splitlines()[0])
    assert f"(get-artifact?path=card/run.png&run_uuid={run_id})" in run["mlflow.note.content"]
    assert (run["verdict"], run["fid"].split()[-1]) == ("not compared", "digits")
    assert f"(get-artifact?path=card/neighbours.png&run_uuid={run_id})" in description
    assert of_model.startswith(description.splitlines()[0])
    assert "Trained on" in description
    assert "Trained on" not in of_model
    assert sorted(files) == [
        f"card/{file}"
        for file in ("card.md", "comparison.png", "interpolation.png", "model.md", "neighbours.png", "run.png")
    ]


def test_describing_twice_changes_nothing(publish: Publish, name: str, made_model: Callable[..., ScoredModel]) -> None:
    client, _ = connect()
    first, second = made_model(1, 3.0), made_model(2, 2.0)
    publish(first)
    before = state(client, name, *publish(second, first))
    assert state(client, name, *publish(second, first)) == before


def test_the_card_has_the_verdict_and_the_run_the_page(
    publish: Publish, name: str, made_model: Callable[..., ScoredModel]
) -> None:
    client, _ = connect()
    first, second = made_model(1, 3.0), made_model(2, 2.0)
    publish(first)
    client.set_registered_model_alias(name, "champion", "1")
    version, run_id = publish(second, first)
    assert "Version 1 has fid_digits 3." in client.get_registered_model(name).description
    client.set_registered_model_alias(name, "champion", "2")
    publish(second, first)
    description, _, _, of_model, _, _ = state(client, name, version, run_id)
    assert description.startswith("Champion since today, promoted: Version 2 is better than version 1 in fid_digits: ")
    assert f"{run_id}/artifacts/comparison.html" in description
    assert client.get_model_version(name, version).tags["verdict"] == "better than 1"
    assert of_model.splitlines()[0] == description.splitlines()[0]
    page = Path(client.download_artifacts(run_id, "comparison.html")).read_text()
    assert description.splitlines()[0].removeprefix("Champion since today, promoted: ") in page


@pytest.mark.parametrize(
    ("fid", "limit", "why", "short"),
    [
        (3.0, 1e9, "it is worse. Version 2 is worse than version 1 in fid_digits: ", "worse than 1"),
        (2.0, 1e9, "it is not better by more than noise. Version 2 ", "cannot tell from 1"),
        (2.0, 1e-9, "why.", "outside the bounds"),
    ],
    ids=["worse", "alike", "outside"],
)
def test_the_card_of_a_refused_version_says_why_first(
    fid: float, limit: float, why: str, short: str, publish: Publish, name: str, made_model: Callable[..., ScoredModel]
) -> None:
    client, _ = connect()
    first, second = made_model(1, 2.0), made_model(2, fid)
    copies = {"near_copies": Score(Interval(0.0, 0.0, 0.0), real=0.0)}
    second = replace(second, evaluation=replace(second.evaluation, scores=second.evaluation.scores | copies))
    publish(first)
    client.set_registered_model_alias(name, "champion", "1")
    version, run_id = publish(second, first, action="refused", limit=limit)
    found = client.get_model_version(name, version)
    assert str(found.description).startswith(f"Refused, because {why}")
    assert found.tags["verdict"] == client.get_run(run_id).data.tags["verdict"] == short


@pytest.mark.parametrize("lost", ["version", "pictures"])
def test_without_the_champions_pictures_the_card_has_the_verdict_and_there_is_no_page(
    lost: str, publish: Publish, name: str, made_model: Callable[..., ScoredModel]
) -> None:
    client, experiment = connect()
    first, second = made_model(1, 3.0), made_model(2, 2.0)
    if lost == "pictures":
        run_id = client.create_run(experiment).info.run_id
        tags = {WEIGHTS_TAG: first.evaluation.name, PASSPORT_TAG: first.evaluation.passport_sha256}
        client.create_model_version(name, "/nowhere", run_id, tags)
    version, run_id = publish(second, first)
    assert client.get_model_version(name, version).tags["verdict"].startswith("better than ")
    assert client.list_artifacts(run_id, "comparison.html") == []


def test_the_page_of_the_model_follows_the_champion(
    publish: Publish, name: str, made_model: Callable[..., ScoredModel]
) -> None:
    """Also one whose card was written when it was refused."""
    client, _ = connect()
    entries = []
    for number in (1, 2):
        model = made_model(number, 4.0 - number)
        publish(model)
        model_id = ModelId(model.evaluation.name, model.evaluation.passport_sha256, "")
        when, decided = f"2026-01-0{number}T00:00:00+00:00", (name, model_id, None, model_id, f"reason {number}")
        entries.append(Entry(number, None, when, "promoted by hand", *decided, "ada", None))
    for number, first in (
        (2, "Champion since 2026-01-02 00:00 UTC, promoted by hand: reason 2."),
        (1, "Former champion, until 2026-01-02 00:00 UTC: another version was promoted by hand. reason 2."),
    ):
        client.set_registered_model_alias(name, "champion", str(number))
        describe_champion(client, name, entries)
        description = str(client.get_registered_model(name).description)
        assert description.startswith(f"{first}\n\nVersion {number} has fid_digits {4 - number}.")


def test_what_a_version_is_now_is_first_on_its_pages_and_the_rest_stays(
    publish: Publish, name: str, made_model: Callable[..., ScoredModel]
) -> None:
    client, _ = connect()
    version, run_id = publish(made_model(1, 3.0))
    before, note = state(client, name, version, run_id)[0], client.get_run(run_id).data.tags["mlflow.note.content"]
    restate(client, name, version, "former champion", "**Former champion**.")
    after, tags = state(client, name, version, run_id)[0], client.get_run(run_id).data.tags
    for old, new in ((before, after), (note, tags["mlflow.note.content"])):
        assert new == "\n\n".join(["**Former champion**.", *old.split("\n\n")[1:]])
    assert tags["role"] == "former champion"
    client.set_tag(run_id, "mlflow.note.content", "my own words")
    client.update_model_version(name, version, "mine too")
    restate(client, name, version, "champion", "**Champion**.")
    client.delete_run(run_id)
    restate(client, name, version, "refused", "Refused.")
    client.restore_run(run_id)
    tags = client.get_run(run_id).data.tags
    assert (tags["mlflow.note.content"], tags["role"]) == ("my own words", "champion")
    assert state(client, name, version, run_id)[0] == "mine too"


def test_another_passport_is_no_comparison(publish: Publish, name: str, made_model: Callable[..., ScoredModel]) -> None:
    client, _ = connect()
    first = made_model(1, 3.0)
    publish(first)
    client.set_registered_model_alias(name, "champion", "1")
    version, run_id = publish(made_model(2, 2.0, passport=first.evaluation.passport | {"device": "cuda"}), first)
    assert client.get_run(run_id).data.tags["verdict"] == "not comparable with 1"
    assert client.get_model_version(name, version).tags["verdict"] == "not comparable with 1"
    assert client.list_artifacts(run_id, "comparison.html") == []


def test_what_a_person_wrote_stays(publish: Publish, name: str, made_model: Callable[..., ScoredModel]) -> None:
    client, _ = connect()
    model = made_model(1, 3.0)
    version, run_id = publish(model)
    client.update_model_version(name, version, "my own words")
    client.update_registered_model(name, "mine too")
    publish(model)
    description, _, _, of_model, _, _ = state(client, name, version, run_id)
    assert (description, of_model) == ("my own words", "mine too")
