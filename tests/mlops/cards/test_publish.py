"""What MLflow's pages say of a version: written once, changed where it changed, and never over a person's words."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlops.cards.publish import describe
from mlops.cards.scored_model import ScoredModel
from mlops.project.params import Params
from mlops.project.prepared_data import Summary
from mlops.promotion.decision import Judgement
from mlops.promotion.gate import challenge
from mlops.promotion.history import ModelId
from mlops.tracking.descriptions import describe_champion
from mlops.tracking.run_writer import RunWriter
from mlops.tracking.runs import connect
from mlops.tracking.versions import PASSPORT_TAG, WEIGHTS_TAG

SUMMARY = Summary("digits", 8, 1, None, 1206, 155, 436, 0, 0, 0, 0, 0)
TRAINING = {
    "key": "f1ab63798643a2e2",
    "data_md5": "d" * 32,
    "device": "CPU",
    "parameters": {"network": {"family": "mlp"}, "train": {"seed": 0, "steps": 60, "loss": "minimax"}},
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
    register = replace(committed.register, model_name=name)
    known: dict[Path, tuple[str, str]] = {}

    def described(model: ScoredModel, champion: ScoredModel | None = None, action: str = "promoted") -> tuple[str, str]:
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
        describe(writer, version, Judgement(action, "why", met), model.evaluation, model.folder, *facts)
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
    assert description.startswith("Version 1 has fid_digits 3.")
    assert client.get_model_version(name, version).tags["verdict"] == "no champion to compare with"
    assert f"(get-artifact?path=card/neighbours.png&run_uuid={run_id})" in description
    assert of_model.startswith(description.splitlines()[0])
    assert "Trained on" in description
    assert "Trained on" not in of_model
    assert sorted(files) == [
        f"card/{file}" for file in ("card.md", "comparison.png", "interpolation.png", "model.md", "neighbours.png")
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
    assert client.get_registered_model(name).description.startswith("Version 1")
    client.set_registered_model_alias(name, "champion", "2")
    publish(second, first)
    description, _, _, of_model, _, _ = state(client, name, version, run_id)
    assert description.startswith("Version 2 is better than version 1 in fid_digits: ")
    assert client.get_model_version(name, version).tags["verdict"] == "better than 1"
    assert of_model.splitlines()[0] == description.splitlines()[0]
    page = Path(client.download_artifacts(run_id, "comparison.html")).read_text()
    assert description.splitlines()[0] in page


@pytest.mark.parametrize("before", [False, True])
def test_the_card_of_a_champion_that_was_scored_again_names_it_champion(
    before: bool, publish: Publish, name: str, made_model: Callable[..., ScoredModel]
) -> None:
    client, _ = connect()
    replaced = made_model(2, 4.0, passport=made_model(3, 4.0).evaluation.passport | {"device": "cuda"})
    version, _ = publish(made_model(1, 3.0), replaced if before else None, action="scored again")
    description, tags = (
        client.get_model_version(name, version).description,
        client.get_model_version(name, version).tags,
    )
    assert str(description).startswith("Version 1 has fid_digits 3.")
    assert "is the champion" in str(description).splitlines()[0]
    assert "no champion" not in str(description)
    assert tags["verdict"].startswith("not comparable with" if before else "the champion")


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
    client, _ = connect()
    for number in (1, 2):
        publish(made_model(number, 4.0 - number))
        client.set_registered_model_alias(name, "champion", str(number))
    describe_champion(client, name)
    assert client.get_registered_model(name).description.startswith("Version 2 has fid_digits 2.")
    client.set_registered_model_alias(name, "champion", "1")
    describe_champion(client, name)
    assert client.get_registered_model(name).description.startswith("Version 1 has fid_digits 3.")


def test_another_passport_is_no_comparison_and_the_card_says_why(
    publish: Publish, name: str, made_model: Callable[..., ScoredModel]
) -> None:
    client, _ = connect()
    first = made_model(1, 3.0)
    publish(first)
    client.set_registered_model_alias(name, "champion", "1")
    version, run_id = publish(made_model(2, 2.0, passport=first.evaluation.passport | {"device": "cuda"}), first)
    description = str(client.get_model_version(name, version).description)
    assert "device: cpu and cuda" in description
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
