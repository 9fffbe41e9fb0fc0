from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from mlops.images.chunk_store import ROWS, ChunkStore
from mlops.images.decoding import SPLITS, Decoded, Row
from mlops.project.prepared_data import Split, images_path

SHAPE = (1, 2, 2)


def chunk(number: int) -> Decoded:
    """Return three images, one of them refused."""
    values: dict[Split, list[int]] = {"train": [number], "validation": [], "test": [100 + number]}
    pixels = {split: np.repeat(np.array(each, np.uint8), 4).reshape(-1, *SHAPE) for split, each in values.items()}
    rows = [
        Row(f"{number}/é.png", "test", "cat", 5, 7, sha256(pixels["test"].data).hexdigest(), None),
        Row(f"{number}/b.png", None, None, None, None, None, "empty file"),
        Row(f"{number}/c.png", "train", "dog", 3, 3, sha256(pixels["train"].data).hexdigest(), None),
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
