"""What DVC answers on imported images, and versions that it brings back."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prefect.logging import disable_run_logger

from flows.failure import StageFailedError
from flows.retraining.images import brought_back, former, update

PATHS = {"prepared": "data/prepared", "extractor": "models/extractor"}


def dvc(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True, capture_output=True)


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder from which the working directory has imported its images."""
    source = tmp_path / "bucket"
    source.mkdir()
    (source / "1.png").write_text("first")
    home = tmp_path / "project"
    home.mkdir()
    monkeypatch.chdir(home)
    dvc("init", "--no-scm")
    dvc("import-url", str(source), "images")
    Path("params.yaml").write_text("data: {name: folder, path: images}")
    return source


def test_an_import_follows_its_source_and_its_former_version_comes_back(imported: Path) -> None:
    before = yaml.safe_load(Path("images.dvc").read_text())["outs"][0]
    assert update() == ""
    (imported / "2.png").write_text("second")
    (imported / "1.png").unlink()
    assert update() == "images.dvc"
    assert [path.name for path in Path("images").iterdir()] == ["2.png"]
    with brought_back({"prepared": before}) as folder:
        assert [path.read_text() for path in (folder / "prepared").iterdir()] == ["first"]
    assert not folder.exists()


def test_what_a_person_has_added_to_an_import_is_never_deleted(imported: Path) -> None:
    Path("images/mine.png").write_text("mine")
    (imported / "2.png").write_text("second")
    with pytest.raises(StageFailedError, match=r"images.dvc.*dvc checkout --force images.dvc"):
        update()
    assert Path("images/mine.png").read_text() == "mine"


def test_a_source_that_is_gone_is_an_error_with_the_remedy(imported: Path) -> None:
    (imported / "1.png").unlink()
    imported.rmdir()
    with pytest.raises(StageFailedError, match=r"images.dvc: its source cannot be read .*credentials"):
        update()


@pytest.mark.parametrize("path", ["null", "images", "/nowhere/else"])
def test_images_that_dvc_does_not_track_need_no_update(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(f"data: {{path: {path}}}")
    with disable_run_logger():
        assert update() == ""


def test_the_former_version_is_what_went_to_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert former(PATHS) == {}
    entries = {name: {"path": path, "md5": f"{name}.dir"} for name, path in PATHS.items()}
    others = {name: entry | {"md5": "of a training that did not end"} for name, entry in entries.items()}
    stages = {
        "train": {"deps": [others["prepared"]]},
        "evaluate": {"deps": [entries["extractor"]]},
        "register": {"deps": [entries["prepared"]]},
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    assert former(PATHS) == entries
    del stages["register"]
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    assert former(PATHS) == {}
