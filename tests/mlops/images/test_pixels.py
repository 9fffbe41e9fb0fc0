import io
import struct
import zlib
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mlops.images.pixels import RefusedError, decode, pixels


def encoded(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def prepared(
    image: Image.Image, size: int = 8, channels: Literal[1, 3] = 1, fit: Literal["crop", "pad", "stretch"] = "crop"
) -> NDArray[np.uint8]:
    return pixels(decode(encoded(image))[0], size=size, channels=channels, fit=fit)


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_an_image_of_the_right_size_keeps_its_pixels(fit: Literal["crop", "pad", "stretch"]) -> None:
    grey, colour = noise(8, 8), noise(8, 8, 3)
    assert np.array_equal(prepared(Image.fromarray(grey), fit=fit), grey[np.newaxis])
    assert np.array_equal(prepared(Image.fromarray(colour), channels=3, fit=fit), colour.transpose(2, 0, 1))


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "WEBP"])
def test_lossless_formats_keep_their_pixels(file_format: str) -> None:
    colour = noise(8, 8, 3)
    options = {"lossless": True} if file_format == "WEBP" else {}
    image, _ = decode(encoded(Image.fromarray(colour), file_format, **options))
    assert np.array_equal(pixels(image, size=8, channels=3, fit="crop"), colour.transpose(2, 0, 1))


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    values = np.array([0, 128, 129, 257, 25700, 32768, 65406, 65535], dtype=np.uint16)
    image = prepared(Image.fromarray(np.tile(values, (8, 1))))
    assert image[0, 3].tolist() == [0, 0, 1, 1, 100, 128, 254, 255]


def test_all_of_sixteen_bits_are_rounded_to_the_nearest() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image, _ = decode(encoded(Image.fromarray(values)))
    expected = np.rint(values / 257).astype(np.uint8)
    assert np.array_equal(pixels(image, size=256, channels=1, fit="crop")[0], expected)


def test_one_bit_is_black_and_white() -> None:
    bits = noise(8, 8) > 127
    assert np.array_equal(prepared(Image.fromarray(bits))[0], np.where(bits, 255, 0))


def test_a_palette_shows_its_colours() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert prepared(image, channels=3)[:, 4, 4].tolist() == [10, 20, 30]


def test_cmyk_is_not_inverted() -> None:
    image, _ = decode(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=100))
    assert image.mode == "CMYK"
    red, green, blue = pixels(image, size=8, channels=3, fit="crop")[:, 4, 4].tolist()
    assert (red < 30, green > 225, blue > 225) == (True, True, True)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGBA", (8, 8), (200, 0, 0, 0)),
        Image.new("LA", (8, 8), (7, 0)),
        Image.new("RGB", (8, 8), (200, 0, 0)),
        Image.new("P", (8, 8), 0),
    ],
    ids=lambda image: image.mode,
)
def test_what_is_transparent_is_white(image: Image.Image) -> None:
    keys: dict[str, Any] = {"RGB": {"transparency": (200, 0, 0)}, "P": {"transparency": 0}}
    decoded, _ = decode(encoded(image, **keys.get(image.mode, {})))
    assert (pixels(decoded, size=8, channels=3, fit="crop") == 255).all()


def test_half_transparent_black_is_grey() -> None:
    assert prepared(Image.new("RGBA", (8, 8), (0, 0, 0, 128)))[0, 0, 0] == 127


def test_grey_weighs_colours_as_the_eye_does() -> None:
    shades = [prepared(Image.new("RGB", (8, 8), colour))[0, 0, 0] for colour in ("#f00", "#0f0", "#00f")]
    assert shades == [76, 150, 29]  # 255 * (0.299, 0.587, 0.114)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_applied_as_pillow_does(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(noise(16, 8)), file_format, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    upright, note = decode(content)
    assert note is None
    assert upright.size == ((16, 8) if 5 <= orientation <= 8 else (8, 16))
    assert upright.tobytes() == expected.tobytes()


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("exif", [b"GARBAGE", b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0MM\0*\xff\xff\xff\xff"])
def test_sound_pixels_with_unreadable_exif_are_taken_unturned(file_format: str, exif: bytes) -> None:
    image = Image.fromarray(noise(16, 8))
    taken, note = decode(encoded(image, file_format, exif=exif))
    assert taken.tobytes() == decode(encoded(image, file_format))[0].tobytes()
    assert note is None or "EXIF" in note
    assert (note is None) == (file_format == "JPEG" or exif in (b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff"))


def chunk(kind: bytes, data: bytes, damage: int = 0) -> bytes:
    """Return a chunk of a PNG, perhaps with a wrong checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ damage)


@pytest.mark.parametrize(
    "odd",
    [
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(5 << 20))),
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 70,
        chunk(b"tEXt", b"a\0b", damage=1),
        *(
            chunk(kind, data)
            for kind, data in ((b"iCCP", b"p\0\7bad"), (b"gAMA", b"x"), (b"pHYs", b"x"), (b"acTL", b"x"))
        ),
    ],
    ids=["huge text", "much text", "checksum", "profile", "gamma", "density", "animation"],
)
def test_broken_metadata_of_a_png_cost_no_pixels(odd: bytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(noise(16, 8)), exif=exif)
    image, note = decode(content[:33] + odd + content[33:])  # behind the header
    assert note is not None
    assert image.tobytes() == decode(content)[0].tobytes()


def test_a_broken_profile_of_a_jpeg_costs_no_pixels() -> None:
    content = encoded(Image.fromarray(noise(16, 8, 3)), "JPEG", comment=b"x")
    image, note = decode(content[:2] + b"\xff\xe2\x00\x0fICC_PROFILE\0\5" + content[2:])
    assert note is not None
    assert image.tobytes() == decode(content)[0].tobytes()


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xe2\0\0"])
def test_a_mere_beginning_is_refused(content: bytes) -> None:
    with pytest.raises(RefusedError, match=r"^not an image"):
        decode(content)


def test_a_broken_colour_of_transparency_is_not_left_out() -> None:
    content = encoded(Image.fromarray(noise(16, 8)))
    with pytest.raises(RefusedError, match="tRNS"):
        decode(content[:33] + chunk(b"tRNS", b"x") + content[33:])


def test_crop_takes_the_centre() -> None:
    image = Image.new("L", (24, 8), 0)
    image.paste(255, (8, 0, 16, 8))
    assert (prepared(image) == 255).all()


def test_pad_adds_above_and_below_what_transparency_becomes() -> None:
    image = prepared(Image.new("LA", (32, 16), (0, 255)), fit="pad")[0]
    assert (image[2:6] == 0).all()
    assert (image[[0, 1, 6, 7]] == prepared(Image.new("LA", (32, 16), (0, 0)), fit="pad")[0, 4]).all()


def test_stretch_keeps_everything() -> None:
    image = Image.new("L", (16, 32), 0)
    image.paste(255, (0, 0, 16, 16))
    top, bottom = np.split(prepared(image, fit="stretch")[0, [0, 1, 2, 5, 6, 7]].astype(int), 2)
    assert top.min() > 225
    assert bottom.max() < 30


def test_resizing_is_antialiased() -> None:
    """A fine checkerboard becomes grey; picking single pixels would leave it black and white."""
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    image = prepared(Image.fromarray(board.astype(np.uint8)))
    assert 120 <= image.min() <= image.max() <= 135


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(1, 1), (500, 1), (1, 500), (7, 9), (8, 9), (300, 200)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_shape_becomes_the_same_shape(
    fit: Literal["crop", "pad", "stretch"], shape: tuple[int, int], channels: Literal[1, 3]
) -> None:
    image = prepared(Image.new("RGB", shape, "white"), channels=channels, fit=fit)
    assert image.shape == (channels, 8, 8)
    assert image.dtype == np.uint8
    assert image.max() == 255
    assert image.flags.c_contiguous


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"just text", r"not an image \(PNG, JPEG, WEBP, BMP\)"),
        (encoded(Image.new("L", (8, 8)), "GIF"), "not an image"),
        (encoded(Image.fromarray(noise(40, 40, 3)), "JPEG")[:-200], "unreadable: image file is truncated"),
        (encoded(Image.fromarray(noise(40, 40, 3)))[:-200], "unreadable: "),
    ],
    ids=["empty", "text", "gif", "truncated jpeg", "truncated png"],
)
def test_what_is_no_image_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(RefusedError, match=f"^{reason}") as caught:
        decode(content)
    assert "0x" not in str(caught.value)  # an address would differ from run to run


@pytest.mark.parametrize("bound", [1599, 700])  # Pillow warns of the first and raises at twice the second
def test_absurd_sizes_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch, bound: int) -> None:
    content = encoded(Image.new("L", (40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", bound)
    with pytest.raises(RefusedError, match=f"^more than {bound:,} pixels$"):
        decode(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1600)
    assert decode(content)[0].size == (40, 40)
