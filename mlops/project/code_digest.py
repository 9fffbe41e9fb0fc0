"""Which code a result depends on, computed from imports: blind to comments, docstrings and layout."""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

from mlops.project.result_files import save_json

ROOT = Path(__file__).resolve().parents[2]
"""The folder of this code, which may be a copy of the project."""
PACKAGES = ("gan_core", "mlops", "stages", "experiments")
IGNORED = ("gan_core/config.py", "mlops/project/", "mlops/tracking/", "experiments/densities/config.py")
"""Files and rooms whose code shapes no number: they check, place, fetch or report."""
WARNS_ONLY = {"train": "gan_core/doctor.py"}
"""Per stage, a file that only warns: thresholds of the doctor may end a training, but change no byte of its outputs."""


def code_files(entry: str, without: str | None = None) -> dict[str, str]:
    """Return the files that a file imports, directly or not, itself included, each with a digest of its code.

    Args:
        entry: path of a Python file, relative to the project.
        without: path of a file that is left out.

    Returns:
        sha256 by relative path, sorted by path; files in `IGNORED` are neither listed nor followed.

    Raises:
        FileNotFoundError: there is no such file.
    """
    found: dict[str, str] = {}
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        if path not in found and path != without and not path.startswith(IGNORED):
            found[path], imported = _parsed(ROOT / path)
            waiting += imported
    return dict(sorted(found.items()))


def code_sha256(entry: str, without: str | None = None) -> str:
    """Return one sha256 over all of `code_files`."""
    return hashlib.sha256(json.dumps(code_files(entry, without)).encode()).hexdigest()


def stage_sha256(stage: str) -> str:
    """Return one sha256 over the code of a stage."""
    return code_sha256(f"stages/{stage}.py", WARNS_ONLY.get(stage))


def write_digests(package: str, folder: Path) -> None:
    """Write `code_files` of each module of a package as a JSON file of the module's name.

    Args:
        package: folder of this project, such as `stages`.
        folder: new.
    """
    for path in sorted((ROOT / package).glob("[a-z]*.py")):
        save_json(folder / f"{path.stem}.json", code_files(f"{package}/{path.name}", WARNS_ONLY.get(path.stem)))


@cache
def _parsed(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the digest of a file's code, and the files of this project that it imports anywhere."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = tuple(file for name in _imports(tree) if (file := _file_of(name)))
    return hashlib.sha256(ast.unparse(_WithoutDocstrings().visit(tree)).encode()).hexdigest(), imported


def _imports(tree: ast.Module) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _file_of(module: str) -> str | None:
    """Return the file of a module of this project; None for other modules, folders, and names inside a module."""
    path = module.replace(".", "/") + ".py"
    return path if path.startswith(PACKAGES) and (ROOT / path).is_file() else None


class _WithoutDocstrings(ast.NodeTransformer):
    """Drops every expression that is a string alone: docstrings of modules, classes, functions and constants."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:  # noqa: N802  # the name that ast calls
        """Replace a string by `pass`, so that no body becomes empty."""
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.copy_location(ast.Pass(), node) if is_text else node
