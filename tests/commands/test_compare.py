"""`python -m commands.compare` reads models from MLflow and refuses what cannot be compared."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML

from commands.compare import main
from mlops.cards.scored_model import ScoredModel
from mlops.scoring.comparison import shown_interval
from mlops.tracking.runs import connect
from tests.project import ROOT

MakeModel = Callable[..., ScoredModel]


@dataclass(frozen=True)
class Registry:
    """A registered model of the test's own, and a way to add versions to it."""

    client: MlflowClient
    experiment: str
    name: str

    def run(self, model: ScoredModel) -> str:
        """Log a scored run; return its id."""
        run = self.client.create_run(self.experiment, run_name=f"run-of-{model.evaluation.name[-1]}")
        self.client.set_tag(run.info.run_id, "doctor.verdict", "healthy")
        self.client.log_artifacts(run.info.run_id, str(model.folder), "evaluation")
        return str(run.info.run_id)

    def version(self, model: ScoredModel) -> str:
        """Register a scored run; return its id."""
        run_id = self.run(model)
        self.client.create_model_version(self.name, str(model.folder), run_id)
        return run_id


def run(*arguments: str) -> None:
    main(arguments, standalone_mode=False)


@pytest.fixture
def registry(root: Path, request: pytest.FixtureRequest) -> Registry:
    yaml = YAML()
    values = yaml.load((ROOT / "params.yaml").read_text())
    values["register"]["model_name"] = name = (
        request.node.name.replace("_", "-").translate({91: "-", 93: None})[-60:].strip("-")
    )
    yaml.dump(values, root / "params.yaml")
    client, experiment = connect()
    client.create_registered_model(name)
    return Registry(client, experiment, name)


def test_a_version_an_alias_and_a_run_are_compared(
    registry: Registry, made_model: MakeModel, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [made_model(1, 3.0), made_model(2, 2.0), made_model(3, 3.0)]
    for model in models[:2]:
        registry.version(model)
    registry.client.set_registered_model_alias(registry.name, "champion", "1")
    run("champion", "2", registry.run(models[2]), "--html", str(root / "new" / "page.html"))
    printed = capsys.readouterr().out
    shown = [shown_interval(model.evaluation.scores["fid"].over_banks) for model in models]
    assert f"Version 2 is better than version 1 (champion) in fid_digits: {shown[1]} against {shown[0]}." in printed
    assert "Run run-of-3 against version 1 (champion): cannot tell in fid_digits." in printed
    assert all(interval in printed.split("against version 1 (champion):\n")[0] for interval in shown)
    page = (root / "new" / "page.html").read_text()
    assert "Version 2 is better than version 1 (champion) in fid_digits" in page


def test_the_metric_can_be_chosen(
    registry: Registry, made_model: MakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        registry.version(made_model(number, 3.0))
    run("1", "2", "--metric", "is")
    assert "Version 2 against version 1: cannot tell in is_digits." in capsys.readouterr().out


@pytest.mark.parametrize("unknown", ["7", "nobody", "f" * 32], ids=["number", "alias", "run"])
def test_what_is_not_there_is_named(unknown: str, registry: Registry, made_model: MakeModel) -> None:
    registry.version(made_model(1, 3.0))
    with pytest.raises(SystemExit, match=f"{unknown}.*{registry.name}"):
        run("1", unknown)


def test_a_run_without_scores_is_refused(registry: Registry, made_model: MakeModel) -> None:
    registry.version(made_model(1, 3.0))
    model = made_model(2, 3.0)
    (model.folder / "banks.csv").unlink()
    run_id = registry.run(model)
    with pytest.raises(SystemExit, match=rf"{run_id}.*banks\.csv"):
        run("1", run_id)


def test_scores_under_different_passports_are_refused(registry: Registry, made_model: MakeModel, root: Path) -> None:
    first = made_model(1, 3.0)
    registry.version(first)
    registry.version(made_model(2, 2.0, passport=first.evaluation.passport | {"device": "cuda", "threads": 2}))
    with pytest.raises(SystemExit, match=r"device: cpu and cuda(.|\n)*threads: 1 and 2"):
        run("1", "2", "--html", str(root / "page.html"))
    assert not (root / "page.html").exists()
