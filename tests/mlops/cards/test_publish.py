"""What MLflow's pages say of a version: written once, changed where it changed, and never over a person's words."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlops.cards.publish import describe
from mlops.project.params import Params
from mlops.project.prepared_data import Summary
from mlops.scoring.comparison import Model
from mlops.tracking.descriptions import describe_champion
from mlops.tracking.run_writer import RunWriter
from mlops.tracking.runs import connect

SUMMARY = Summary("digits", 8, 1, None, 1206, 155, 436, 0, 0, 0, 0, 0)
TRAINING = {
    "key": "f1ab63798643a2e2",
    "data_md5": "d" * 32,
    "device": "CPU",
    "parameters": {"network": {"family": "mlp"}, "train": {"seed": 0, "steps": 60, "loss": "minimax"}},
}
Say = Callable[..., tuple[str, str]]


@pytest.fixture
def name(root: Path, request: pytest.FixtureRequest) -> str:
    return str(request.node.name).replace("_", "-")[:60]


@pytest.fixture
def say(name: str, committed: Params) -> Say:
    """Return a function that describes a made-up model as a version; it returns the version and the run."""
    client, experiment = connect()
    client.create_registered_model(name)
    known: dict[Path, tuple[str, str]] = {}

    def said(model: Model, reigning: str | None = None) -> tuple[str, str]:
        if model.folder not in known:
            run_id = client.create_run(experiment).info.run_id
            client.log_artifacts(run_id, str(model.folder), "evaluation")
            version = client.create_model_version(name, str(model.folder), run_id)
            known[model.folder] = str(version.version), run_id
        version_number, run_id = known[model.folder]
        describe(
            RunWriter(client, client.get_run(run_id)),
            version_number,
            reigning,
            summary=SUMMARY,
            training=TRAINING,
            evaluation=model.folder,
            doctor={"sentence": "healthy."},
            register=replace(committed.register, model_name=name),
        )
        return known[model.folder]

    return said


def state(client: MlflowClient, name: str, version: str, run_id: str) -> tuple[Any, ...]:
    found, model = client.get_model_version(name, version), client.get_registered_model(name)
    files = {file.path: file.file_size for file in client.list_artifacts(run_id, "card")}
    return found.description, found.tags, found.last_updated_timestamp, model.description, model.tags, files


def test_the_card_is_the_description_and_an_artifact_with_its_pictures(
    say: Say, name: str, made_model: Callable[..., Model]
) -> None:
    client, _ = connect()
    version, run_id = say(made_model(1, 3.0))
    description, _, _, of_model, _, files = state(client, name, version, run_id)
    assert description.startswith("Version 1 has fid_digits 3.")
    assert "there was no champion to compare it with" in description
    assert f"(get-artifact?path=card/neighbours.png&run_uuid={run_id})" in description
    assert of_model.startswith(description.splitlines()[0])
    assert "Trained on" in description
    assert "Trained on" not in of_model
    assert sorted(files) == [
        f"card/{file}" for file in ("card.md", "comparison.png", "interpolation.png", "model.md", "neighbours.png")
    ]


def test_describing_twice_changes_nothing(say: Say, name: str, made_model: Callable[..., Model]) -> None:
    client, _ = connect()
    say(made_model(1, 3.0))
    client.set_registered_model_alias(name, "champion", "1")
    second = made_model(2, 2.0)
    before = state(client, name, *say(second, "1"))
    assert state(client, name, *say(second, "1")) == before


def test_a_new_champion_keeps_saying_whom_it_beat(say: Say, name: str, made_model: Callable[..., Model]) -> None:
    client, _ = connect()
    say(made_model(1, 3.0))
    client.set_registered_model_alias(name, "champion", "1")
    second = made_model(2, 2.0)
    say(second, "1")
    assert client.get_registered_model(name).description.startswith("Version 1")
    client.set_registered_model_alias(name, "champion", "2")
    version, run_id = say(second, "2")
    description, _, _, of_model, _, _ = state(client, name, version, run_id)
    assert description.startswith("Version 2 is better than version 1 in fid_digits: ")
    assert client.get_model_version(name, version).tags["verdict"] == "better than 1"
    assert of_model.splitlines()[0] == description.splitlines()[0]
    assert "comparison.html" in {file.path for file in client.list_artifacts(run_id)}


def test_the_page_of_the_model_follows_the_champion(say: Say, name: str, made_model: Callable[..., Model]) -> None:
    client, _ = connect()
    for number in (1, 2):
        say(made_model(number, 4.0 - number))
        client.set_registered_model_alias(name, "champion", str(number))
    describe_champion(client, name)
    assert client.get_registered_model(name).description.startswith("Version 2 has fid_digits 2.")
    client.set_registered_model_alias(name, "champion", "1")
    describe_champion(client, name)
    assert client.get_registered_model(name).description.startswith("Version 1 has fid_digits 3.")


def test_another_passport_is_no_comparison_and_the_card_says_why(
    say: Say, name: str, made_model: Callable[..., Model]
) -> None:
    client, _ = connect()
    first = made_model(1, 3.0)
    say(first)
    client.set_registered_model_alias(name, "champion", "1")
    version, run_id = say(made_model(2, 2.0, passport=first.evidence.passport | {"device": "cuda"}), "1")
    description = str(client.get_model_version(name, version).description)
    assert description.splitlines()[0].endswith("not compared with version 1.")
    assert "\n- device: cpu and cuda\n" in description
    assert client.get_model_version(name, version).tags["verdict"] == "not comparable with 1"
    assert client.list_artifacts(run_id, "comparison.html") == []


def test_what_a_person_wrote_stays(say: Say, name: str, made_model: Callable[..., Model]) -> None:
    client, _ = connect()
    model = made_model(1, 3.0)
    version, run_id = say(model)
    client.update_model_version(name, version, "my own words")
    client.update_registered_model(name, "mine too")
    say(model)
    description, _, _, of_model, _, _ = state(client, name, version, run_id)
    assert (description, of_model) == ("my own words", "mine too")
