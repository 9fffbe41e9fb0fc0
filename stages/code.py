"""The stage `code`: digests of the code that each stage runs, the one code dependency that `dvc.yaml` gives it."""

from pathlib import Path

from mlops.project.code_digest import write_digests


def code(digests: Path) -> None:
    """Write for each stage a JSON file with the digest of every file that it imports.

    Args:
        digests: new; a folder.
    """
    write_digests("stages", digests)
