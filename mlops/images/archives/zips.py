"""Zips: a directory at the end, which is read to its end, and a checksum of each entry."""

import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO

from mlops.images.archives.entry import Entry, Link, check_count, refuse
from mlops.images.archives.links import beside
from mlops.images.archives.names import hidden
from mlops.project.errors import UserError

LONGEST_LINK = 4096
"""Bytes of what a link in a zip leads to."""
LARGEST_DIRECTORY = 256 << 20
"""Bytes of the directory of a zip: 130 for each of the most files."""
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_WHOLE = "get a fresh copy, or, if it is whole, unpack it and name the folder"

# Of PKWARE's APPNOTE 6.3, 4.3.12 to 4.3.16.
_END, _END64, _LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s24x3H12x")
_LONGEST_COMMENT = 0xFFFF


def zip_entries(source: Path, stack: ExitStack) -> Iterator[Entry | Link]:
    """Yield the files and links of a zip that is open until `stack` ends.

    The record at its end has to be the last thing in it, count the entries of the directory before it, and nothing may
    stand before the first entry; otherwise, or if an entry is encrypted, that is a UserError.
    """
    with source.open("rb") as file:
        check_count(source, _directory_length(source, file))
    archive = stack.enter_context(zipfile.ZipFile(source))
    if min((info.header_offset for info in archive.infolist()), default=0) != 0:
        raise UserError(f"{source}: something stands before its first entry, as if two archives were joined; {_WHOLE}")
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        if info.flag_bits & 1:
            refuse(source, info.filename, "is encrypted")
        if info.compress_type not in METHODS:
            remedy = "unpack the archive, and name the folder"
            refuse(source, info.filename, f"is packed by method {info.compress_type}, which is not read", remedy)
        if stat.S_ISLNK(info.external_attr >> 16):
            with archive.open(info) as link:
                yield Link(name, beside(name, os.fsdecode(link.read(LONGEST_LINK))))
        elif info.is_dir():
            if info.file_size:
                refuse(source, info.filename, "is a folder with content")
        else:
            if hidden(name):
                archive.open(info).close()  # compares both names that it has: the dot may be a flipped bit
            yield Entry(name, info.file_size, partial(archive.open, info))


def _directory_length(source: Path, file: IO[bytes]) -> int:
    """Return how many entries the directory has, after the record behind it was found to agree."""
    counted, modulus, start, size = _record(source, file)
    if size > LARGEST_DIRECTORY:
        why = f"the list of its files has {size:,} bytes, and the bound is {LARGEST_DIRECTORY:,}"
        raise UserError(f"{source}: {why}; get a fresh copy, or unpack it and name a part of it")
    file.seek(start)
    directory, place, entries = file.read(size), 0, 0
    while place < len(directory):
        signature, *lengths = _ENTRY.unpack_from(directory, place)
        if signature != b"PK\1\2":
            raise zipfile.BadZipFile("the list of its files is damaged")
        place, entries = place + _ENTRY.size + sum(lengths), entries + 1
    if place != size or entries % modulus != counted:
        raise UserError(f"{source} lists {entries:,} files, but its end counts {counted:,}; {_WHOLE}")
    return entries


def _record(source: Path, file: IO[bytes]) -> tuple[int, int, int, int]:
    """Return what the record at the end has: a count of entries, its modulus, start and size of the directory."""
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - _END.size - _LONGEST_COMMENT))
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0:
        raise UserError(f"{source} has no list of its files at its end, as if it was cut off; get a fresh copy")
    _, disk, first_disk, _, counted, size, _, comment = _END.unpack_from(tail, place)
    if place + _END.size + comment != len(tail):
        raise UserError(f"{source} does not end with the record of its end; {_WHOLE}")
    if {disk, first_disk} - {0, 0xFFFF}:
        raise UserError(f"{source} is one part of a split archive; join the parts: zip -s 0 IN.zip --out OUT.zip")
    end = length - len(tail) + place
    file.seek(max(0, end - _LOCATOR.size - _END64.size))
    before = file.read(_LOCATOR.size + _END64.size)
    if before.startswith(b"PK\6\6") and before[_END64.size :].startswith(b"PK\6\7"):
        *_, counted, size, _ = _END64.unpack_from(before)
        return counted, 1 << 64, end - len(before) - size, size
    return counted, 1 << 16, end - size, size  # some programs write larger counts, of which 16 bits are kept
