"""The tar of images that `fetch` packs and `prepare` reads, and the list of what lies where in it."""

import csv
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.images.archives.entry import Entry

IMAGES_TAR = "images.tar"
"""The name under which the images of a user's folder are kept in `raw`."""
IMAGES_LIST = "images.csv"
"""What lies where in this tar: a row for each file, with its name, and offset and size of its bytes."""
COLUMNS = ("name", "offset", "size")
CHUNK_BYTES = 4 << 20
"""Bytes of encoded images in a chunk: a moment's work, whether they are many small ones or one photograph."""
Member = tuple[str, int, int]
"""A row of the list, see `COLUMNS`. Named tuples would cost six times as much."""


def pack(entries: list["Entry"], target: Path, index: Path) -> None:
    """Write entries into an uncompressed tar that depends on nothing but their names, bytes and order, and its list."""
    from mlops.project.progress import progress  # only here, as in `listed`: what decodes imports neither

    with (
        target.open("wb") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
        index.open("w", encoding="utf-8", newline="") as text,
        progress("fetch: files", len(entries)) as line,
    ):
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(COLUMNS)
        for done, entry in enumerate(entries, start=1):
            header = tarfile.TarInfo(entry.name)  # mode 0644, no owner, time 0
            header.size = entry.size
            with entry.open() as content:
                tar.addfile(header, cast(BinaryIO, content))
                content.read(1)  # to the end, where checksums are compared
            tar.members.clear()  # type: ignore[attr-defined]  # all would take a kilobyte each
            blocks = -(-entry.size // tarfile.BLOCKSIZE)
            rows.writerow((entry.name, file.tell() - blocks * tarfile.BLOCKSIZE, entry.size))
            line.update(done)


def listed(path: Path, bytes_of_tar: int) -> "pa.Table":
    """Return the list that `pack` wrote, with `COLUMNS`; a ValueError if it is none, or not of a tar of this size."""
    from pyarrow import csv as tables
    from pyarrow import int64, string

    kinds = tables.ConvertOptions(column_types=dict(zip(COLUMNS, (string(), int64(), int64()), strict=True)))
    table = tables.read_csv(path, convert_options=kinds)
    if tuple(table.column_names) != COLUMNS:
        raise ValueError(f"{path.name} has the columns {', '.join(table.column_names)}")
    offsets, sizes = (table[name].to_numpy() for name in COLUMNS[1:])
    # Before each file and behind the last is a header or a block that ends the tar, and then less than a record or two.
    free = np.diff(offsets, prepend=0, append=bytes_of_tar) - np.append(0, sizes)
    if not ((sizes >= 0).all() and (free >= tarfile.BLOCKSIZE).all() and free[-1] < 2 * tarfile.RECORDSIZE):
        raise ValueError(f"{path.name} is not the list of a tar of {bytes_of_tar:,} bytes")
    return table


def cut(sizes: Iterable[int], largest: int) -> Iterator[slice]:
    """Yield slices of at most `largest` consecutive files and `CHUNK_BYTES`, unless one file alone has more."""
    start = stop = 0
    free = CHUNK_BYTES
    for size in sizes:
        if stop > start and (stop - start == largest or size > free):
            yield slice(start, stop)
            start, free = stop, CHUNK_BYTES
        stop += 1
        free -= size
    if stop > start:
        yield slice(start, stop)
