import io
import os
import pickle
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mlops.images import readers
from mlops.images.archives.entry import Entry
from mlops.images.image_tar import pack
from mlops.images.layout.layout import OUTSIDE
from mlops.images.originals import Originals
from mlops.images.published import CIFAR_TEST, CIFAR_TRAIN, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from mlops.images.readers import read
from mlops.project.errors import UserError
from mlops.project.params import DataConfig
from stages.fetch import fetch
from tests.mlops.images.decoded import Read, decoded


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, train: int = 7, test: int = 3) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Write four small files in the format of MNIST; return all images and labels, training ones first."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (train + test, 5, 4), np.uint8), rng.integers(0, 10, train + test, np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRAIN_IMAGES).write_bytes(idx(images[:train]))
    (folder / TRAIN_LABELS).write_bytes(idx(labels[:train]))
    (folder / TEST_IMAGES).write_bytes(idx(images[train:]))
    (folder / TEST_LABELS).write_bytes(idx(labels[train:]))
    return images, labels


def all_of(originals: Originals, first: int = 0) -> list[Read]:
    """Return all images as other processes get them."""
    chunks = [pickle.loads(pickle.dumps(chunk)) for chunk in originals.chunks(first, 256)]
    assert max(map(len, chunks), default=0) <= 256
    assert sum(len(chunk) for chunk in chunks) == originals.total - first
    return [decoded(original) for chunk in chunks for original in chunk.originals()]


def pixels_of(original: Read) -> NDArray[np.uint8]:
    assert original.image is not None
    return np.asarray(original.image)


def test_idx_files_are_read_image_by_image(tmp_path: Path) -> None:
    images, labels = write_idx(tmp_path)
    originals = read(tmp_path, "mnist")
    found = all_of(originals)
    assert originals.total == len(found) == 10
    assert [original.source for original in found[5:9]] == [
        f"{TRAIN_IMAGES}#5",
        f"{TRAIN_IMAGES}#6",
        f"{TEST_IMAGES}#0",
        f"{TEST_IMAGES}#1",
    ]
    assert [original.split for original in found] == ["train"] * 7 + ["test"] * 3
    assert [original.class_name for original in found] == [str(label) for label in labels]
    assert all(np.array_equal(pixels_of(original), image) for original, image in zip(found, images, strict=True))


@pytest.mark.parametrize("first", [0, 1, 256, 299, 300, 301, 350])
def test_images_can_be_read_from_any_of_them_on(tmp_path: Path, first: int) -> None:
    write_idx(tmp_path, train=300, test=50)
    originals = read(tmp_path, "mnist")
    everything, rest = all_of(originals), all_of(originals, first)
    assert [original.source for original in rest] == [original.source for original in everything[first:]]
    assert all(
        np.array_equal(pixels_of(one), pixels_of(other)) for one, other in zip(rest, everything[first:], strict=True)
    )


def test_fashion_has_names_for_its_classes(tmp_path: Path) -> None:
    _, labels = write_idx(tmp_path)
    originals = read(tmp_path, "fashion_mnist")
    assert originals.classes is not None
    assert originals.classes[0] == "T-shirt/top"
    assert originals.classes[9] == "Ankle boot"
    assert all_of(originals)[0].class_name == originals.classes[labels[0]]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (TRAIN_IMAGES, idx(np.zeros((7, 5, 4), np.uint8))[:-1]),
        (TRAIN_IMAGES, idx(np.zeros((7, 5, 4), np.uint8)) + b"x"),
        (TRAIN_IMAGES, idx(np.zeros((6, 5, 4), np.uint8))),
        (TRAIN_IMAGES, idx(np.zeros(7, np.uint8))),
        (TRAIN_LABELS, idx(np.full(7, 10, np.uint8))),
        (TRAIN_LABELS, b""),
        (TEST_LABELS, b"123"),
        (TEST_LABELS, None),
    ],
)
def test_raw_files_that_fetch_did_not_write_are_named(tmp_path: Path, file: str, content: bytes | None) -> None:
    write_idx(tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=r"mnist .*`dvc repro --force fetch`"):
        read(tmp_path, "mnist")


def test_cifar_records_are_a_label_and_planes_of_colour(tmp_path: Path) -> None:
    planes = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), np.uint8)
    for number, file in enumerate((*CIFAR_TRAIN, CIFAR_TEST)):
        pair = planes[2 * number : 2 * number + 2]
        (tmp_path / file).write_bytes(b"".join(bytes([number]) + image.tobytes() for image in pair))
    originals = read(tmp_path, "cifar10")
    found = all_of(originals)
    assert originals.total == 12
    assert [original.split for original in found] == ["train"] * 10 + ["test"] * 2
    assert [original.class_name for original in found[::2]] == ["airplane", "automobile", "bird", "cat", "deer", "dog"]
    assert found[11].source == "test_batch.bin#1"
    assert np.array_equal(pixels_of(found[11]), planes[11].transpose(1, 2, 0))


def test_digits_are_scaled_from_16_to_255(tmp_path: Path) -> None:
    fetch(tmp_path / "raw", data=DataConfig("digits", None))
    originals = read(tmp_path / "raw", "digits")
    found = all_of(originals)
    assert originals.total == len(found) == 1797
    assert {original.split for original in found} == {None}
    assert [original.class_name for original in found[:12]] == list("012345678901")
    assert pixels_of(found[0])[0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]  # 0, 0, 5, 13, 9, 1, 0, 0
    assert max(pixels_of(original).max() for original in found) == 255


def test_a_folder_is_decoded_or_refused_file_by_file(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("L", (6, 4), 9).save(picture, "PNG")
    files = {"stray.png": picture.getvalue(), "test/b.png": b"no", "train/a.png": picture.getvalue()}
    entries = [Entry(name, len(content), partial(io.BytesIO, content)) for name, content in files.items()]
    pack(entries, tmp_path / "images.tar", tmp_path / "images.csv")
    originals = read(tmp_path, "folder")
    stray, test, train = all_of(originals)
    assert (originals.total, originals.classes) == (3, None)
    assert [original.source for original in all_of(originals, 1)] == ["test/b.png", "train/a.png"]
    assert (stray.refused, stray.split) == (OUTSIDE, None)
    assert test.refused == "not an image (PNG, JPEG, WEBP, BMP)"
    assert (train.source, train.split, train.refused) == ("train/a.png", "train", None)
    assert pixels_of(train).tolist() == [[9] * 6] * 4


def test_a_note_on_an_image_goes_with_it(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("L", (6, 4), 9).save(picture, "PNG", exif=b"GARBAGE")
    entries = [Entry("a.png", len(picture.getvalue()), partial(io.BytesIO, picture.getvalue()))]
    pack(entries, tmp_path / "images.tar", tmp_path / "images.csv")
    (odd,) = all_of(read(tmp_path, "folder"))
    assert (odd.refused, pixels_of(odd).shape) == (None, (4, 6))
    assert odd.note is not None


def test_a_folder_without_its_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "images.tar").write_bytes(bytes(10240))
    with pytest.raises(UserError, match=r"images\.csv.*`dvc repro --force fetch`"):
        read(tmp_path, "folder")


@given(
    st.builds(
        lambda magic, shape, data, cut: struct.pack(f">{1 + len(shape)}I", magic, *shape)[: cut or None] + data,
        st.sampled_from([0x801, 0x803, 0x802, 0xD03, 0, 2**32 - 1]),
        st.lists(st.sampled_from([0, 1, 2, 3, 5, 2**16, 2**31, 2**32 - 1]), max_size=4),
        st.binary(max_size=80),
        st.integers(0, 16),
    )
    | st.binary(max_size=40),
    st.sampled_from([TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_idx_file_is_read_to_its_exact_end_or_is_one_error(tmp_path: Path, content: bytes, name: str) -> None:
    write_idx(tmp_path)
    (tmp_path / name).write_bytes(content)
    try:
        originals = read(tmp_path, "mnist")
    except UserError:
        return
    count, *sides = struct.unpack(f">{3 if 'images' in name else 1}I", content[4:][: 12 if "images" in name else 4])
    assert count == (7 if "train" in name else 3)
    assert len(content) == 4 * (2 + len(sides)) + count * int(np.prod(sides))
    assert len(all_of(originals)) == 10


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("cut", [0, 5])
@pytest.mark.parametrize("more", [0, 1, -1, 3073, -3073, -500])
def test_cifar_files_have_whole_records_and_as_many_in_each(tmp_path: Path, count: int, cut: int, more: int) -> None:
    for number, file in enumerate((*CIFAR_TRAIN, CIFAR_TEST)):
        length = 3073 * count + (more if number == cut else 0)
        (tmp_path / file).write_bytes(b"\1" * max(0, length))
    if count and not more:
        assert len(all_of(read(tmp_path, "cifar10"))) == 6 * count
        return
    with pytest.raises(UserError, match=r"cifar10 .*`dvc repro --force fetch`"):
        read(tmp_path, "cifar10")


def test_a_cut_csv_of_digits_is_one_error(tmp_path: Path) -> None:
    fetch(tmp_path / "raw", data=DataConfig("digits", None))
    whole = (tmp_path / "raw" / "digits.csv.gz").read_bytes()
    for length in (0, 1, 1000, len(whole) - 1):
        (tmp_path / "raw" / "digits.csv.gz").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"raw .*`dvc repro --force fetch`"):
            read(tmp_path / "raw", "digits")


def test_a_tar_that_is_cut_while_it_is_read_refuses_no_image(tmp_path: Path) -> None:
    entries = [Entry(f"{n}.png", 2000, partial(io.BytesIO, bytes(2000))) for n in range(5)]
    pack(entries, tmp_path / "images.tar", tmp_path / "images.csv")
    originals = read(tmp_path, "folder")
    os.truncate(tmp_path / "images.tar", 3000)
    with pytest.raises(UserError, match=r"images\.tar"):
        all_of(originals)


def test_a_file_beyond_the_bound_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [Entry(f"{size}.png", size, partial(io.BytesIO, bytes(size))) for size in (2000, 2001)]
    pack(entries, tmp_path / "images.tar", tmp_path / "images.csv")
    monkeypatch.setattr(readers, "LARGEST_IMAGE_FILE", 2000)
    assert [original.refused for original in all_of(read(tmp_path, "folder"))] == [
        "not an image (PNG, JPEG, WEBP, BMP)",
        "2,001 bytes, and an image may have 2,000",
    ]
