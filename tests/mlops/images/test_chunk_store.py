import io
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mlops.images.chunk_store import ROWS, ChunkStore, ImageFile
from mlops.images.decoding import SPLITS, Decoded, Row
from mlops.project.prepared_data import Split, images_path, load_images

SHAPE = (1, 2, 2)


def chunk(number: int) -> Decoded:
    """Return three images, one of them refused."""
    values: dict[Split, list[int]] = {"train": [number], "validation": [], "test": [100 + number]}
    pixels = {split: bytes(np.repeat(each, 4).astype(np.uint8)) for split, each in values.items()}
    rows = [
        Row(f"{number}/é.png", "test", "cat", 5, 7, sha256(pixels["test"]).hexdigest(), None),
        Row(f"{number}/b.png", None, None, None, None, None, "empty file"),
        Row(f"{number}/c.png", "train", "dog", 3, 3, sha256(pixels["train"]).hexdigest(), None),
    ]
    return Decoded(tuple(zip(*rows, strict=True)), pixels)


def written(folder: Path, *, to: int) -> list[bytes]:
    """Write chunks up to a number, from where the folder is; return its arrays and the table."""
    with ChunkStore(folder, SHAPE) as intake:
        for number in range(intake.done // 3, to):
            intake.add(chunk(number))
    return [*(images_path(folder, split).read_bytes() for split in SPLITS), intake.table().to_csv().encode()]


def kill(folder: Path) -> None:
    """Leave what a process leaves that was killed: headers without a count."""
    with pytest.raises(RuntimeError), ChunkStore(folder, SHAPE):
        raise RuntimeError


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    written(tmp_path, to=2)
    with ChunkStore(tmp_path, SHAPE) as intake:
        assert intake.done == 6
        table = intake.table()
    rows = [Row(*row) for number in (0, 1) for row in zip(*chunk(number).columns, strict=True)]
    assert list(table.columns) == list(Row._fields)
    found = table.astype(object).where(table.notna(), None)
    assert [Row(*row) for row in found.itertuples(index=False)] == rows


def test_nothing_at_all_is_a_table_too(tmp_path: Path) -> None:
    written(tmp_path, to=0)
    assert len(ChunkStore(tmp_path, SHAPE).table()) == 0


def cut(name: str, length: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:-length])

    return damage


def spoil(name: str, place: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[place] ^= 1
        (folder / name).write_bytes(content)

    return damage


def extend(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes() + bytes(20))

    return damage


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (extend(ROWS), 5),
        (extend("images_train.npy"), 5),
        (cut(ROWS, 1), 4),
        (cut("images_train.npy", 1), 4),
        (cut("images_test.npy", 5), 3),
        (spoil("images_train.npy", -1), 4),
        (spoil("images_test.npy", -13), 1),
        (spoil(ROWS, 40), 0),
        (spoil(ROWS, -1), 4),
        (lambda folder: (folder / "images_validation.npy").unlink(), 0),
        (lambda folder: (folder / "images_test.npy").write_bytes(b""), 0),
    ],
)
def test_only_complete_chunks_are_taken_and_the_rest_is_made_again(
    tmp_path: Path, damage: Callable[[Path], None], kept: int
) -> None:
    expected = written(tmp_path / "whole", to=7)
    written(tmp_path / "killed", to=5)
    kill(tmp_path / "killed")
    damage(tmp_path / "killed")
    with ChunkStore(tmp_path / "killed", SHAPE) as intake:
        assert intake.done == 3 * kept
    kill(tmp_path / "killed")
    assert written(tmp_path / "killed", to=7) == expected


def npy(images: NDArray[np.uint8]) -> bytes:
    reference = io.BytesIO()
    np.save(reference, images)
    return reference.getvalue()


@pytest.mark.parametrize("sizes", [[1] * 1234, [1000, 0, 234], [1234]])
def test_images_written_bit_by_bit_are_the_file_that_numpy_writes(tmp_path: Path, sizes: list[int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1234, 3, 4, 4), dtype=np.uint8)
    with ImageFile(images_path(tmp_path, "test"), (3, 4, 4)) as file:
        for part in np.split(images, np.cumsum(sizes)[:-1]):
            file.append(part.tobytes())
    assert images_path(tmp_path, "test").read_bytes() == npy(images)
    loaded = load_images(tmp_path, "test")
    assert np.array_equal(loaded, images)
    loaded[:] = 0  # stays in memory
    assert images_path(tmp_path, "test").read_bytes() == npy(images)


@pytest.mark.parametrize("keep", [0, 1, 5])
def test_a_file_goes_on_behind_what_is_to_be_kept(tmp_path: Path, keep: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 4, 4), dtype=np.uint8)
    path = images_path(tmp_path, "test")
    with ImageFile(path, (3, 4, 4)) as file:
        file.append(images[:5].tobytes())
    with path.open("ab") as behind:
        behind.write(b"half of the sixth")
    with ImageFile(path, (3, 4, 4), keep=keep) as file:
        file.append(images[keep:].tobytes())
    assert path.read_bytes() == npy(images)


def write_and_fail(path: Path) -> None:
    with ImageFile(path, (1, 2, 2)) as file:
        file.append(bytes(4))
        raise RuntimeError


def test_an_unfinished_file_claims_no_images(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        write_and_fail(tmp_path / "images_train.npy")
    assert np.load(tmp_path / "images_train.npy").shape == (0, 1, 2, 2)
