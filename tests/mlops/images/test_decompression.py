import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops.images.decompression import copy_bounded, readable, seekable, unpacked
from mlops.project.errors import UserError

CONTENT = os.urandom(3_000) * 3


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_content_is_the_same_however_it_is_packed(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    packed = compress(CONTENT)
    assert unpacked(io.BytesIO(packed)).read() == CONTENT
    (tmp_path / "file").write_bytes(packed)
    with seekable(tmp_path / "file", scratch=tmp_path, bound=len(CONTENT)) as file:
        file.seek(100)
        assert file.read(50) == CONTENT[100:150]


def test_the_bound_is_the_last_length_that_passes() -> None:
    copy = io.BytesIO()
    copy_bounded(io.BytesIO(CONTENT), copy, len(CONTENT), "file")
    assert copy.getvalue() == CONTENT
    with pytest.raises(UserError, match=r"file .*8,999 bytes"):
        copy_bounded(io.BytesIO(CONTENT), io.BytesIO(), len(CONTENT) - 1, "file")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("spoil", [lambda data: data[:-20], lambda data: data[:60] + b"\xff" * 90 + data[150:]])
def test_damage_of_any_packing_names_the_file(
    compress: Callable[[bytes], bytes], spoil: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(UserError, match="some/file"), readable(Path("some/file")):
        unpacked(io.BytesIO(spoil(compress(CONTENT)))).read()


def test_a_locked_file_is_named() -> None:
    with pytest.raises(UserError, match="inner"), readable(Path("outer")):
        raise PermissionError(13, "Permission denied", "inner")


def test_errors_of_the_system_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), readable(tmp_path):
        (tmp_path / "missing").read_bytes()


def test_a_file_that_is_one_image_is_not_called_damaged() -> None:
    with pytest.raises(UserError, match=r"cat\.png is one image"), readable(Path("cat.png")):
        raise tarfile.ReadError("no tar")
