import io
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages import packed
from stages.archives import Entry, pack
from stages.packed import cut, folder_of, layout, listed

Place = tuple[str | None, str | None]


def packed_in(folder: Path, files: dict[str, bytes]) -> tuple[bytes, Path]:
    """Pack files; return the tar and the path of its list."""
    entries = [Entry(name, len(data), partial(io.BytesIO, data)) for name, data in files.items()]
    pack(entries, folder / "images.tar", folder / "images.csv")
    return (folder / "images.tar").read_bytes(), folder / "images.csv"


@given(
    st.dictionaries(
        st.from_regex(r"[a-zé,;\"' #\u202f\ufeff]{1,120}(/[a-z]{1,90}){0,3}(\.png)?", fullmatch=True)
        | st.sampled_from(["null", "NA", "1", "true"]),
        st.binary(max_size=1200),
        min_size=1,
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_packed_is_found_whatever_its_name_and_size(tmp_path: Path, files: dict[str, bytes]) -> None:
    content, index = packed_in(tmp_path, files)
    rows = listed(index, len(content)).to_pylist()
    found = [(row["name"], content[row["offset"] : row["offset"] + row["size"]]) for row in rows]
    assert found == list(files.items())


def test_a_tar_that_was_cut_is_an_error(tmp_path: Path) -> None:
    content, index = packed_in(tmp_path, {f"{number}.png": bytes(600) for number in range(3)})
    end = 3 * (512 + 1024) - 424  # of the last file's bytes
    assert end < len(content)
    assert listed(index, end).num_rows == 3
    with pytest.raises(ValueError, match=r"images.csv tells of 4,184 bytes, and the tar has 4,183"):
        listed(index, end - 1)


@pytest.mark.parametrize("content", ["", "name,offset\na,1\n", "name,offset,size\na,b,c\n", "name,offset,size\na,1\n"])
def test_a_list_that_was_damaged_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "images.csv").write_text(content)
    with pytest.raises(ValueError, match=r".+"):
        listed(tmp_path / "images.csv", 1 << 20)


@given(st.lists(st.integers(0, 150)), st.integers(1, 5))
def test_chunks_are_few_files_in_a_row_of_few_bytes(sizes: list[int], largest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "CHUNK_BYTES", 100)
        chunks = [sizes[part] for part in cut(sizes, largest)]
    assert [size for chunk in chunks for size in chunk] == sizes
    assert all(len(chunk) == 1 or (len(chunk) <= largest and sum(chunk) <= 100) for chunk in chunks)
    # None is smaller than it must be.
    assert all(len(one) == largest or sum(one) + other[0] > 100 for one, other in pairwise(chunks))


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
