import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops.images.archives import decompression
from mlops.images.archives.decompression import copy_bounded, seekable, unpacked
from mlops.project.errors import UserError

CONTENT = os.urandom(3_000) * 3
PACKINGS = [gzip.compress, bz2.compress, lzma.compress]


def read(packed: bytes) -> bytes:
    return b"".join(unpacked(io.BufferedReader(io.BytesIO(packed))))


@pytest.mark.parametrize("compress", [bytes, *PACKINGS])
def test_content_is_the_same_however_it_is_packed(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    packed = compress(CONTENT)
    assert read(packed) == CONTENT
    (tmp_path / "file").write_bytes(packed)
    with seekable(tmp_path / "file", scratch=tmp_path, bound=len(CONTENT)) as file:
        file.seek(100)
        assert file.read(50) == CONTENT[100:150]


@pytest.mark.parametrize("compress", PACKINGS)
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_all_streams_are_read_and_zeros_may_follow(
    compress: Callable[[bytes], bytes], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decompression, "PIECE", piece)
    packed = compress(CONTENT[:50])
    assert read(packed) == CONTENT[:50]
    assert read(packed * 2 + bytes(16)) == CONTENT[:50] * 2


@pytest.mark.parametrize("compress", PACKINGS)
@pytest.mark.parametrize("piece", [16, 1 << 20])
def test_every_cut_and_everything_behind_the_end_is_an_error(
    compress: Callable[[bytes], bytes], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decompression, "PIECE", piece)
    packed = compress(CONTENT[:50])
    for length in range(6, len(packed)):  # what is shorter is not packed
        with pytest.raises((EOFError, OSError, lzma.LZMAError)):
            read(packed[:length])
        with pytest.raises((EOFError, OSError, lzma.LZMAError)):
            read(packed + packed[:length])
    for garbage in (b"x", bytes(40) + b"x", b"\0\0\0\0BZ"):
        with pytest.raises((EOFError, OSError, lzma.LZMAError)):
            read(packed + garbage)


def test_a_stream_that_needs_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    packed = lzma.compress(CONTENT, filters=filters)
    assert read(packed) == CONTENT
    monkeypatch.setattr(decompression, "LARGEST_DICTIONARY", 1 << 20)
    with pytest.raises(lzma.LZMAError, match="emory"):
        read(packed)


def test_the_bound_is_the_last_length_that_passes() -> None:
    copy = io.BytesIO()
    copy_bounded([CONTENT[:1000], CONTENT[1000:]], copy, len(CONTENT), "file")
    assert copy.getvalue() == CONTENT
    with pytest.raises(UserError, match=r"file .*8,999 bytes"):
        copy_bounded([CONTENT[:1000], CONTENT[1000:]], io.BytesIO(), len(CONTENT) - 1, "file")
