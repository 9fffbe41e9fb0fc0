import json
from pathlib import Path

import pytest

from mlops.safety.written_files import (
    delete_written,
    load_note,
    note_written,
    save_note,
    stamps,
    unknown_files,
    write_whole,
)


@pytest.fixture(autouse=True)
def _in_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_was_noted_is_known_until_it_changes() -> None:
    folder = Path("reports/training")
    (folder / "samples").mkdir(parents=True)
    (folder / "samples" / "1.png").write_bytes(b"x")
    assert unknown_files(folder) == [folder / "samples" / "1.png"]
    note_written(folder)
    assert unknown_files(folder) == []
    (folder / "mine").write_bytes(b"")
    assert unknown_files(folder) == [folder / "mine"]


def test_a_file_has_its_old_content_or_the_new_one_and_a_link_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    path, linked = Path("file"), Path("linked")
    linked.write_text("of another")
    path.symlink_to(linked)
    write_whole(path, "old")
    assert (path.read_text(), linked.read_text(), path.is_symlink()) == ("old", "of another", False)

    def torn(self: Path, text: str, **_: str) -> None:
        self.write_bytes(text[:1].encode())
        raise OSError("full")

    monkeypatch.setattr(Path, "write_text", torn)
    with pytest.raises(OSError, match="full"):
        write_whole(path, "new")
    assert path.read_bytes() == b"old"
    assert {each.name for each in Path.cwd().iterdir()} == {"file", "linked"}


def test_a_damaged_note_is_none() -> None:
    note = Path("notes/note.json")
    assert load_note(note) == {}
    save_note(note, content := {"a/é": [1, 2], "b": "x"})
    assert load_note(note) == content
    sound = note.read_bytes()
    for place in range(len(sound)):
        for damaged in (sound[:place], sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :]):
            note.write_bytes(damaged)
            assert load_note(note) == {}
    note.write_bytes(b"[" * 10)
    assert load_note(note) == {}


def test_a_note_from_before_notes_had_checksums_counts() -> None:
    Path("out").mkdir()
    (Path("out") / "a").write_bytes(b"x")
    note_written(Path("out"))
    (note,) = Path(".checkpoints/written").iterdir()
    note.write_text(json.dumps(stamps(Path("out"))))
    assert unknown_files(Path("out")) == []


def test_an_output_may_be_a_file() -> None:
    file = Path("generator.safetensors")
    assert unknown_files(file) == []
    file.write_bytes(b"x")
    assert unknown_files(file) == [file]
    note_written(file)
    assert unknown_files(file) == []


def test_files_are_noted_before_they_become_the_output() -> None:
    Path("partial").mkdir()
    (Path("partial") / "a").write_bytes(b"x")
    note_written(Path("out"), Path("partial"))
    Path("partial").rename("out")
    assert unknown_files(Path("out")) == []


def test_outputs_whose_names_begin_alike_have_notes_of_their_own() -> None:
    for name in ("a/b", "a+b"):
        Path(name).mkdir(parents=True)
        Path(name, "x").write_bytes(name.encode())
    note_written(Path("a/b"))
    assert unknown_files(Path("a+b")) == [Path("a+b/x")]


def test_links_to_folders_are_not_followed(tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "a").write_bytes(b"x")
    Path("out").mkdir()
    Path("out/link").symlink_to(elsewhere)
    assert list(stamps(Path("out"))) == ["link"]


def test_what_a_person_keeps_beside_written_files_stays() -> None:
    folder = Path("checkpoints/key")
    (folder / "samples").mkdir(parents=True)
    for name in ("samples/step_1.png", "state", "samples/mine.png"):
        (folder / name).write_bytes(b"x")
    delete_written(folder, "samples/step_*.png", "state", "absent")
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / "samples" / "mine.png"]
    (folder / "samples" / "mine.png").unlink()
    delete_written(folder, "samples/step_*.png", "state")
    assert not folder.exists()
