import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from mlops.project.errors import UserError
from mlops.provenance.clone import clone, new_place, require_commit


def git(place: Path, *command: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", "-C", str(place), *identity, *command], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project under git with one commit."""
    files = {
        "params.yaml": "data: {path: null}\nextractor: {weights: null}\ntrain: {rate: 1.0e-6}\n",
        "dvc.lock": "stages: {}\n",
        ".dvc/config": "[core]\n",
    }
    for name, text in files.items():
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).write_text(text)
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a"]):
        git(tmp_path / "project", *command)
    return tmp_path / "project"


def test_a_clone_has_commit_and_patch_absolute_data_paths_and_no_lock(project: Path, tmp_path: Path) -> None:
    commit = git(project, "rev-parse", "HEAD").strip()
    (project / "params.yaml").write_text(
        "data: {path: pictures}\nextractor: {weights: /inception.pth}\ntrain: {rate: 2.0e-6}\n"
    )
    patch = tmp_path / "changes.patch"
    patch.write_text(git(project, "diff"))
    git(project, "commit", "-q", "-a", "-m", "later")
    place = new_place(str(tmp_path / "place"))
    clone(project, place, commit, patch)
    assert git(place, "rev-parse", "HEAD").strip() == commit
    assert not (place / "dvc.lock").exists()
    assert YAML(typ="safe").load(place / "params.yaml") == {
        "data": {"path": str(project / "pictures")},
        "extractor": {"weights": "/inception.pth"},
        "train": {"rate": 2e-6},
    }


def test_a_patch_of_another_commit_is_an_error(project: Path, tmp_path: Path) -> None:
    patch = tmp_path / "changes.patch"
    patch.write_text("--- a/params.yaml\n+++ b/params.yaml\n@@ -1 +1 @@\n-other\n+mine\n")
    with pytest.raises(UserError, match=r"git apply .*place"):
        clone(project, tmp_path / "place", "HEAD", patch)


def test_a_commit_that_git_lacks_is_an_error_with_the_remedy(project: Path) -> None:
    require_commit(git(project, "rev-parse", "HEAD").strip(), project)
    with pytest.raises(UserError, match="0" * 40):
        require_commit("0" * 40, project)


def test_a_folder_that_holds_something_is_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert new_place(str(tmp_path / "empty")) == tmp_path / "empty"
    for taken in (project, project / "params.yaml"):
        with pytest.raises(UserError, match=str(taken)):
            new_place(str(taken))
