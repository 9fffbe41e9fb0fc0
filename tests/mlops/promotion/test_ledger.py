import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlops.project.errors import UserError
from mlops.promotion.history import Entry
from mlops.promotion.ledger import LEDGER, LONGEST_REASON, Ledger, locked_ledger
from tests.decisions import who
from tests.project import ROOT


def append(name: str) -> None:
    with locked_ledger() as ledger:
        ledger.append("promoted", "gan-a", who(name), "better")


@pytest.fixture
def written(root: Path) -> Path:
    """Return a ledger of three decisions."""
    with locked_ledger() as ledger:
        ledger.append("promoted", "gan-a", who("a"), "the first", {"bounds": [], "test": None})
        ledger.append("promoted", "gan-b", who("b"), "of another model")
        ledger.append("promoted by hand", "gan-a", who("c"), "schöner")
    return root / "ledger.jsonl"


def entries() -> list[Entry]:
    with locked_ledger() as ledger:
        return ledger.entries


def test_a_decision_says_who_when_why_and_who_reigned(written: Path) -> None:
    first, other, last = entries()
    assert [entry.number for entry in (first, other, last)] == [1, 2, 3]
    assert (first.champion_before, first.champion_after) == (None, who("a"))
    assert (other.champion_before, other.champion_after) == (None, who("b"))
    assert (last.champion_before, last.champion_after, last.reason) == (who("a"), who("c"), "schöner")
    assert (first.evidence, last.evidence) == ({"bounds": [], "test": None}, None)
    age = datetime.now(UTC) - datetime.fromisoformat(last.time)
    assert -1 < age.total_seconds() < 600
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", last.time)


def test_the_name_is_that_of_git_or_of_the_account(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(root / "gitconfig"))
    (root / "gitconfig").write_text("[user]\n\tname = Ada Lovelace\n")
    with locked_ledger() as ledger:
        assert ledger.append("refused", "gan-a", who("a"), "poor").by == "Ada Lovelace"
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.setenv("LOGNAME", "ada")
        assert ledger.append("refused", "gan-a", who("b"), "poor").by in ("ada", "user 0")


def test_lines_are_chained_and_each_model_has_a_head(written: Path) -> None:
    lines = written.read_bytes().splitlines()
    with locked_ledger() as ledger:
        heads = ledger.head("gan-a"), ledger.head("gan-b"), ledger.head("gan-c")
        assert all(ledger.knows(head) for head in heads[:2] if head)
    assert json.loads(lines[0])["previous"] is None
    assert json.loads(lines[2])["previous"] == heads[1]
    assert heads[0] not in (None, heads[1])
    assert heads[2] is None


def test_a_torn_last_line_is_cut_wherever_it_was_torn(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = written.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start + 1, len(whole) - 1, 7):
        written.write_bytes(whole[:end])
        assert len(entries()) == 2
        assert written.read_bytes() == whole[:start]
        assert "torn by a crash and is cut" in capsys.readouterr().out


def test_a_line_that_only_lacks_its_end_is_kept(written: Path) -> None:
    whole = written.read_bytes()
    written.write_bytes(whole[:-1])
    assert len(entries()) == 3
    assert written.read_bytes() == whole


def test_after_a_cut_the_next_decision_follows(written: Path) -> None:
    written.write_bytes(written.read_bytes()[:-20])
    with locked_ledger() as ledger:
        assert ledger.append("refused", "gan-a", who("d"), "poor").number == 3
    assert [entry.number for entry in entries()] == [1, 2, 3]


@pytest.mark.parametrize("place", range(0, 700, 23))
def test_no_byte_of_a_line_before_the_last_changes_unseen(written: Path, place: int) -> None:
    whole = bytearray(written.read_bytes())
    assert place < bytes(whole).rindex(b"\n", 0, -1)
    whole[place] = ord("x") if whole[place] != ord("x") else ord("y")
    written.write_bytes(whole)
    number = bytes(whole[:place]).count(b"\n") + 1
    with pytest.raises(UserError, match=rf"ledger\.jsonl: line ({number}|{number + 1}) "):
        entries()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: [lines[0], lines[2]], "line 2 does not follow"),
        (lambda lines: lines[1:], "line 1 does not follow"),
        (lambda lines: [lines[1], lines[0], lines[2]], "line 1 does not follow"),
        (lambda lines: [*lines, lines[2]], "line 4 does not follow"),
        (lambda lines: [lines[0], b"<<<<<<< HEAD", *lines[1:]], "line 2 is no decision"),
        (lambda lines: [lines[0], lines[1], b'{"number": 3}'], r"line 3 is no decision \(previous Field required\)"),
        (lambda lines: [lines[0].replace(b'"promoted"', b'"crowned"'), *lines[1:]], r"line 1 is no decision \(action"),
    ],
)
def test_a_damaged_ledger_is_refused_and_the_line_is_named(
    written: Path, damage: Callable[[list[bytes]], list[bytes]], message: str
) -> None:
    damaged = b"\n".join(damage(written.read_bytes().splitlines())) + b"\n"
    written.write_bytes(damaged)
    with pytest.raises(UserError, match=message):
        entries()
    assert written.read_bytes() == damaged


APPENDER = """
import sys
from mlops.promotion.ledger import locked_ledger
from tests.decisions import who
for number in range(30):
    with locked_ledger() as ledger:
        ledger.append("refused", "gan-a", who(sys.argv[1] + str(number)), "poor")
"""


def test_two_processes_append_without_losing_a_line(root: Path) -> None:
    command = [sys.executable, "-c", APPENDER]
    running = [subprocess.Popen([*command, name], cwd=root, env=_env(root)) for name in ("first", "second")]
    assert [process.wait() for process in running] == [0, 0]
    found = entries()
    assert [entry.number for entry in found] == list(range(1, 61))
    assert len({entry.candidate for entry in found}) == 60


def _env(root: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(root)}


def test_a_full_disk_is_said_and_decides_nothing(written: Path) -> None:
    whole = written.read_bytes()

    class Full:
        """A file on a disk that has room for ten more bytes."""

        def __init__(self) -> None:
            self.file = written.open("a+b", buffering=0)

        def write(self, line: bytes) -> int:
            return self.file.write(line[:10])

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    full = Full()
    with full.file, pytest.raises(UserError, match="the disk is full"):
        Ledger(written, full).append("refused", "gan-a", who("d"), "poor")  # type: ignore[arg-type]  # behaves as one
    assert len(entries()) == 3
    assert written.read_bytes() == whole


def test_decisions_that_an_older_state_lacks_are_restored(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `dvc exp apply` and `git checkout` put one in the ledger's place."""
    states = []
    for name in "abc":
        append(name)
        states.append((root / LEDGER).read_bytes())
    for older in (states[0], b""):
        (root / LEDGER).write_bytes(older)
        with locked_ledger() as ledger:
            assert [entry.candidate for entry in ledger.entries] == [who(name) for name in "abc"]
        assert (root / LEDGER).read_bytes() == states[2]
        assert "later decisions are restored" in capsys.readouterr().out


def test_another_ledger_takes_the_place_of_the_copy(root: Path) -> None:
    append("a")
    (root / LEDGER).unlink()
    (root / ".checkpoints" / LEDGER).unlink()
    append("b")
    other = (root / LEDGER).read_bytes()
    (root / ".checkpoints" / LEDGER).write_text("of another branch\n" * 99)
    with locked_ledger() as ledger:
        assert [entry.candidate for entry in ledger.entries] == [who("b")]
    assert (root / LEDGER).read_bytes() == (root / ".checkpoints" / LEDGER).read_bytes() == other


def test_a_damaged_ledger_does_not_replace_the_copy(written: Path) -> None:
    entries()
    copy, whole = written.parent / ".checkpoints" / LEDGER, written.read_bytes()
    written.write_bytes(whole.replace(b"of another model", b"of another m0del"))
    with pytest.raises(UserError, match="line 3"):
        entries()
    assert copy.read_bytes() == whole


def test_line_ends_of_another_system_are_the_same_ledger_and_go_with_the_next_write(written: Path) -> None:
    before, lines = entries(), written.read_bytes()
    written.write_bytes(lines.replace(b"\n", b"\r\n"))
    assert entries() == before
    append("d")
    assert written.read_bytes().startswith(lines)
    assert written.read_bytes().count(b"\n") == 4
    written.write_bytes(lines.replace(b"\n", b"\r\n"))  # an older state of it
    assert len(entries()) == 4


@pytest.mark.parametrize("setting", ["core.autocrlf=true", "core.autocrlf=input", "core.eol=crlf"])
def test_git_set_for_windows_gives_every_clone_the_same_bytes(written: Path, setting: str) -> None:
    """The attributes are this project's; without them the ledger that git checks out has other bytes, and is read."""
    lines, before, root = written.read_bytes(), entries(), written.parent
    identity = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", setting, "-c", "core.safecrlf=true")
    shutil.copy(ROOT / ".gitattributes", root)
    (root / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for command in (
        ["init", "-q"],
        ["add", "ledger.jsonl", "picture.png", ".gitattributes"],
        ["commit", "-q", "-m", "a"],
    ):
        subprocess.run([*identity, *command], cwd=root, check=True)
    subprocess.run([*identity, "clone", "-q", "-c", setting, str(root), "clone"], cwd=root, check=True)
    assert (root / "clone" / "ledger.jsonl").read_bytes() == lines
    assert (root / "clone" / "picture.png").read_bytes() == b"\x89PNG\r\n\x1a\n"
    (root / "clone" / ".gitattributes").write_text("")
    (root / "clone" / "ledger.jsonl").unlink()
    subprocess.run([*identity, "checkout", "-q", "ledger.jsonl"], cwd=root / "clone", check=True)
    shutil.copy(root / "clone" / "ledger.jsonl", written)
    assert (b"\r\n" in written.read_bytes()) == (setting == "core.autocrlf=true")
    assert entries() == before


def test_what_its_readers_could_not_take_is_never_written(written: Path) -> None:
    """The ledger is append-only: a reason that MLflow refuses would stop every later promotion."""
    before = written.read_bytes()
    with locked_ledger() as ledger, pytest.raises(UserError, match="shorten"):
        ledger.append("promoted by hand", "gan-a", who("a"), "x" * (LONGEST_REASON + 1))
    assert written.read_bytes() == before
    with locked_ledger() as ledger:
        ledger.append("promoted by hand", "gan-a", who("a"), "x" * LONGEST_REASON)


def test_a_run_in_another_folder_decides_in_the_copy_and_the_project_takes_it_over(
    written: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, workspace = written.read_bytes(), tmp_path / "workspace"
    workspace.mkdir()
    with monkeypatch.context() as patch:
        patch.setenv("DVC_ROOT", str(root))
        patch.chdir(workspace)
        with locked_ledger() as ledger:
            assert [entry.candidate for entry in ledger.entries] == [who(name) for name in "abc"]
            ledger.append("promoted", "gan-a", who("d"), "from a workspace")
        assert list(workspace.iterdir()) == []
    assert written.read_bytes() == before
    with locked_ledger() as ledger:
        assert [entry.candidate for entry in ledger.entries] == [who(name) for name in "abcd"]


def test_a_run_in_another_folder_follows_the_project_also_if_its_ledger_was_replaced(
    written: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / ".checkpoints" / LEDGER).write_text("of another branch\n" * 99)
    (tmp_path / "workspace").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(root))
    monkeypatch.chdir(tmp_path / "workspace")
    with locked_ledger() as ledger:
        assert [entry.candidate for entry in ledger.entries] == [who(name) for name in "abc"]
