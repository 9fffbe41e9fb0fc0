"""Which code a result depends on, computed from imports: blind to comments, docstrings and layout."""

import ast
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.util import resolve_name
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from mlops.project.result_files import save_json

ROOT = Path(__file__).resolve().parents[2]
"""The folder of this code, which may be a copy of the project."""
IGNORED = (
    "gan_core/config/",
    "mlops/project/",
    "mlops/safety/",
    "mlops/tracking/",
    "experiments/densities/config.py",
)
"""Files and rooms whose code shapes no number: they check, place, fetch or report."""
WARNS_ONLY = {"train": "gan_core/doctor.py"}
"""Per stage, a file that only warns: thresholds of the doctor may end a training, but change no byte of its outputs."""


def code_files(entry: str, without: str | None = None) -> dict[str, str]:
    """Return sha256 by relative path, sorted, of the files that a file imports, directly or not, itself included.

    Imports count wherever they stand, also in a function, but for those of type checkers. A digest is of the text that
    `ast.unparse` makes of the parsed code: that changes less from one Python version to the next than `ast.dump` does.
    The templates beside a file, such as `X.html.jinja` of `X.py`, belong to it. Files without code are not listed; the
    file `without` and those in `IGNORED` are neither listed nor followed.
    """
    digests: dict[str, str] = {}
    waiting = [entry, *_packages(PurePosixPath(entry).parent)]
    while waiting:
        path = waiting.pop()
        if path not in digests and path != without and not path.startswith(IGNORED):
            digests[path], imported = _parsed(ROOT / path)
            waiting += imported
    return {path: digest for path, digest in sorted(digests.items()) if digest}


def code_sha256(entry: str, without: str | None = None) -> str:
    """Return one sha256 over all of `code_files`."""
    return hashlib.sha256(json.dumps(code_files(entry, without)).encode()).hexdigest()


def stage_sha256(stage: str) -> str:
    """Return one sha256 over the code of a stage."""
    return code_sha256(f"stages/{stage}.py", WARNS_ONLY.get(stage))


def write_digests(package: str, folder: Path, others: Mapping[str, Mapping[str, str]] = MappingProxyType({})) -> None:
    """Write `code_files` of each module of a package, such as `stages`, as a JSON file of the module's name.

    `others` are further digests by name, which the file of a module gets.
    """
    modules = {f"{path.stem}.json": path for path in sorted((ROOT / package).glob("[a-z]*.py"))}
    for old in {path.name for path in folder.glob("*.json")} - modules.keys():
        (folder / old).unlink()
    for name, path in modules.items():
        digests = code_files(f"{package}/{path.name}", WARNS_ONLY.get(path.stem))
        save_json(folder / name, digests | dict(others.get(path.stem, {})))


@cache
def _parsed(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the digest of a file's code, empty without any, and its templates and the files that it imports."""
    if path.suffix == ".jinja":
        return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest(), ()
    code = _Code(package=".".join(path.relative_to(ROOT).parent.parts))
    text = ast.unparse(code.visit(ast.parse(path.read_bytes())))
    templates = (template.relative_to(ROOT).as_posix() for template in path.parent.glob(f"{path.stem}.*.jinja"))
    files = {file for name in code.imported for file in _files_of(name)}.union(templates)
    return hashlib.sha256(text.encode()).hexdigest() if text else "", tuple(files)


def _files_of(name: str) -> tuple[str, ...]:
    """Return what an import runs of this project: a module and its packages; `name` may be a name inside a module."""
    path = PurePosixPath(*name.split("."))
    files = (module.with_suffix(".py").as_posix() for module in (path, path.parent) if module.name)
    return (*_packages(path), *(file for file in files if (ROOT / file).is_file()))


def _packages(folder: PurePosixPath) -> list[str]:
    """Return the `__init__.py` of a folder and of those around it."""
    files = [(parent / "__init__.py").as_posix() for parent in (folder, *folder.parents)]
    return [file for file in files if (ROOT / file).is_file()]


class _Code(ast.NodeTransformer):
    """Drops what does nothing when it runs (strings that stand alone, `pass`, imports for types); notes imports."""

    def __init__(self, package: str) -> None:
        self._package = package
        self.imported: list[str] = []
        """Full names of modules, and of names inside them."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:  # the names that ast calls
        """Drop docstrings of modules, classes, functions and constants."""
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node

    def visit_Pass(self, _: ast.Pass) -> None:
        """Drop it, because a docstring can stand in its place."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """Drop what type checkers alone read."""
        types_only = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if types_only and not node.orelse else self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> ast.AST:
        """Note the modules."""
        self.imported += [alias.name for alias in node.names]
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        """Note the names, any of which may be a module."""
        module = resolve_name("." * node.level + (node.module or ""), self._package)
        self.imported += [f"{module}.{alias.name}" for alias in node.names]
        return node
