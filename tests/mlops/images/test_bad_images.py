"""Images that are odd, damaged or made to waste time and memory: each is taken, or refused for a reason."""

import io
import struct
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlops.images import pixels as module
from mlops.images.archives.entry import Entry
from mlops.images.decoding import Recipe, Row, decoded
from mlops.images.image_tar import pack
from mlops.images.pixels import RefusedError, decode, pixels
from mlops.images.readers import read


def encoded(file_format: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).convert("RGB").convert(mode).save(content, file_format, **options)
    return content.getvalue()


PNG, JPEG, BMP = (encoded(file_format) for file_format in ("PNG", "JPEG", "BMP"))
WEBP, LOSSY = encoded("WEBP", lossless=True), encoded("WEBP", quality=80)
PALETTE = encoded("PNG", "P")
PROGRESSIVE = encoded("JPEG", progressive=True)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, data: bytes = b"", depth: int = 8, colour: int = 0, interlaced: int = 0, more: bytes = b""
) -> bytes:
    head = chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, colour, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def without(content: bytes, kind: bytes) -> bytes:
    """Return a PNG without its chunks of a kind."""
    start, kept = 8, content[:8]
    while start < len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4])
        kept += b"" if content[start + 4 : start + 8] == kind else content[start:end]
        start = end
    return kept


def segment(content: bytes, marker: int) -> tuple[int, int]:
    """Return where a segment of a JPEG begins and ends."""
    start = content.index(bytes([0xFF, marker]))
    return start, start + 2 + int.from_bytes(content[start + 2 : start + 4])


def jpeg_without(marker: int, content: bytes = JPEG) -> bytes:
    start, end = segment(content, marker)
    return content[:start] + content[end:]


def sized(width: int, height: int, content: bytes = JPEG, marker: int = 0xC0) -> bytes:
    start, _ = segment(content, marker)
    return content[: start + 5] + struct.pack(">2H", height, width) + content[start + 9 :]


def scanned(times: int) -> bytes:
    """Return a progressive JPEG whose last scan is repeated."""
    last = PROGRESSIVE.rindex(b"\xff\xda")
    return PROGRESSIVE[:last] + PROGRESSIVE[last:-2] * times + PROGRESSIVE[-2:]


def webp(width: int, height: int) -> bytes:
    """Return a WebP of one colour, in which no byte is of a pixel."""
    content = bytearray(encoded_of_one_colour())
    place = content.index(b"VP8L") + 9
    bits = int.from_bytes(content[place : place + 4], "little") >> 28 << 28
    content[place : place + 4] = (bits | (height - 1) << 14 | width - 1).to_bytes(4, "little")
    return bytes(content)


def encoded_of_one_colour() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(content, "WEBP", lossless=True)
    return content.getvalue()


def canvas(width: int, height: int) -> bytes:
    """Return a WebP that begins with a canvas of another size."""
    head = b"VP8X" + struct.pack("<2I", 10, 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + head + WEBP[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(width: int, height: int, data: bytes, bits: int = 8, compression: int = 1) -> bytes:
    palette = bytes(range(256)) * 4 if bits <= 8 else b""
    offset = 54 + len(palette)
    head = struct.pack("<2sI2HI", b"BM", offset + len(data), 0, 0, offset)
    return head + struct.pack("<IiiHHI5I", 40, width, height, 1, bits, compression, 0, 0, 0, 256, 0) + palette + data


def changed(content: bytes, place: int, value: bytes) -> bytes:
    return content[:place] + value + content[place + len(value) :]


NO_IMAGE, CUT, LARGE = "^not an image", "^unreadable: ", r"pixels"
REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "^empty file$"),
    "a letter": (b"x", NO_IMAGE),
    "zeros": (bytes(5000), NO_IMAGE),
    "text": (b"just text" * 100, NO_IMAGE),
    "a page that says it is not found": (b"<!DOCTYPE html><title>404</title>", NO_IMAGE),
    "an svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', NO_IMAGE),
    "a pdf": (b"%PDF-1.7\n", NO_IMAGE),
    "a zip": (b"PK\3\4" + bytes(100), NO_IMAGE),
    "a gif": (encoded("GIF"), NO_IMAGE),
    "a tiff": (encoded("TIFF"), NO_IMAGE),
    "a ppm": (encoded("PPM"), NO_IMAGE),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", NO_IMAGE),
    "an apple's heic": (b"\0\0\0\x18ftypheic" + bytes(100), NO_IMAGE),
    "a pointer of git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", NO_IMAGE),
    "a png's signature": (PNG[:8], NO_IMAGE),
    "a png's header": (PNG[:33], NO_IMAGE),
    "half a png": (PNG[: len(PNG) // 2], CUT),
    "a png without data": (without(PNG, b"IDAT"), CUT),
    "a png whose header has a wrong checksum": (changed(PNG, 29, b"\0\0\0\0"), NO_IMAGE),
    "a png whose data have a wrong checksum": (changed(PNG, len(PNG) - 16, b"\0\0\0\0"), CUT),
    "a png whose data are no zlib": (png(8, 8)[:33] + chunk(b"IDAT", b"x" * 50) + chunk(b"IEND", b""), CUT),
    "a png with one bit of its pixels flipped": (changed(PNG, 500, bytes([PNG[500] ^ 1])), CUT),
    "a png whose palette has a wrong checksum": (changed(PALETTE, PALETTE.index(b"PLTE") + 6, b"\7\7\7"), NO_IMAGE),
    "a png of filter 9": (png(8, 8, b"\x09" * 72), CUT),
    "a png without width": (png(0, 8), "^(not an image|unreadable)"),
    "a png without height": (png(8, 0), "^(not an image|unreadable)"),
    "a png of depth 3": (png(8, 8, bytes(72), depth=3), "^(not an image|unreadable)"),
    "a png of colour 5": (png(8, 8, bytes(72), colour=5), "^(not an image|unreadable)"),
    "a png of 2^31 pixels": (png(1 << 31, 1), LARGE),
    "a png of 65,000 x 65,000": (png(65_000, 65_000), LARGE),
    "a png of 16 bits, 30,000 x 2,900": (png(30_000, 2_900, depth=16), LARGE),
    "a png of one column": (png(1, 60_000_000), LARGE),
    "a png of one row": (png(60_000_000, 1), LARGE),
    "a chunk of a png of 2 GiB": (PNG[:33] + b"\x7f\xff\xff\xffIDAT", CUT),
    "a jpeg's beginning": (JPEG[:2], NO_IMAGE),
    "a jpeg's headers": (JPEG[: segment(JPEG, 0xDA)[0]], "^(not an image|unreadable)"),
    "half a jpeg": (JPEG[: len(JPEG) // 2], CUT),
    "half a progressive jpeg": (PROGRESSIVE[: len(PROGRESSIVE) // 2], CUT),
    "a jpeg without a frame": (jpeg_without(0xC0), "^(not an image|unreadable)"),
    "a jpeg without quantisation": (jpeg_without(0xDB, jpeg_without(0xDB)), CUT),
    "a jpeg of no rows": (sized(40, 0), "^(not an image|unreadable)"),
    "a jpeg of no columns": (sized(0, 30), "^(not an image|unreadable)"),
    "a jpeg of 65,535 x 65,535": (sized(65_535, 65_535), LARGE),
    "a jpeg of twelve bits": (changed(JPEG, segment(JPEG, 0xC0)[0] + 4, b"\x0c"), "^(not an image|unreadable)"),
    "a jpeg of a thousand scans": (sized(8000, 8000, scanned(1000), 0xC2), "scans"),
    "a webp's beginning": (WEBP[:12], "^(not an image|unreadable)"),
    "half a webp": (WEBP[: len(WEBP) // 2], "^(not an image|unreadable)"),
    "half a lossy webp": (LOSSY[: len(LOSSY) // 2], "^(not an image|unreadable)"),
    "a webp of 16,383 x 5,400": (webp(16_383, 5_400), LARGE),
    "a webp of 16,384 x 16,384": (webp(16_384, 16_384), LARGE),
    "a webp with a canvas of 2^24 x 2^24": (canvas(1 << 24, 1 << 24), "^(more than|not an image|unreadable)"),
    "a webp with another canvas": (canvas(4000, 4000), "^(not an image|unreadable)"),
    "a bmp's header": (BMP[:54], CUT),
    "half a bmp": (BMP[: len(BMP) // 2], CUT),
    "a bmp of 2^31 rows": (bmp(1, (1 << 31) - 1, b""), LARGE),
    "a bmp of 60,000 x 60,000": (bmp(60_000, 60_000, b""), LARGE),
    "a bmp of no columns": (bmp(0, 8, b""), "^(not an image|unreadable)"),
    "a bmp of 7 bits": (bmp(8, 8, bytes(64), bits=7, compression=0), "^(not an image|unreadable)"),
    "a bmp of compression 99": (bmp(8, 8, bytes(64), compression=99), "^(not an image|unreadable)"),
    "a bmp whose runs end early": (bmp(8, 8, b"\4\1\0\1"), CUT),
    "a bmp whose runs are cut": (bmp(8, 8, b"\4"), CUT),
}
TAKEN: dict[str, bytes] = {
    "a png of one pixel": png(1, 1, b"\0x"),
    "a png of 16 bits": png(8, 8, bytes(8 * 17), depth=16),
    "an interlaced png": png(8, 8, bytes(90), interlaced=1),
    "a png with a palette": PALETTE,
    "a png with much behind its end": PNG + b"x" * 5000,
    "a png without an end": without(PNG, b"IEND"),
    "a jpeg with two ends": JPEG + b"\xff\xd9",
    "a jpeg in shades of ink": encoded("JPEG", "CMYK"),
    "a jpeg of sixteen scans": scanned(7),
    "a png of the longest side": png(65_535, 1, bytes(65_536)),
    "a bmp upside down": bmp(8, -8, bytes(64), compression=0),
    "a bmp of runs": bmp(8, 2, b"\x08\1\0\0\x08\2\0\1"),
    "a webp of one colour": webp(200, 100),
}


def prepared(content: bytes) -> None:
    image, _ = decode(content)
    for channels in (1, 3):
        for fit in ("crop", "pad", "stretch"):
            array = pixels(image, size=8, channels=channels, fit=fit)
            assert array.shape == (channels, 8, 8)


@pytest.mark.parametrize("name", REFUSED)
def test_each_bad_image_is_refused_for_a_reason(name: str) -> None:
    content, reason = REFUSED[name]
    with pytest.raises(RefusedError, match=reason) as caught:
        prepared(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TAKEN)
def test_each_odd_image_is_taken(name: str) -> None:
    prepared(TAKEN[name])


def test_all_of_them_together_are_taken_or_listed_one_by_one(tmp_path: Path) -> None:
    files = {name: content for name, (content, _) in REFUSED.items()} | TAKEN
    entries = [Entry(name, len(content), partial(io.BytesIO, content)) for name, content in files.items()]
    pack(entries, tmp_path / "images.tar", tmp_path / "images.csv")
    recipe = Recipe(size=8, channels=3, fit="crop", seed=0, test_share=0.2, validation_share=0.1, official_train=0)
    (chunk,) = read(tmp_path, "folder").chunks(0, 1000)
    rows = [Row(*row) for row in zip(*decoded((0, chunk), recipe).columns, strict=True)]
    assert [row.source for row in rows] == list(files)
    assert {row.source for row in rows if row.refused is None} == set(TAKEN)


@pytest.mark.parametrize("content", [PNG, PALETTE, JPEG, PROGRESSIVE, WEBP, LOSSY, BMP])
@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_damaged_bytes_raise_nothing_else(content: bytes, damage: str) -> None:
    rng, refused = np.random.default_rng(0), 0
    for place in rng.integers(0, len(content), 40):
        value = bytes([content[place] ^ 1 << int(rng.integers(8))])
        try:
            prepared(changed(content, int(place), value) if damage == "flip" else content[:place])
        except RefusedError:
            refused += 1
    assert refused >= (1 if damage == "flip" and content[:2] != b"BM" else 0)


@pytest.mark.parametrize("content", [PNG, JPEG, WEBP, BMP])
def test_memory_is_reserved_before_it_is_taken(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def reserve(amount: int) -> None:
        asked.append(amount)
        raise RefusedError("none is left")

    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(RefusedError, match="none is left"):
        decode(content, reserve)
    assert all(12 * 40 * 30 <= amount <= 16 * 40 * 30 + 1024 * 30 + 2 * len(content) for amount in asked)


def test_every_side_and_every_scan_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_SIDE", 40)
    monkeypatch.setattr(module, "MOST_SCANNED", 40 * 30 * PROGRESSIVE.count(b"\xff\xda"))
    prepared(PROGRESSIVE)
    for content in (scanned(2), encoded("PNG", size=(41, 1)), encoded("BMP", size=(1, 41))):
        with pytest.raises(RefusedError, match="pixels"):
            prepared(content)
