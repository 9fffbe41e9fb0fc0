import io
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops.images import image_tar as packed
from mlops.images.archives.entry import Entry
from mlops.images.image_tar import cut, listed, pack


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
    content, index = packed_in(tmp_path, {f"{number}.png": bytes(600) for number in range(30)})
    end = 30 * (512 + 1024) - 424  # of the last file's bytes
    assert listed(index, len(content)).num_rows == 30
    for length in (0, 1000, end - 1, end):
        with pytest.raises(ValueError, match=f"images.csv .*{length:,} bytes"):
            listed(index, length)


@pytest.mark.parametrize(
    "damaged",
    [
        lambda lines: [],
        lambda lines: lines[:1],
        lambda lines: lines[:4],
        lambda lines: [*lines[:4], "cats/"],
        lambda lines: [*lines, *lines[1:]],
        lambda lines: [line.rpartition(",")[0] for line in lines],
        lambda lines: [lines[0], "0.png,512,", *lines[2:]],
        lambda lines: [lines[0], "0.png,,60000", *lines[2:]],
        lambda lines: [lines[0], "0.png,-5,60000", *lines[2:]],
        lambda lines: [lines[0], "0.png,512,-1", *lines[2:]],
        lambda lines: [lines[0], "0.png,9223372036854775807,9", *lines[2:]],
        lambda lines: [*lines[:2], lines[1], *lines[3:]],
    ],
)
def test_a_list_that_was_damaged_is_an_error(tmp_path: Path, damaged: Callable[[list[str]], list[str]]) -> None:
    content, index = packed_in(tmp_path, {f"{number}.png": bytes(60000) for number in range(5)})
    index.write_text("".join(f"{line}\n" for line in damaged(index.read_text().splitlines())))
    with pytest.raises(ValueError, match=r".+"):
        listed(index, len(content))


@given(st.lists(st.integers(0, 150)), st.integers(1, 5))
def test_chunks_are_few_files_in_a_row_of_few_bytes(sizes: list[int], largest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "CHUNK_BYTES", 100)
        chunks = [sizes[part] for part in cut(sizes, largest)]
    assert [size for chunk in chunks for size in chunk] == sizes
    assert all(len(chunk) == 1 or (len(chunk) <= largest and sum(chunk) <= 100) for chunk in chunks)
    # None is smaller than it must be.
    assert all(len(one) == largest or sum(one) + other[0] > 100 for one, other in pairwise(chunks))
