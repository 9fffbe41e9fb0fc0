"""The stage `code`: what must hold before any other stage, and digests of the code that each of them runs."""

from pathlib import Path

from mlops.project.code_digest import write_digests
from mlops.safety.preflight import preflight
from mlops.safety.written_files import note_written


def code(digests: Path) -> None:
    """Check what can be checked before work starts; write for each stage the digests of all files that it imports.

    The digests are the one code dependency that `dvc.yaml` gives a stage.

    Args:
        digests: a folder, which DVC leaves as it is; files are written if they change.

    Raises:
        UserError: a parameter is wrong or names a place that the project itself deletes, an output holds files that
            no stage wrote, or something that a later stage needs is missing.
    """
    preflight()
    write_digests("stages", digests)
    note_written(digests)
