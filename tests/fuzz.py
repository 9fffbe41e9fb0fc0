"""Coverage-guided fuzzing of what reads strangers' files: `python -m tests.fuzz TARGET [SEEDS...] [OPTIONS]`.

Needs `pip install atheris==3.0.0`, which no part of the project does. TARGET is archive, image, idx, cifar, labels or
params; options are libFuzzer's, such as `-max_total_time=600 -timeout=10 -rss_limit_mb=2048`. A target fails if
anything but the one error that its reader promises is raised; the input is kept as `crash-...`, to become a test.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris  # type: ignore[import-untyped]  # is not installed with the project

with atheris.instrument_imports(include=["mlops", "zipfile", "tarfile", "gzip", "yaml"]):
    from mlops.images.archives.archives import open_entries
    from mlops.images.archives.image_files import images
    from mlops.images.layout.stylegan_labels import labels
    from mlops.images.pixels import RefusedError, decode
    from mlops.images.published import CIFAR_TEST, CIFAR_TRAIN, IDX_FILES
    from mlops.images.readers import read
    from mlops.project.errors import UserError
    from mlops.project.params import Params, load_as


def archive(folder: Path, data: bytes) -> None:
    """Read every entry of a zip or tar to its end."""
    (folder / "archive").write_bytes(data)
    with open_entries(folder / "archive", scratch=folder) as entries:
        images(folder / "archive", entries)
        for entry in entries:
            with entry.open() as file:
                while file.read(1 << 16):
                    pass


def image(folder: Path, data: bytes) -> None:
    """Decode an image."""
    decode(data, lambda _: None)


def published(name: str, folder: Path, data: bytes) -> None:
    """Read and decode a published data set, one file of which, as the first byte says, is the input."""
    raw, files = folder / name, dict(VALID[name])
    if data:
        files[[*files][data[0] % len(files)]] = data[1:]
    raw.mkdir(exist_ok=True)
    for file, content in files.items():
        (raw / file).write_bytes(content)
    for chunk in read(raw, name).chunks(0, 64):
        for original in chunk.originals():
            original.load(lambda _: None)


def stylegan(folder: Path, data: bytes) -> None:
    """Read a `dataset.json`."""
    labels("dataset.json", lambda name, most: data[:most], "here")


def params(folder: Path, data: bytes) -> None:
    """Read a `params.yaml`."""
    (folder / "params.yaml").write_bytes(data)
    load_as(Params, folder / "params.yaml")


CIFAR = [*CIFAR_TRAIN, CIFAR_TEST]
TEN_IMAGES = b"\0\0\x08\3" + b"\0\0\0\x0a" + b"\0\0\0\4" * 2 + bytes(range(160))
TEN_LABELS = b"\0\0\x08\1" + b"\0\0\0\x0a" + bytes(range(10))
VALID = {
    "mnist": {
        name: content for _, *pair in IDX_FILES for name, content in zip(pair, (TEN_IMAGES, TEN_LABELS), strict=True)
    },
    "cifar10": dict.fromkeys(CIFAR, (b"\3" + bytes(3072)) * 2),
}
TARGETS: dict[str, Callable[[Path, bytes], None]] = {
    "archive": archive,
    "image": image,
    "idx": partial(published, "mnist"),
    "cifar": partial(published, "cifar10"),
    "labels": stylegan,
    "params": params,
}


def main() -> None:
    """Fuzz one target; what is printed is libFuzzer's."""
    target = TARGETS[sys.argv[1]]
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:

        def once(data: bytes) -> None:
            with suppress(UserError, RefusedError):
                target(Path(name), data)

        atheris.Setup([sys.argv[0], *sys.argv[2:]], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
