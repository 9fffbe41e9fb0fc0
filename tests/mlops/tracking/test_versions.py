from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlops.project.errors import UserError
from mlops.tracking.runs import connect
from mlops.tracking.versions import find_model, find_version, model_id, versions
from tests.decisions import add_version, who


@pytest.fixture
def name(root: Path) -> str:
    """Return a registered model with versions 1 and 2, of which the first bears the alias `best`."""
    client, name = connect()[0], root.name.replace("_", "-")
    add_version(client, name, who("a"))
    client.create_model_version(name, "file:///nowhere")
    client.set_registered_model_alias(name, "best", "1")
    return name


@pytest.fixture
def client(name: str) -> MlflowClient:
    return connect()[0]


@pytest.mark.parametrize("form", ["1", "best", "models:/{name}/1", "models:/{name}@best"])
def test_a_version_is_named_by_number_alias_or_address(client: MlflowClient, name: str, form: str) -> None:
    for default in (name, "other") if form.startswith("models:") else (name,):
        version = find_version(client, default, form.format(name=name))
        assert (version.name, str(version.version), list(version.aliases)) == (name, "1", ["best"])


@pytest.mark.parametrize(
    "form",
    ["3", "champion", "-1", "", "models:/{name}/3", "models:/{name}@king", "models:/{name}", "{name}/1", "a b", "1'"],
)
def test_what_names_nothing_is_answered_with_what_there_is(client: MlflowClient, name: str, form: str) -> None:
    model = form.format(name=name)
    with pytest.raises(UserError) as raised:
        find_version(client, name, model)
    message = str(raised.value)
    assert all(part in message for part in (model, f"{name} there has 1, 2, best:", "sqlite://", "MLFLOW_TRACKING_URI"))


def test_a_registered_model_that_is_not_there_is_named(client: MlflowClient, name: str) -> None:
    with pytest.raises(UserError, match="nobody there has no version"):
        find_version(client, name, "models:/nobody/1")


def test_only_what_register_made_has_an_identity(client: MlflowClient, name: str) -> None:
    assert list(versions(client, name)) == ["2", "1"]
    assert model_id(find_version(client, name, "1")) == who("a")
    with pytest.raises(UserError, match=r"generator\.sha256 .* passport"):
        model_id(find_version(client, name, "2"))


def test_a_model_is_a_version_or_a_run(client: MlflowClient, name: str) -> None:
    run = client.create_run(connect()[1], run_name="mlp", tags={"a": "b"}).info.run_id
    version = client.create_model_version(name, "file:///nowhere", run)
    client.set_registered_model_alias(name, "new", version.version)
    of_run, of_version = find_model(client, name, run), find_model(client, name, "new")
    assert (of_run.run_id, of_run.run_name, of_run.version, of_run.aliases) == (run, "mlp", None, ())
    assert (of_version.run_id, of_version.version, of_version.aliases) == (run, "3", ("new",))
    assert of_version.tags["a"] == "b"
    for missing in ("f" * 32, "2"):  # the version has no run
        with pytest.raises(UserError, match="no run"):
            find_model(client, name, missing)
