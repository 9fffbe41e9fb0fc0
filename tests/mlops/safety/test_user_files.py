import hashlib
import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from dvc_objects.fs.utils import tmp_fname

from mlops.project.errors import UserError
from mlops.safety import pipelines, user_files
from mlops.safety.pipelines import DENSITIES, MAIN, stage_outputs
from mlops.safety.user_files import OWN, check_outputs, check_sources, check_target
from mlops.safety.written_files import note_written

ROOT = Path(__file__).parents[3]
OF_MAIN, OF_DENSITIES = (
    [path for paths in stage_outputs(ROOT / pipeline).values() for path in paths] for pipeline in (MAIN, DENSITIES)
)
OUTPUTS = [*OF_MAIN, *OF_DENSITIES]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty project with the two pipelines."""
    project = tmp_path / "project"
    for pipeline in (MAIN, DENSITIES):
        (project / pipeline).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / pipeline, project / pipeline)
    monkeypatch.chdir(project)
    monkeypatch.setenv("DVC_ROOT", str(project))
    for module in (pipelines, user_files):
        monkeypatch.setattr(module, "cache_folder", lambda: project / ".dvc" / "cache" / "files" / "md5")
    return project


def is_refused(path: Path | str, section: str = "data", key: str = "path") -> bool:
    with suppress(UserError):
        check_sources({section: {key: str(path)}})
        return False
    return True


@pytest.mark.parametrize("place", [*OUTPUTS, *map(Path, OWN)], ids=str)
def test_a_source_at_below_or_above_a_place_of_the_project_is_refused(place: Path, root: Path) -> None:
    for path in (place, place / "mine" / "a", place.parent / "." / place.name, Path("x") / ".." / place, root / place):
        assert is_refused(path), path
        assert is_refused(path, "extractor", "weights"), path
    for around in (*place.parents, root, *root.parents):
        assert is_refused(around), around
    assert is_refused("")
    for path in (place.with_name("mine"), place.with_name(f"{place.name}-mine"), root.parent / "mine"):
        assert not is_refused(path), path


@pytest.mark.parametrize("place", OUTPUTS, ids=str)
def test_links_into_an_output_and_outputs_that_are_links_are_followed(place: Path, root: Path) -> None:
    elsewhere = root.parent / "disk"
    (elsewhere / "mine").mkdir(parents=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(elsewhere)
    Path("photos").symlink_to(place / "mine")
    (root.parent / "again").symlink_to(root / "photos")
    for path in (elsewhere, elsewhere / "mine", "photos", root.parent / "again"):
        assert is_refused(path), path


def test_a_home_folder_around_the_project_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    assert is_refused("~")
    assert is_refused("~/project/data/raw")
    assert not is_refused("~/pictures")


@pytest.mark.parametrize(
    "values", [{}, {"data": None}, {"data": "path"}, {"data": {"path": None}}, {"data": {"path": 3}}]
)
def test_what_is_no_path_is_left_to_the_check_of_parameters(values: dict[str, object]) -> None:
    check_sources(values)


def test_new_folders_of_a_person_may_be_in_generated_alone() -> None:
    check_target(Path("generated/digits"))
    check_target(Path("../elsewhere"))
    for place in (*OUTPUTS, *(Path(name) for name in OWN if name != "generated")):
        with pytest.raises(UserError):
            check_target(place / "new")


@pytest.mark.parametrize("place", OF_MAIN, ids=str)
def test_a_file_in_an_output_that_no_stage_wrote_is_named(place: Path) -> None:
    file = place if place.suffix else place / "mine" / "a.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    with pytest.raises(UserError, match=str(file)):
        check_outputs(MAIN)
    assert file.read_bytes() == b"x"
    note_written(place)
    check_outputs(MAIN)
    file.write_bytes(b"changed")
    with pytest.raises(UserError, match=str(file)):
        check_outputs(MAIN)


def test_a_change_of_same_length_and_a_link_are_seen(root: Path) -> None:
    folder = Path("data/raw")
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(b"1")
    note_written(folder)
    (folder / "a").write_bytes(b"2")
    os.utime(folder / "a", ns=(0, 0))
    with pytest.raises(UserError, match="data/raw/a"):
        check_outputs(MAIN)
    note_written(folder)
    (folder / "photos").symlink_to(root.parent)
    with pytest.raises(UserError, match="data/raw/photos"):
        check_outputs(MAIN)


def test_what_the_lock_records_is_ours_and_so_is_what_the_cache_has_under_a_name_of_the_lock(root: Path) -> None:
    old, new = b"old", b"new"
    listing = json.dumps([{"md5": hashlib.md5(new).hexdigest(), "relpath": "images.tar"}]).encode()
    md5 = hashlib.md5(listing).hexdigest() + ".dir"
    for content, name in ((listing, md5), (old, hashlib.md5(old).hexdigest())):
        cached = pipelines.cache_folder() / name[:2] / name[2:]
        cached.parent.mkdir(parents=True)
        cached.write_bytes(content)
    Path("dvc.lock").write_text(json.dumps({"stages": {"fetch": {"outs": [{"path": "data/raw", "md5": md5}]}}}))
    Path("data/raw").mkdir(parents=True)
    for content in (new, old):
        Path("data/raw/images.tar").write_bytes(content)
        check_outputs(MAIN)
    for name, content in (("images.tar", b"mine"), ("copy.tar", old)):
        Path("data/raw", name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            check_outputs(MAIN)
        Path("data/raw/images.tar").write_bytes(new)


def test_what_a_kill_leaves_between_the_cache_and_the_lock_of_dvc_is_ours() -> None:
    """DVC moves an output into its cache, puts a copy in its place, whose time is another, and then writes the lock."""
    folder, content = Path("models/snapshots"), b"weights"
    folder.mkdir(parents=True)
    (folder / "step_1.safetensors").write_bytes(content)
    note_written(folder)
    os.utime(folder / "step_1.safetensors", ns=(0, 0))
    with pytest.raises(UserError, match="step_1"):
        check_outputs(MAIN)
    md5 = hashlib.md5(content).hexdigest()
    cached = pipelines.cache_folder() / md5[:2] / md5[2:]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)
    (folder / tmp_fname()).write_bytes(content[:3])
    check_outputs(MAIN)
    for name in ("mine.safetensors", ".mine.tmp"):
        (folder / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            check_outputs(MAIN)
        (folder / name).unlink()


def test_digests_that_a_killed_run_left_are_made_anew() -> None:
    Path("reports/digests").mkdir(parents=True)
    Path("reports/digests/train.json").write_text("{")
    check_outputs(MAIN)
    Path("reports/digests/mine.json").write_text("{")
    with pytest.raises(UserError, match=r"reports/digests/mine\.json"):
        check_outputs(MAIN)


def test_what_is_as_the_last_commit_has_it_comes_back_from_there(root: Path) -> None:
    place = stage_outputs(DENSITIES)["densities"][1]
    place.write_text("results")
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org")
    with pytest.raises(UserError, match=str(place)):
        check_outputs(DENSITIES)
    for command in (("init", "-q"), ("add", "-f", str(place)), ("commit", "-q", "-m", "a test")):
        subprocess.run([*git, *command], check=True)
    check_outputs(DENSITIES)
    place.write_text("mine")
    with pytest.raises(UserError, match=str(place)):
        check_outputs(DENSITIES)
