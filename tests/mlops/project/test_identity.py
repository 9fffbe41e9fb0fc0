import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import mlops.project.identity
from mlops.project.errors import UserError
from mlops.project.identity import (
    GIT_LOCATION,
    WorkingTree,
    dvc_md5,
    git_commit,
    identity_tags,
    located,
    project_root,
    working_tree,
)


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


@pytest.mark.parametrize(
    ("runs", "large", "recorded", "read"),
    [
        ("train", 1, 3, True),
        ("train", 10**6, 3, False),  # hashing it costs nothing
        ("train", 1, 4, False),  # another folder, or another time
        (None, 1, 3, False),  # nobody hashed it a moment ago
    ],
)
def test_the_md5_of_a_large_folder_is_read_where_dvc_has_just_hashed_it(
    runs: str | None, large: int, recorded: int, read: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlops.project.identity, "LARGE", large)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    if runs:
        monkeypatch.setenv("DVC_STAGE", runs)
    folder = Path("data/prepared")
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(b"one")
    outs = [
        {"path": "data/raw", "md5": "raw.dir", "size": 3},
        {"path": "data/prepared", "md5": "known.dir", "size": recorded},
    ]
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {"prepare": {"outs": outs}, "none": {}}}))
    assert (dvc_md5(folder) == "known.dir") == read
    Path("dvc.lock").unlink()
    assert dvc_md5(folder) != "known.dir"


def git(*command: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *command], check=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder under git, with a commit; it is the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "dvc.lock", "ledger.jsonl", "reports/ledger.jsonl"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "a")
    return tmp_path


def test_the_commit_says_when_the_tree_differs(repository: Path) -> None:
    clean = git_commit()
    assert len(clean) == 40
    (repository / "a.txt").write_text("2")
    assert git_commit() == f"{clean}-dirty"
    git("add", "a.txt")
    assert git_commit() == f"{clean}-dirty"


def test_what_the_pipeline_writes_by_itself_makes_nothing_dirty(repository: Path) -> None:
    clean = git_commit()
    for name in ("dvc.lock", "ledger.jsonl", "reports/ledger.jsonl", "untracked.txt"):
        (repository / name).write_text("2\n")
    assert (working_tree().patch, git_commit()) == (b"", clean)


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert git_commit() == ""
    with pytest.raises(UserError, match="git init"):
        working_tree()
    git("init", "-q")
    with pytest.raises(UserError, match="git commit"):
        working_tree()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="install"):
        working_tree()


def test_git_in_its_own_variables_works_on_the_repository_of_the_folder(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = git_commit()
    other = tmp_path_factory.mktemp("other")
    git("init", "-q", str(other))
    for name, path in (("GIT_DIR", ".git"), ("GIT_WORK_TREE", "."), ("GIT_INDEX_FILE", ".git/index")):
        monkeypatch.setenv(name, str(other / path))
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    (repository / "ledger.jsonl").write_text("2\n")
    assert working_tree() == WorkingTree(clean, b"", ())
    listed = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True)
    settings = {"GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT"}  # a person's, such as safe.directory
    assert set(listed.stdout.split()) - settings <= GIT_LOCATION


def test_a_repository_of_another_owner_comes_with_the_remedy(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UserError, match=rf"safe\.directory '{repository}'"):
        working_tree()
    assert git_commit() == ""


def test_in_a_folder_of_a_repository_only_that_folder_counts(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "a.txt").write_text("2\n")
    monkeypatch.chdir(repository / "reports")
    assert working_tree().patch == b""
    git("mv", "ledger.jsonl", "b.txt")
    assert working_tree().patch.splitlines()[0] == b"diff --git a/reports/b.txt b/reports/b.txt"
    assert working_tree().commit.endswith("-dirty")


@pytest.mark.parametrize("key", ["diff.noprefix", "diff.mnemonicPrefix", "diff.relative", "color.ui"])
def test_the_patch_makes_the_tree_again_however_git_is_set(repository: Path, key: str) -> None:
    wanted = {"a.txt": "zwei\n".encode("utf-16"), "new.bin": bytes(range(256)), "dvc.lock": b"1\n"}
    for name, content in wanted.items():
        (repository / name).write_bytes(content)
    (repository / "reports" / "ledger.jsonl").unlink()
    git("add", "new.bin")
    git("config", key, "always" if key == "color.ui" else "true")
    (repository / "changes.patch").write_bytes(working_tree().patch)
    git("stash", "-q")
    git("apply", "changes.patch")
    assert {name: (repository / name).read_bytes() for name in wanted} == wanted


def test_code_that_git_does_not_know_is_named(repository: Path) -> None:
    for name in ("gan_core/new.py", "stages/newer.py", "stages/ignored.py", "notes.py", "stages/notes.txt"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text("")
    (repository / ".gitignore").write_text("ignored.py\n")
    assert working_tree().untracked == ("gan_core/new.py", "stages/newer.py")


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


@pytest.mark.parametrize(
    "path",
    ["", " ", "~nosuchuser/x", "x" * 300, "y/" * 2500, "a\0b"],
    ids=["empty", "blank", "user", "name", "long", "NUL"],
)
def test_a_path_that_no_file_can_have_is_refused_with_its_parameter(path: str) -> None:
    with pytest.raises(UserError, match=r"params: data\.path"):
        located(path, "params: data.path")


def test_a_device_a_pipe_and_a_socket_are_refused_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(tmp_path):
        listener.bind("socket")
        for path in (tmp_path / "pipe", tmp_path / "link", tmp_path / "socket", "/dev/zero", "/dev/null"):
            with pytest.raises(UserError, match=r"data\.path: .*(pipe|socket|device)"):
                located(str(path), "params: data.path")


def test_a_path_starts_at_the_project_or_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert located("~/photos", "DATA") == tmp_path / "photos"
    assert located("photos", "DATA") == project_root() / "photos"
    assert located("/photos", "DATA") == Path("/photos")
