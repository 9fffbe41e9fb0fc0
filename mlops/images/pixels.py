"""From the bytes of an image file to the pixels that networks see."""

import io
import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")


class RefusedError(Exception):
    """A file cannot become an image; the message is the reason."""


def decode(content: bytes) -> Image.Image:
    """Return a PNG, JPEG, WebP or BMP as a viewer shows it: upright, as its EXIF orientation says.

    Of an animation, the first frame counts. It is a RefusedError if the bytes are empty, no image, truncated, or more
    than `PIL.Image.MAX_IMAGE_PIXELS` pixels.
    """
    if not content:
        raise RefusedError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return image
    except UnidentifiedImageError:
        raise RefusedError(f"not an image ({', '.join(FORMATS)})") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise RefusedError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except Exception as error:  # Pillow's decoders raise almost anything when bytes are bad
        raise RefusedError(f"unreadable: {error or type(error).__name__}") from None


def pixels(
    image: Image.Image, *, size: int, channels: Literal[1, 3], fit: Literal["crop", "pad", "stretch"]
) -> NDArray[np.uint8]:
    """Return the pixels of an image of any mode and shape as (channels, size, size), grey or RGB.

    Transparent images are laid on white. 16-bit grey becomes round(value / 257), so 65,535 becomes 255. Colour becomes
    grey by ITU-R 601. `crop` cuts the centre square out, `pad` adds black bars, `stretch` changes the aspect ratio.
    Resizing is antialiased (Lanczos); an image that has the size already keeps its pixels.
    """
    flat = _opaque(image).convert("L" if channels == 1 else "RGB")
    array = np.asarray(_square(flat, size, fit))
    return array[np.newaxis] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, in a container of 16 or 32
        return Image.fromarray(np.rint(np.clip(np.asarray(image), 0, 65535) / 257).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))


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
    square = Image.new(image.mode, (size, size))  # black
    square.paste(image.resize((width, height), Image.Resampling.LANCZOS), ((size - width) // 2, (size - height) // 2))
    return square
