import shutil
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


def test_a_folder_of_a_repository_is_cloned_with_its_part_of_the_patch(tmp_path: Path, project: Path) -> None:
    shutil.rmtree(project / ".git")
    (tmp_path / "other.txt").write_text("1\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a"]):
        git(tmp_path, *command)
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    (project / "params.yaml").write_text("data: {path: null}\nextractor: {weights: null}\ntrain: {rate: 3.0}\n")
    (tmp_path / "other.txt").write_text("2\n")
    patch = tmp_path / "changes.patch"
    patch.write_text(git(tmp_path, "diff"))  # of both, as lineages from before have it
    folder = clone(project, tmp_path / "place", commit, patch)
    assert folder == tmp_path / "place" / "project"
    assert YAML(typ="safe").load(folder / "params.yaml")["train"] == {"rate": 3.0}
    assert (tmp_path / "place" / "other.txt").read_text() == "1\n"
    git(tmp_path, "mv", "-f", "project/params.yaml", "params.yaml")
    git(tmp_path, "commit", "-q", "-m", "b")
    with pytest.raises(UserError, match=r"project/params\.yaml"):
        clone(project, tmp_path / "again", "HEAD", patch)


def test_git_in_the_variables_of_another_repository_leaves_that_alone(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, patch = git(project, "rev-parse", "HEAD").strip(), tmp_path / "changes.patch"
    patch.write_bytes(b"")
    git(tmp_path, "clone", "-q", str(project), str(tmp_path / "mine"))
    files = [path for path in (tmp_path / "mine").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    for name, path in (("GIT_DIR", ".git"), ("GIT_WORK_TREE", "."), ("GIT_INDEX_FILE", ".git/index")):
        monkeypatch.setenv(name, str(tmp_path / "mine" / path))
    require_commit(commit, project)
    folder = clone(project, tmp_path / "place", commit, patch)
    assert (folder / ".git" / "HEAD").read_text().strip() == commit
    assert {path: path.read_bytes() for path in files} == before


def test_a_linked_worktree_is_cloned(project: Path, tmp_path: Path) -> None:
    git(project, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    (tmp_path / "linked" / "new.txt").write_text("1")
    git(tmp_path / "linked", "add", ".")
    git(tmp_path / "linked", "commit", "-q", "-m", "b")
    commit, patch = git(tmp_path / "linked", "rev-parse", "HEAD").strip(), tmp_path / "changes.patch"
    patch.write_bytes(b"")
    assert (clone(tmp_path / "linked", tmp_path / "place", commit, patch) / "new.txt").exists()


def test_a_project_without_git_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="git init"):
        require_commit("0" * 40, tmp_path)
