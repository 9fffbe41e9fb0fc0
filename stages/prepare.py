"""The stage `prepare`: checked uint8 arrays, a manifest of every source image, and what is odd about them."""

import hashlib
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stages.errors import StageError
from stages.formats import Original, Originals, read
from stages.manifest import Row, manifest, summarize
from stages.outputs import new_folder
from stages.params import DataConfig, PrepareConfig
from stages.pixels import pixels
from stages.prepared import MANIFEST, ImageFile, Split, Summary, images_path, labels_path, save_summary
from stages.progress import progress

SPLITS: tuple[Split, ...] = get_args(Split)
SHOWN = 10
"""How many refused files and classes are named on the screen; the manifest has all."""


def prepare(raw: Path, prepared: Path, *, data: DataConfig, prepare: PrepareConfig) -> None:
    """Write the images of all splits as arrays (N, C, H, W), their labels, a manifest and a summary.

    Official test splits stay as they are. Of a published training split the last images are held out for validation, as
    is the custom for MNIST (50,000 and 10,000). Other images go to a split by a hash of their own pixels, see
    `drawn_split`. Files that are no readable image are left out and listed, up to a bound.

    Args:
        raw: what `fetch` wrote.
        prepared: new; a folder.
        data: which data set.
        prepare: size, channels, fit, split and the bound.

    Raises:
        StageError: too many files were refused, a split is empty, `raw` is not what `fetch` writes, or the disk is
            full. Then nothing is written.
    """
    originals = read(raw, data.name)
    with new_folder(prepared) as folder:
        rows = _write_images(originals, folder, prepare)
        frame, classes = manifest(rows, originals.classes)
        summary = summarize(frame, name=data.name, size=prepare.image_size, channels=prepare.channels, classes=classes)
        refused = [(row.source, row.refused) for row in rows if row.refused is not None]
        _check_refused(refused, len(rows), prepare.max_refused_share)
        _check_splits(summary, prepare)
        if classes is not None:
            for split in SPLITS:
                labels = frame.loc[frame["split"].eq(split) & frame["refused"].isna(), "label"]
                np.save(labels_path(folder, split), labels.to_numpy(np.int64))
        frame.to_parquet(folder / MANIFEST, engine="pyarrow", index=False)
        save_summary(folder, summary)
    _report(summary, refused)


def drawn_split(content: bytes, *, seed: int, test_share: float, validation_share: float) -> Split:
    """Return the split of an image by a hash of seed and pixels, read as a number in [0, 1).

    Below `test_share` it is test; of what is above, the lowest `validation_share` is validation. Images with equal
    pixels are therefore never on two sides, and adding or removing images moves no other.

    Args:
        content: the prepared pixels.
        seed: of the split.
        test_share: expected share of the test split, in [0, 1).
        validation_share: expected share of what is not in the test split, in (0, 1).

    Returns:
        `train`, `validation` or `test`.
    """
    digest = hashlib.sha256(f"{seed}:".encode() + content).digest()
    number = (int.from_bytes(digest[:8]) >> 11) / 2**53  # as many bits as a float holds, so never 1
    if number < test_share:
        return "test"
    return "validation" if number < test_share + (1 - test_share) * validation_share else "train"


def _write_images(originals: Originals, folder: Path, config: PrepareConfig) -> list[Row]:
    shape = (config.channels, config.image_size, config.image_size)
    kept = originals.official_train - round(originals.official_train * config.validation_share)
    rows: list[Row] = []
    with ExitStack() as stack:
        files = {split: stack.enter_context(ImageFile(images_path(folder, split), shape)) for split in SPLITS}
        line = stack.enter_context(progress("prepare: images", originals.total))
        for original in originals.images:
            if len(rows) < originals.official_train:
                original = replace(original, split="train" if len(rows) < kept else "validation")
            rows.append(_write_image(original, files, config, published=originals.official_train > 0))
            line.update(len(rows))
    return rows


def _write_image(original: Original, files: dict[Split, ImageFile], config: PrepareConfig, *, published: bool) -> Row:
    if original.image is None:
        return Row(original.source, None, None, original.class_name, None, None, None, original.refused)
    image = pixels(original.image, size=config.image_size, channels=config.channels, fit=config.fit)
    content = image.tobytes()
    split = original.split
    if split is None or (split == "train" and not published):
        test_share = config.test_share if split is None else 0.0
        shares = {"test_share": test_share, "validation_share": config.validation_share}
        split = drawn_split(content, seed=config.seed, **shares)
    index = files[split].append(image)
    sha256 = hashlib.sha256(content).hexdigest()
    return Row(original.source, split, index, original.class_name, *original.image.size, sha256, None)


def _check_refused(refused: list[tuple[str, str]], total: int, bound: float) -> None:
    if len(refused) > bound * total:
        listed = [f"  {source}: {reason}" for source, reason in refused[:SHOWN]]
        more = [f"  and {len(refused) - SHOWN:,} more"] if len(refused) > SHOWN else []
        message = (
            f"{len(refused):,} of {total:,} files ({len(refused) / total:.2%}) were refused, and "
            f"prepare.max_refused_share in params.yaml allows {bound:.2%}; remove or repair them in data.path, "
            f"or raise the bound:"
        )
        raise StageError("\n".join([message, *listed, *more]))


def _check_splits(summary: Summary, config: PrepareConfig) -> None:
    counts = {"train": summary.train, "validation": summary.validation, "test": summary.test}
    for split, count in counts.items():
        if count == 0:
            raise StageError(
                f"none of the {sum(counts.values()):,} images is in the {split} split; add images, or change "
                f"prepare.test_share in params.yaml, which is {config.test_share} (it has no effect on official test "
                f"splits), or prepare.validation_share, which is {config.validation_share}"
            )


def _report(summary: Summary, refused: list[tuple[str, str]]) -> None:
    shape = f"{summary.channels} x {summary.size} x {summary.size}"
    table = Table("", *SPLITS, title=f"prepared: {summary.name}, {shape}", title_justify="left")
    duplicates = (summary.duplicates_train, summary.duplicates_validation, summary.duplicates_test)
    table.add_row("images", f"{summary.train:,}", f"{summary.validation:,}", f"{summary.test:,}")
    table.add_row("duplicates within", *(f"{count:,}" for count in duplicates))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"classes: {escape(_class_list(summary.classes))}")
    console.print(f"held out, but with the pixels of a training image: {summary.leaks:,}")
    console.print(f"refused: {summary.refused:,}")
    for source, reason in refused[:SHOWN]:
        console.print(f"  {escape(source)}: {escape(reason)}")
    if len(refused) > SHOWN:
        console.print(f"  and {len(refused) - SHOWN:,} more, see `refused` in {MANIFEST}")


def _class_list(classes: list[str] | None) -> str:
    if classes is None:
        return "none, so there are no labels"
    more = ", ..." if len(classes) > SHOWN else ""
    return f"{len(classes):,}: {', '.join(classes[:SHOWN])}{more}"
