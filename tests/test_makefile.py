"""What a user types after `make` arrives, and only a virtual environment that was moved is made anew."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import ROOT

ODD = "my $5 `x` $$ $(shell touch made) \"q\" 'q' #1 %20 ü & ; \\ *"
Make = Callable[..., list[list[str]]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that runs make in a folder with an odd name; it gives the calls of Python that make made."""
    folder = tmp_path / "o d'd\"#?%20$x&ü"
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for python in (programs / "python", folder / "python3.11"):
        python.write_text('#!/bin/sh\nprintf "%s\\0" "$@" >>calls; echo >>calls\n')
        python.chmod(0o755)
    for name in ("Makefile", "requirements.lock"):
        (folder / name).write_bytes((ROOT / name).read_bytes())

    def run(*arguments: str, place: str = f"{folder}/.venv") -> list[list[str]]:
        (folder / ".venv" / "pyvenv.cfg").write_text(f"command = /bin/python3.11 -m venv --clear {place}\n")
        (folder / "calls").write_text("")
        environment = os.environ | {"PATH": f"{folder}:/usr/bin:/bin"}
        ended = subprocess.run(
            ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        assert not (folder / "made").exists()
        return [line.split("\0")[:-1] for line in (folder / "calls").read_text().splitlines()]

    return run


def pins(text: str) -> dict[str, str]:
    """Return each package's version, its name as indexes have it."""
    found = re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def test_what_is_installed_is_locked_by_hashes() -> None:
    asked, lock = ((ROOT / name).read_text() for name in ("requirements.txt", "requirements.lock"))
    assert pins(asked).items() <= pins(lock).items(), "type `make lock`"
    assert len(pins(lock)) > 200
    entries = [entry for entry in re.split(r"^(?=\w)", lock, flags=re.MULTILINE) if re.match(r"\w", entry)]
    assert all(re.search("--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    commands = re.findall(r"\$\(BIN\)/python -m pip install(?:.*\\\n)*.*", (ROOT / "Makefile").read_text())
    assert len(commands) == 2
    assert all("--require-hashes" in command for command in commands)


@pytest.mark.parametrize("value", [ODD, "-rf", "~/pictures"])
def test_values_arrive_unchanged(make: Make, value: str) -> None:
    preset = make("preset", "READY=", "NAME=images-32", f"DATA={value}")
    assert preset == [["-m", "commands.preset", "--", "images-32", value]]
    rebuild = make("rebuild", "READY=", f"MODEL={value}", f"FOLDER={value}")
    assert rebuild == [["-m", "commands.rebuild", "--", value, value]]
    assert make("preset", "READY=", "NAME=a") == [["-m", "commands.preset", "--", "a"]]
    assert make("rebuild", "READY=") == [["-m", "commands.rebuild", "--", "champion"]]


def test_an_environment_is_made_once_and_again_if_it_was_moved(make: Make) -> None:
    assert [call[1] for call in make("run")] == ["pip", "pip", "pip", "flows"]  # the first asks whether it is there
    assert make("run") == [["-m", "flows"]]
    moved = make("run", place="/elsewhere/.venv")
    assert moved[0] == ["-m", "venv", "--clear", ".venv"]
    assert [call[1] for call in moved] == ["venv", "pip", "pip", "flows"]
    assert make("run") == [["-m", "flows"]]
