import io
import tarfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages import packed
from stages.archives import Entry, pack
from stages.packed import chunked, folder_of, layout, members

Place = tuple[str | None, str | None]


@given(
    st.dictionaries(st.from_regex(r"[a-zé]{1,120}(/[a-z]{1,90}){0,3}\\.png", fullmatch=True), st.binary(max_size=1200))
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_packed_is_found_whatever_its_name_and_size(tmp_path: Path, files: dict[str, bytes]) -> None:
    pack([Entry(name, len(data), partial(io.BytesIO, data)) for name, data in files.items()], tmp_path / "images.tar")
    content = (tmp_path / "images.tar").read_bytes()
    found = [(name, content[at : at + size]) for name, at, size in members(tmp_path / "images.tar")]
    assert found == list(files.items())


def test_a_tar_that_was_cut_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "images.tar"
    pack([Entry(f"{n}.png", 600, partial(io.BytesIO, bytes(600))) for n in range(3)], path)
    whole = path.read_bytes()
    for length in (100, 1024, 2000, 1536 * 3 - 600):
        path.write_bytes(whole[:length])
        with pytest.raises(tarfile.TarError):
            list(members(path))


def test_chunks_are_short_in_number_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "CHUNK_BYTES", 100)
    sizes = [10, 10, 10, 10, 90, 5, 5, 1, 500, 1]
    chunks = list(chunked((("", 0, size) for size in sizes), 3))
    assert [[size for _, _, size in chunk] for chunk in chunks] == [[10, 10, 10], [10, 90], [5, 5, 1], [500], [1]]
    assert list(chunked(iter([]), 3)) == []


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["a.png", "b.png"], [(None, None), (None, None)]),
        (["cat/a.png", "dog/b.png", "c.png"], [(None, "cat"), (None, "dog"), (None, None)]),
        (["cat/x/a.png", "dog/y/b.png"], [(None, "cat"), (None, "dog")]),
        (["pets/cat/a.png", "pets/dog/b.png", "README"], [(None, "cat"), (None, "dog"), (None, None)]),
        (["cat/a.png", "cat/b.png"], [(None, None), (None, None)]),
        (["train/cat/a.png", "test/dog/b.png"], [("train", "cat"), ("test", "dog")]),
        (["train/a.png", "test/b.png", "c.png"], [("train", None), ("test", None), (None, None)]),
        (["pets/train/cat/a.png", "pets/test/cat/b.png"], [("train", "cat"), ("test", "cat")]),
        (["train/a.png", "test/b.png", "val/c.png"], [("train", None), ("test", None), ("test", None)]),
        (["train/a.png", "tested/b.png"], [(None, "train"), (None, "tested")]),
        (["train/cat/a.png", "train/dog/b.png"], [(None, "cat"), (None, "dog")]),
        ([], []),
    ],
)
def test_folders_tell_the_split_and_the_class(names: list[str], places: list[Place]) -> None:
    found = layout({folder_of(name) for name in names})
    assert [found[folder_of(name)] for name in names] == places
