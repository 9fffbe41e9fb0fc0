import io
from functools import partial
from pathlib import Path

import pytest

from mlops.images.archives import image_files
from mlops.images.archives.entry import Entry
from mlops.images.archives.image_files import images, kinds
from mlops.project.errors import UserError

SOURCE = Path("source")


def entry(name: str, content: bytes = b"some text") -> Entry:
    return Entry(name, len(content), partial(io.BytesIO, content))


@pytest.mark.parametrize(
    "name", ["a.png", "a.JPG", "b/a.jpeg", "a.jfif", "a.WebP", "a.bmp", "a.gif", "a.TIFF", "a.heic"]
)
def test_a_name_is_enough(name: str) -> None:
    for content in (b"", b"some text"):
        assert len(images(SOURCE, [entry(name, content)])) == 1


@pytest.mark.parametrize("name", ["a", "b/a.txt", "a.jpg:large", "a.jpg.1", "png"])
@pytest.mark.parametrize(
    ("start", "is_image"),
    [
        (b"\x89PNG\r\n\x1a\n", True),
        (b"\xff\xd8\xff\xe1", True),
        (b"RIFF\x99\x00\x00\x00WEBP", True),
        (b"RIFF\x99\x00\x00\x00WAVE", False),
        (b"RIFFWEBP", False),
        (b"BM, a car", False),
        (b"", False),
    ],
)
def test_where_the_name_does_not_say_it_the_first_bytes_do(name: str, start: bytes, is_image: bool) -> None:
    for content in (start, start + b"and more"):
        if content != b"and more":
            assert len(images(SOURCE, [entry(name, content)])) == is_image


def test_an_image_has_a_bound_and_what_lies_beside_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [entry("a.png", bytes(1001)), entry("a.mp4", bytes(2000))]
    monkeypatch.setattr(image_files, "LARGEST_FILE", 1001)
    assert images(SOURCE, entries) == entries[:1]
    monkeypatch.setattr(image_files, "LARGEST_FILE", 1000)
    with pytest.raises(UserError, match=r"source: .*'a.png' .*1,001 .*1,000"):
        images(SOURCE, entries)


def test_kinds_are_counted_most_first_and_the_rare_together() -> None:
    names = ["a.txt", "b.TXT", "LICENSE", *(f"a.{number}" for number in range(6))]
    assert kinds(map(entry, names)).startswith("2 .txt, 1 without suffix, 1 .0, ")
    assert kinds(map(entry, names)).endswith(", 3 others")
