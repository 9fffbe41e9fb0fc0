import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import stages.__main__
from mlops.project.errors import UserError

ROOT = Path(__file__).parents[2]


def typed(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a stage as DVC does."""
    command = [sys.executable, "-m", "stages", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_an_error_of_the_user_is_one_message_without_a_traceback(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text().replace("steps: ", "stepz: ")
    (tmp_path / "params.yaml").write_text(text)
    ended = typed("fetch", "raw", folder=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: params.yaml: ")
    assert "train.stepz" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "raw").exists()


def test_an_unknown_stage_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    ended = typed("tarin", folder=tmp_path)
    assert ended.returncode == 1
    assert "'tarin'" in ended.stderr
    assert ", ".join(stages.__main__.STAGES) in ended.stderr


@pytest.mark.parametrize("paths", [(), ("a", "b")])
def test_a_stage_without_its_paths_is_refused(paths: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    ended = typed("fetch", *paths, folder=tmp_path)
    assert ended.returncode == 1
    assert "dvc repro fetch" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_stages_that_train_or_score_occupy_a_slot() -> None:
    functions = {name: stages.__main__.stage_function(name) for name in stages.__main__.STAGES}
    occupying = {name for name, function in functions.items() if "execution" in stages.__main__.sections(function)}
    assert occupying == {"train", "replicate", "evaluate"}


def test_digests_of_code_need_no_parameters(tmp_path: Path) -> None:
    assert typed("code", "digests", folder=tmp_path).returncode == 0
    assert {path.stem for path in (tmp_path / "digests").iterdir()} == set(stages.__main__.STAGES)


def test_a_stage_imports_only_what_it_uses(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    program = (
        "import sys; from stages.__main__ import main; main('fetch', 'raw'); main('prepare', 'raw', 'prepared'); "
        "print(sorted({'torch', 'mlflow', 'prefect', 'dvc'} & sys.modules.keys()))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines()[-1] == "[]"


def test_a_full_disk_is_said_whatever_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def stage(_: str) -> Callable[..., None]:
        return full

    monkeypatch.setattr(stages.__main__, "stage_function", stage)
    with pytest.raises(UserError, match=str(ROOT)):
        stages.__main__.main("train", str(tmp_path))
