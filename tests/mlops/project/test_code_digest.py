"""Which digests a change of code changes, tried on a copy of the code."""

import ast
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mlops.project import code_digest
from mlops.project.code_digest import code_files, stage_sha256, write_digests

ROOT = Path(__file__).parents[3]
STAGES = {path.stem for path in (ROOT / "stages").glob("[a-z]*.py")}
TRAINING = {"train", "replicate"}


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the code, of which digests are computed."""
    for package in ("gan_core", "mlops", "stages", "experiments"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_digest, "ROOT", tmp_path)
    return tmp_path


def digests() -> dict[str, str]:
    """Return the digest of each stage as the files are now."""
    code_digest._parsed.cache_clear()
    return {stage: stage_sha256(stage) for stage in STAGES}


def changed(before: dict[str, str]) -> set[str]:
    """Return the stages whose digest is another one now."""
    return {stage for stage, digest in digests().items() if digest != before[stage]}


class Documented(ast.NodeTransformer):
    """Gives everything that can have a docstring another one."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        text = ast.Expr(ast.Constant("Another text."))
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            first = ast.get_docstring(node, clean=False) is not None
            node.body = [text, *node.body[first:]]
        if isinstance(node, ast.ClassDef | ast.Module):
            node.body = [part for one in node.body for part in ([one, text] if isinstance(one, ASSIGNED) else [one])]
        return node


ASSIGNED = (ast.Assign, ast.AnnAssign)


def between(line: str, text: str) -> str:
    """Put a line before each statement of a module."""
    lines = text.splitlines()
    for node in reversed(ast.parse(text).body):
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
        lines.insert(first - 1, line)
    return "\n".join(lines) + "\n"


NOISE: dict[str, Callable[[str], str]] = {
    "comments": partial(between, "# a comment"),
    "blank lines": partial(between, ""),
    "layout": lambda text: ast.unparse(ast.parse(text)),
    "docstrings": lambda text: ast.unparse(ast.fix_missing_locations(Documented().visit(ast.parse(text)))),
    "imports for types": lambda text: f"{text}\nif TYPE_CHECKING:\n    import mlops.images.archives.archives\n",
}


@pytest.mark.parametrize("noise", NOISE)
def test_what_does_not_run_changes_no_digest_of_any_file(code: Path, noise: str) -> None:
    before = digests()
    for path in code.rglob("*.py"):
        text = path.read_text()
        path.write_text(NOISE[noise](text))
        assert not text or path.read_text() != text
    assert changed(before) == set()


def test_each_file_that_runs_is_named_with_its_digest(code: Path) -> None:
    write_digests("stages", code / "digests")
    for stage in STAGES:
        listed = json.loads((code / "digests" / f"{stage}.json").read_text())
        assert listed[f"stages/{stage}.py"]
        assert not [path for path in listed if not (code / path).is_file() or path.startswith(code_digest.IGNORED)]
    assert {path.stem for path in (code / "digests").iterdir()} == STAGES
    assert "gan_core/doctor.py" not in json.loads((code / "digests" / "train.json").read_text())


def other_number(path: Path) -> None:
    """Change the first number in a file."""
    tree = ast.parse(path.read_text())
    numbers = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) in (int, float))
    next(numbers).value += 1  # type: ignore[operator]  # a number
    path.write_text(ast.unparse(tree))


CHANGES: dict[str, set[str]] = {
    "gan_core/losses/penalties.py": TRAINING,
    "gan_core/training/steps.py": TRAINING,
    "gan_core/metrics/intervals.py": {"choose", "diagnose", "evaluate", "register"},
    "gan_core/metrics/classifier.py": {"extractor", "choose", "diagnose", "evaluate"},
    "gan_core/doctor.py": {"diagnose"},
    "gan_core/config/training.py": set(),
    "mlops/images/archives/archives.py": {"fetch"},
    "mlops/images/decoding.py": {"prepare"},
    "mlops/runs/run.py": TRAINING,
    "mlops/cards/publish.py": {"register"},
    "mlops/project/identity.py": set(),
    "mlops/project/params.py": set(),
    "mlops/tracking/runs.py": set(),
    "stages/train.py": {"train"},
}


@pytest.mark.parametrize("file", CHANGES)
def test_a_changed_number_changes_the_digests_of_the_stages_that_run_it(code: Path, file: str) -> None:
    before = digests()
    other_number(code / file)
    assert changed(before) == CHANGES[file]


def test_a_changed_template_changes_the_digest_of_the_stage_that_renders_it(code: Path) -> None:
    before = digests()
    (code / "mlops/cards/model_card.md.jinja").write_text("{{ name }}\n")
    assert changed(before) == {"register"}
    assert "mlops/cards/comparison_page.html.jinja" in code_files("stages/register.py")


@pytest.mark.parametrize("room", code_digest.IGNORED)
def test_what_shapes_no_number_changes_no_digest(code: Path, room: str) -> None:
    before = digests()
    for path in [code / room] if room.endswith(".py") else (code / room).rglob("*.py"):
        path.write_text(path.read_text() + "\nADDED = 1\n")
    assert changed(before) == set()


IMPORTS = {
    "at the top": "import gan_core.losses.rooms.hinge\n",
    "as a name": "from gan_core.losses.rooms import hinge\n",
    "of what it holds": "from gan_core.losses.rooms.hinge import MARGIN\n",
    "in a function": "def late():\n    from gan_core.losses.rooms.hinge import MARGIN\n    return MARGIN\n",
    "relative": "from .rooms import hinge\n",
}


@pytest.mark.parametrize("how", IMPORTS)
def test_a_new_file_is_seen_as_soon_as_it_is_imported(code: Path, how: str) -> None:
    new, package = code / "gan_core/losses/rooms/hinge.py", code / "gan_core/losses/rooms/__init__.py"
    new.parent.mkdir()
    package.write_text('"""Only a docstring."""\n')
    new.write_text("MARGIN = 1.0\n")
    importer = code / "gan_core/losses/penalties.py"
    importer.write_text(importer.read_text() + IMPORTS[how])
    before = digests()
    files = code_files("stages/train.py")
    assert "gan_core/losses/rooms/hinge.py" in files
    assert "gan_core/losses/rooms/__init__.py" not in files
    new.write_text("MARGIN = 2.0\n")
    assert changed(before) == TRAINING
    for init in (package, code / "gan_core/losses/__init__.py"):
        before = digests()
        init.write_text("import os\nos.environ['THREADS'] = '1'\n")
        assert changed(before) >= TRAINING
    assert {"gan_core/losses/__init__.py", "gan_core/losses/rooms/__init__.py"} <= code_files("stages/train.py").keys()


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        code_files("stages/nowhere.py")
