"""Work in `.checkpoints/KEY/` and `.checkpoints/prepare-KEY/`, which stays until DVC has recorded what was made of it.

Until then DVC may fail to store the outputs of a stage (a full disk, a kill), and deletes them before the next run of
the stage, which then makes them of this work again.
"""

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mlops.project.errors import UserError
from mlops.project.identity import dvc_md5, project_root
from mlops.project.result_files import HISTORY, SAMPLES, SNAPSHOTS
from mlops.safety.locks import locked
from mlops.safety.pipelines import MAIN, load_yaml
from mlops.safety.written_files import delete_written, load_note, save_note

CHECKPOINT, PREVIOUS, NEXT = "state.safetensors", "previous.safetensors", "next.safetensors"
"""The last checkpoint of a training, the one before, and one that is being written."""
MADE = "made.json"
"""What was made of the work: DVC's md5 of each output."""
PREPARE = "prepare-"
OF_TRAINING = (
    *(PREVIOUS, CHECKPOINT, NEXT, f".{NEXT}.*", HISTORY),
    *(f"{SAMPLES}/*step_*.png*", f"{SNAPSHOTS}/*step_*.safetensors*", f"{MADE}*", "lock"),
)
"""Files of a training's work. Checkpoints are deleted first: without one, nothing else is read; the note last."""
OF_PREPARE = ("rows", "images_*.npy", f"{MADE}*", "lock")
"""Likewise of `prepare`, as `ChunkStore` writes them."""


def hand_over(source: Path, target: Path) -> None:
    """Give a file that is never written into again a second name, or copy it to another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def note_made(folder: Path, outputs: Iterable[Path]) -> None:
    """Note in a folder of work what was made of it, before the outputs take their places."""
    save_note(folder / MADE, {"outputs": [dvc_md5(output) for output in outputs]})


def delete_work(folder: Path) -> None:
    """Delete what a training or `prepare` has written in its folder, which the caller has locked."""
    delete_written(folder, *(OF_PREPARE if folder.name.startswith(PREPARE) else OF_TRAINING))


def delete_recorded() -> None:
    """Delete the work of which all that was made stands in `dvc.lock`; work that a process has locked stays.

    Before that, all that was written comes to the disk: DVC leaves its cache to the operating system.
    """
    notes = list((project_root() / ".checkpoints").glob(f"*/{MADE}"))
    if not notes:
        return
    stages = load_yaml(MAIN.with_suffix(".lock")).get("stages", {}).values()
    recorded = {out.get("md5") for stage in stages for out in stage.get("outs", [])}
    for note in notes:
        outputs = load_note(note).get("outputs", [])
        if outputs and recorded.issuperset(outputs):
            with suppress(UserError), locked(note.parent, "", ""):
                os.sync()
                delete_work(note.parent)
