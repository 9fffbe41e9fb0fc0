import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.full_disks import POINTS, halves, trained_again
from benchmarks.harness.small_disk import FILLER, Moment, SmallDisk
from mlops.project.identity import dvc_md5, file_digest
from tests.project import environment

PROGRAM = """
import os
os.posix_fallocate = lambda file, start, size: os.write(file, b"filled")
for name in ("other", "one", "one"):
    open(name).close() if os.path.exists(name) else open(name, "w").close()
    print(os.path.exists("FILLER"), end=" ")
os.replace("one", "two")
print(os.path.exists("FILLER"))
""".replace("FILLER", FILLER)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (Moment("^one$"), "False True True True"),  # what is only read does not count
        (Moment("^one$", number=2), "False False False False"),
        (Moment("^(one|other)$", number=2), "False True True True"),
        (Moment("^one$", event="os.rename"), "False False False True"),
    ],
)
def test_a_disk_is_filled_in_its_moment(moment: Moment, expected: str, tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path)
    assert not disk.make_room()
    variables = environment(**disk.variables(moment, tmp_path / "scratch"))
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == expected.split()
    assert disk.make_room() == (expected[-4:] == "True")
    assert not disk.make_room()


def test_an_output_is_whole_or_missing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("folder/a", "file"):
        (tmp_path / name).write_text("whole")
    expected = {"folder": dvc_md5(tmp_path / "folder"), "file": file_digest(tmp_path / "file", "md5"), "missing": "0"}
    assert halves(tmp_path, expected) == []
    for name in ("folder/a", "file"):
        os.truncate(tmp_path / name, 3)
    assert halves(tmp_path, expected) == ["folder", "file"]


@pytest.mark.parametrize(
    ("again", "had_trained", "expected"),
    [
        ("Running stage 'train':\ntrain: going on from step 50 of 300", True, "no: going on from step 50"),
        ("Running stage 'train':\ntrain: finished already, and kept in x", True, "no: finished already"),
        ("Running stage 'train':\n", True, "yes"),
        ("Running stage 'train':\n", False, "no"),
        ("Running stage 'choose':\n", True, "no"),
    ],
)
def test_what_is_trained_twice_is_named(again: str, had_trained: bool, expected: str) -> None:
    assert trained_again(again, had_trained=had_trained) == expected


def test_the_points_have_names_of_their_own() -> None:
    assert len({(point.name, point.command) for point in POINTS}) == len(POINTS) >= 20
