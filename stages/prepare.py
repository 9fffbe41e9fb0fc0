"""The stage `prepare`: checked uint8 arrays, a manifest of every source image, duplicates and refused images."""

import hashlib
import json
import math
import sys
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from gan_core.config import FEWEST_SCORED, NetworkConfig
from mlops.images.chunk_store import ChunkStore
from mlops.images.decoding import SPLITS, Recipe, decoded, numbered
from mlops.images.layout.layout import NO_CLASS
from mlops.images.layout.split_names import shown
from mlops.images.manifest import manifest, summarize, untrained
from mlops.images.originals import Originals
from mlops.images.readers import read
from mlops.images.worker_pool import cores, mapped
from mlops.project.code_digest import stage_sha256
from mlops.project.errors import UserError
from mlops.project.identity import project_root
from mlops.project.params import DataConfig, PrepareConfig
from mlops.project.prepared_data import MANIFEST, UNLABELLED, Summary, images_path, labels_path, save_summary
from mlops.project.progress import progress
from mlops.runs.kept_work import PREPARE, delete_work, hand_over, note_made
from mlops.safety.locks import ORPHANED, locked
from mlops.safety.new_outputs import Output

PARALLEL_FROM = 32 << 20
"""Bytes of raw files, about a second of decoding: below, starting processes costs more than they give."""
CHUNK = 512
"""Most images of a chunk,"""
CHUNK_PIXELS = 3 << 19
"""and most bytes of their prepared pixels, unless one image has more: each process may have some chunks that wait."""
MOST_PROCESSES = 16
"""One process writes what the others decode, and each has some 50 MB."""
SHOWN = 10
"""Refused files that are printed; the manifest has all."""
FEWEST = {"train": FEWEST_SCORED, "validation": 1, "test": FEWEST_SCORED}
"""Images of each split with which all later stages work; good scores take hundreds."""


def prepare(
    raw: Path, prepared: Output, *, data: DataConfig, prepare: PrepareConfig, network: NetworkConfig | None = None
) -> None:
    """Write the images of all splits as arrays (N, C, H, W), their labels, a manifest and a summary.

    Official test splits stay as they are. Of a published training split the last images are held out for validation, as
    is the custom for MNIST (50,000 and 10,000). Other images go to a split by a hash of their own pixels, see
    `drawn_split`. Files that are no readable image are left out and listed, up to a bound. A run that was stopped is
    resumed, and what was decoded is kept until DVC has recorded it.

    Args:
        raw: what `fetch` wrote.
        prepared: new; a folder.
        data: which data set.
        prepare: size, channels, fit, split and the bound.
        network: whether it needs labels; what is written does not depend on it.

    Raises:
        UserError: too many files were refused, a split has too few images, `network` needs labels and there are none,
            `raw` is not what `fetch` writes, a process died, or the disk is full. Then `prepared` is not written; what
            was decoded is kept for the next run.
    """
    originals = read(raw, data.name)
    shares = (prepare.test_share, prepare.validation_share)
    recipe = Recipe(prepare.image_size, prepare.channels, prepare.fit, prepare.seed, *shares, originals.official_train)
    place = project_root() / ".checkpoints" / f"{PREPARE}{_key(raw, data.name, recipe)}"
    work, remedy = "prepares the same data with the same parameters", "what it has decoded is kept"
    with locked(place, work, remedy, ORPHANED):
        _delete_others(place)
        frame, classes = manifest(_decode(originals, recipe, place), originals.classes)
        _check_labels(network, classes, originals.unlabelled)
        size, channels = prepare.image_size, prepare.channels
        summary = summarize(frame, name=data.name, size=size, channels=channels, classes=classes)
        refused = frame.loc[frame["refused"].notna(), ["source", "refused"]]
        _check_refused(refused, len(frame), prepare.max_refused_share)
        _check_splits(summary, prepare)
        prepared.mkdir(parents=True)
        if classes is not None:
            for split in SPLITS:
                labels = frame.loc[frame["split"].eq(split), "label"]
                np.save(labels_path(prepared, split), labels.to_numpy(np.int64))
        frame.to_parquet(prepared / MANIFEST, engine="pyarrow", index=False)
        save_summary(prepared, summary)
        for split in SPLITS:
            hand_over(images_path(place, split), images_path(prepared, split))
        note_made(place, [prepared])
    _report(summary, refused, originals.unlabelled)
    _report_oddities(frame)


def _key(raw: Path, name: str, recipe: Recipe) -> str:
    """Return a key of what decoded images depend on; not of raw bytes, which take as long to read as to decode."""
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(raw.absolute().iterdir())]
    made_by = [stage_sha256("prepare"), *(version(name) for name in ("numpy", "pillow", "pyarrow"))]
    named = json.dumps([name, asdict(recipe), files, made_by])
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def _delete_others(place: Path) -> None:
    """Delete the folders of stopped runs with other data or parameters: they can be gigabytes."""
    for other in place.parent.glob(f"{PREPARE}*"):
        if other != place:
            with suppress(UserError), locked(other, "", ""):
                delete_work(other)


def _decode(originals: Originals, recipe: Recipe, place: Path) -> pd.DataFrame:
    """Decode what `place` lacks; return the rows of all images."""
    shape = (recipe.channels, recipe.size, recipe.size)
    largest = max(1, min(CHUNK, CHUNK_PIXELS // math.prod(shape)))
    with ChunkStore(place, shape) as store:
        if store.done:
            print(f"prepare: resumes after {store.done:,} images of an earlier run", file=sys.stderr)
        processes = min(cores(), MOST_PROCESSES) if originals.raw_bytes >= PARALLEL_FROM else 1
        tasks = numbered(originals.chunks(store.done, largest), store.done)
        with progress("prepare: images", originals.total, store.done) as line:
            for chunk in mapped(partial(decoded, recipe=recipe), tasks, processes=processes):
                store.add(chunk)
                line.update(store.done)
    return store.table()


def _check_labels(network: NetworkConfig | None, classes: list[str] | None, unlabelled: str | None) -> None:
    if network is not None and network.conditional and classes is None:
        raise UserError(f"{UNLABELLED}{'' if unlabelled is None else f' ({unlabelled})'}")


def _check_refused(refused: pd.DataFrame, total: int, bound: float) -> None:
    if len(refused) > bound * total:
        raise UserError(
            f"{len(refused):,} of {total:,} files ({len(refused) / total:.2%}) were refused, and "
            f"prepare.max_refused_share in params.yaml allows {bound:.2%}; remove or repair them in data.path"
            f"{_classless(refused)} and run again, or raise the bound:{_listed(refused)}"
        )


def _classless(refused: pd.DataFrame) -> str:
    if not refused["refused"].eq(NO_CLASS).any():
        return ""
    return f" (of images {NO_CLASS}: sort them into one, or set data.path to the folder that has class folders alone)"


def _listed(refused: pd.DataFrame) -> str:
    shown = [f"\n  {source}: {reason}" for source, reason in refused.head(SHOWN).itertuples(index=False)]
    return "".join(shown) + (f"\n  and {len(refused) - SHOWN:,} more" if len(refused) > SHOWN else "")


def _check_splits(summary: Summary, config: PrepareConfig) -> None:
    counts = {"train": summary.train, "validation": summary.validation, "test": summary.test}
    for split, count in counts.items():
        if count < FEWEST[split]:
            raise UserError(
                f"{count} of the {sum(counts.values()):,} images {'is' if count == 1 else 'are'} in the {split} split, "
                f"which takes {FEWEST[split]} or more; add images and run again, or change "
                f"prepare.test_share in params.yaml, which is {config.test_share} (it has no effect on official test "
                f"splits), or prepare.validation_share, which is {config.validation_share}"
            )


def _report(summary: Summary, refused: pd.DataFrame, unlabelled: str | None) -> None:
    shape = f"{summary.channels} x {summary.size} x {summary.size}"
    table = Table("", *SPLITS, title=f"prepared: {summary.name}, {shape}", title_justify="left")
    duplicates = (summary.duplicates_train, summary.duplicates_validation, summary.duplicates_test)
    table.add_row("images", f"{summary.train:,}", f"{summary.validation:,}", f"{summary.test:,}")
    table.add_row("duplicates within", *(f"{count:,}" for count in duplicates))
    Console(highlight=False).print(table)
    print(f"classes: {_class_list(summary.classes, unlabelled)}")
    print(f"held out, but with the pixels of a training image: {summary.leaks:,}")
    print(f"refused: {summary.refused:,} (listed in {MANIFEST}){_listed(refused)}")


def _report_oddities(frame: pd.DataFrame) -> None:
    if "note" in frame:
        print(f"notes: {frame['note'].notna().sum():,} images (see the column note of {MANIFEST})")
    if lost := untrained(frame):
        print(
            f"warning: no training image is of {shown(lost)}; add images of these classes, or draw other splits by "
            "another prepare.seed in params.yaml"
        )


def _class_list(classes: list[str] | None, unlabelled: str | None) -> str:
    if classes is None:
        return f"none, so there are no labels{'' if unlabelled is None else f': {unlabelled}'}"
    return f"{len(classes):,}: {shown(classes)}"
