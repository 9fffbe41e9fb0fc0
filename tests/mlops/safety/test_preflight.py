import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops.project.errors import UserError
from mlops.safety.preflight import preflight
from tests.servers import free_port

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project in which nothing has run."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def set_params(section: str, **values: Any) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text())
    content[section] |= values
    Path("params.yaml").write_text(yaml.safe_dump(content))


def test_a_sound_project_passes() -> None:
    preflight()
    assert {path.name for path in Path.cwd().iterdir()} <= {"dvc.yaml", "params.yaml", ".mlflow"}


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("evaluate", "banks", 1),
        ("data", "path", "data/raw/mine"),
        ("data", "path", "$(touch nowhere)"),
        ("extractor", "weights", "nowhere.pth"),
        ("compute", "device", "tpu"),
    ],
)
def test_a_wrong_parameter_is_named(section: str, key: str, value: object) -> None:
    set_params(section, **{key: value})
    with pytest.raises(UserError, match=rf"params.yaml: {section}\.{key}"):
        preflight()


def test_parameters_that_are_no_yaml_are_an_error() -> None:
    Path("params.yaml").write_text("train: [\n")
    with pytest.raises(UserError, match=r"params\.yaml"):
        preflight()


def test_images_may_be_elsewhere_once_dvc_has_fetched_them(capsys: pytest.CaptureFixture[str]) -> None:
    set_params("data", name="folder", path="nowhere")
    with pytest.raises(UserError, match=r"params.yaml: data.path: nowhere does not exist"):
        preflight()
    section = yaml.safe_load(Path("params.yaml").read_text())["data"]
    lock = {"stages": {"fetch": {"params": {"params.yaml": {"data": section}}}}}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    preflight()
    assert "warning: params.yaml: data.path: nowhere does not exist" in capsys.readouterr().err


def test_parameters_on_which_a_loader_would_choke_are_an_error(root: Path) -> None:
    """As a process of its own: some of them end the one that reads them."""
    command = [sys.executable, "-m", "stages", "code", "reports/digests"]
    for text in ("x: " + "[" * 100_000 + "]" * 100_000, "x: 1" + "0" * 5000, "- 1", "x: \x80"):
        (root / "params.yaml").write_bytes(text.encode("latin-1"))
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 1
        assert ended.stderr.startswith("error: params.yaml")
        assert len(ended.stderr) < 500


def test_a_server_that_does_not_answer_is_an_error_at_once_and_an_empty_variable_is_none(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
        with pytest.raises(UserError, match=address):
            preflight()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    preflight()


def test_the_stage_code_checks_before_it_writes(root: Path) -> None:
    set_params("data", path="data")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stages", "code", "reports/digests"]
    ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: params.yaml: data.path: ")
    assert not Path("reports").exists()
