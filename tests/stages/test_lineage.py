import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages.lineage import code_sha256, dvc_md5, git_commit, identity_tags, project_root


def test_dvc_md5_is_that_of_dvc(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "x.txt").write_bytes(b"two")
    (folder / "b-a.txt").write_bytes(b"one")
    for command in (["init", "-q", "--no-scm"], ["add", "-q", "data"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True)
    (out,) = yaml.safe_load((tmp_path / "data.dvc").read_text())["outs"]
    assert dvc_md5(folder) == out["md5"]


def test_dvc_md5_changes_with_a_name_and_with_a_byte(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    first = dvc_md5(tmp_path)
    (tmp_path / "a").rename(tmp_path / "c")
    second = dvc_md5(tmp_path)
    (tmp_path / "c").write_bytes(b"onf")
    assert len({first, second, dvc_md5(tmp_path)}) == 3


def test_another_line_of_code_is_another_digest(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    first = code_sha256(tmp_path)
    (tmp_path / "notes.txt").write_text("not code")
    assert code_sha256(tmp_path) == first
    (tmp_path / "a.py").write_text("x = 2\n")
    assert code_sha256(tmp_path) != first


def test_the_commit_says_when_the_tree_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert git_commit() == ""
    (tmp_path / "a").write_text("1")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "a"], ["commit", "-q", "-m", "a"]):
        subprocess.run([*git, *command], check=True)
    clean = git_commit()
    assert len(clean) == 40
    (tmp_path / "a").write_text("2")
    assert git_commit() == f"{clean}-dirty"


def test_an_experiment_in_a_copy_belongs_to_the_original_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert project_root() == tmp_path.resolve()
    monkeypatch.delenv("DVC_ROOT")
    assert project_root() == Path.cwd()


def test_only_what_is_known_becomes_a_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "calm-owl")
    monkeypatch.delenv("EQUILIBRIUM_FLOW_RUN_ID", raising=False)
    tags = identity_tags()
    assert tags["dvc.experiment"] == "calm-owl"
    assert "prefect.flow_run_id" not in tags
