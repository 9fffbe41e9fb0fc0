"""From the bytes of an image file to the pixels that networks see."""

import io
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from mlops.images.memory import Reserve

Image.MAX_IMAGE_PIXELS = 1 << 26
"""Of an image as its header has it: cameras have up to 61 million, and decoding takes a second and a gibibyte."""
LONGEST_SIDE = 65_535
"""Pixels, as in a JPEG: resizing takes 48 bytes for each pixel of a side, and more for each row."""
MOST_SCANNED = 16 * Image.MAX_IMAGE_PIXELS
"""Pixels of all scans of a progressive JPEG; there are ten scans, unless somebody wants to waste an hour."""
BYTES_A_PIXEL = {"JPEG": 12, "other": 16}
"""At most, on the way from a file to prepared pixels, whatever the mode: WebP has two canvases and two copies."""
BYTES_A_ROW = 1024
"""Of an image that is resized in one direction: 256 pixels of 4 bytes."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
NEEDED_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND")
"""Of a PNG: what pixels depend on, and the EXIF orientation; text, times, profiles and gamma are metadata."""
METADATA_SEGMENTS = tuple(bytes([marker]) for marker in (*range(0xE2, 0xEE), 0xEF, 0xFE))
"""Markers of a JPEG: profiles, previews, captions, comments; not JFIF's, EXIF's and Adobe's, on which pixels depend."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation."""


class RefusedError(Exception):
    """A file cannot become an image; the message is the reason."""


def _unbounded(_: int) -> None:
    """Reserve nothing: a process that decodes alone takes the memory that it needs."""


def decode(content: bytes, reserve: Reserve = _unbounded) -> tuple[Image.Image, str | None]:
    """Return a PNG, JPEG, WebP or BMP as a viewer shows it, upright as its EXIF orientation says, and perhaps a note.

    Of an animation, the first frame counts. Broken metadata cost no pixels: if EXIF is unreadable, the image stays
    unturned; either is the note. `reserve` is called with the bytes that pixels will take, before they do. It is a
    RefusedError if the bytes are empty, no image, truncated, or of more pixels than the bounds above allow.
    """
    if not content:
        raise RefusedError("empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return _upright(_loaded(content, reserve), None)
        except RefusedError:
            with suppress(RefusedError):
                bare = _loaded(_without_metadata(content), reserve)
                return _upright(bare, "metadata are unreadable and were left out")
            raise


def _loaded(content: bytes, reserve: Reserve) -> Image.Image:
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        if max(image.size) > LONGEST_SIDE:
            raise RefusedError(f"{image.width:,} x {image.height:,} pixels, and a side may have {LONGEST_SIDE:,}")
        if content.startswith(JPEG) and content.count(b"\xff\xda") * math.prod(image.size) > MOST_SCANNED:
            raise RefusedError(f"more than {MOST_SCANNED:,} pixels in all of its scans")
        if content.startswith(PNG):
            _check_png(content)
        per_pixel = BYTES_A_PIXEL.get(str(image.format), BYTES_A_PIXEL["other"])
        reserve(per_pixel * math.prod(image.size) + BYTES_A_ROW * image.height + 2 * len(content))
        image.load()
        return image.copy() if image.format == "WEBP" else image  # without the canvases of its decoder
    except RefusedError:
        raise
    except UnidentifiedImageError:
        raise RefusedError(f"not an image ({', '.join(FORMATS)})") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise RefusedError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything when bytes are bad
        raise unreadable(error) from None


def unreadable(error: Exception) -> RefusedError:
    """Return the refusal of an image for whatever a library raised, with what it says."""
    return RefusedError(f"unreadable: {' '.join(str(error).split()) or type(error).__name__}")


def _upright(image: Image.Image, note: str | None) -> tuple[Image.Image, str | None]:
    """Turn an image; Pillow's `exif_transpose` would also write EXIF anew, which fails for reasons of its own."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow reads EXIF late, and raises almost anything
        return image, "EXIF is unreadable, so the image is not turned"
    return (image if turn is None else image.transpose(turn)), note


def _without_metadata(content: bytes) -> bytes:
    """Return a PNG or JPEG without what its pixels do not depend on; other bytes as they are."""
    if content.startswith(PNG):
        return PNG + b"".join(_png_chunks(content))
    if content.startswith(JPEG):
        return JPEG + b"".join(_jpeg_segments(content))
    return content


def _check_png(content: bytes) -> None:
    """Compare the checksums of what pixels depend on in a PNG, as its viewers do, but Pillow not."""
    for chunk in _png_chunks(content):
        if chunk[4:8] != b"eXIf" and zlib.crc32(memoryview(chunk)[4:-4]) != int.from_bytes(chunk[-4:]):
            raise RefusedError(f"unreadable: broken PNG (bad checksum of {chunk[4:8].decode()})")


def _png_chunks(content: bytes) -> Iterator[bytes]:
    """Yield the needed chunks: length, name, data and checksum of each."""
    start = len(PNG)
    while start < len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4])
        if content[start + 4 : start + 8] in NEEDED_CHUNKS:
            yield content[start:end]
        start = end


def _jpeg_segments(content: bytes) -> Iterator[bytes]:
    """Yield the needed segments before the first scan (marker, length, data), and all that follows them."""
    start = len(JPEG)
    while content[start : start + 1] == b"\xff" and content[start + 1 : start + 2] != b"\xda":
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4])
        if content[start + 1 : start + 2] not in METADATA_SEGMENTS:
            yield content[start:end]
        start = end
    yield content[start:]


def pixels(
    image: Image.Image, *, size: int, channels: Literal[1, 3], fit: Literal["crop", "pad", "stretch"]
) -> NDArray[np.uint8]:
    """Return the pixels of an image of any mode and shape as (channels, size, size), grey or RGB.

    Transparent images are laid on white. 16-bit grey becomes round(value / 257), so 65,535 becomes 255. Colour becomes
    grey by ITU-R 601. `crop` cuts the centre square out, `pad` adds white bars, `stretch` changes the aspect ratio.
    Resizing is antialiased (Lanczos); an image that has the size already keeps its pixels.
    """
    flat = _converted(_opaque(image), "L" if channels == 1 else "RGB")
    array = np.asarray(_square(flat, size, fit))
    return array[np.newaxis] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, in a container of 16 or 32
        whole, rest = np.divmod(np.clip(np.asarray(image), 0, 65535).astype(np.uint16), 257)
        return Image.fromarray((whole + (rest > 128)).astype(np.uint8))  # no value is halfway between two
    if not image.has_transparency_data:
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), _converted(image, "RGBA"))


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # which copies in any case


def _square(image: Image.Image, size: int, fit: Literal["crop", "pad", "stretch"]) -> Image.Image:
    if image.size == (size, size):
        return image
    match fit:
        case "crop":
            return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
        case "pad":
            return _padded(image, size)
        case "stretch":
            return image.resize((size, size), Image.Resampling.LANCZOS)


def _padded(image: Image.Image, size: int) -> Image.Image:
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    square = Image.new(image.mode, (size, size), "white")  # as what is transparent becomes
    square.paste(image.resize((width, height), Image.Resampling.LANCZOS), ((size - width) // 2, (size - height) // 2))
    return square
