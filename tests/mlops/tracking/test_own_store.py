import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mlops.project.errors import UserError
from mlops.tracking.own_store import artifacts, follow_project, own_uri
from mlops.tracking.store import is_own
from tests.project import Project

ODD = "a ?#%20 ü'\""


@pytest.fixture
def moved(root: Path) -> Path:
    """Return the database of a project that was moved from `/old/a b`, with text that resembles its places."""
    place = root / ".mlflow" / "mlflow.db"
    place.parent.mkdir()
    rows: dict[str, list[str | None]] = {
        "experiments": ["/old/a b/mlruns/0", "file:///old/a%20b/.mlflow/artifacts", "file:///old/a%20b2/.mlflow/x"],
        "runs": ["file:///old/a%20b/.mlflow/artifacts/1/artifacts", "s3://bucket/old/a%20b/.mlflow/artifacts", None],
        "tags": [
            "/old/a b/.mlflow",
            "/old/a b/stages/__main__.py",
            "/old/a b/.mlflow2",
            "at file:///old/a%20b/.mlflow/",
        ],
    }
    with closing(sqlite3.connect(place)) as store, store:
        for table, values in rows.items():
            store.execute(f'CREATE TABLE "{table}" (number INTEGER, "artifact_location" VARCHAR(50))')
            store.executemany(f'INSERT INTO "{table}" VALUES (?, ?)', enumerate(values))
    return place


def values(database: Path) -> list[str]:
    query = " UNION ALL ".join(f"SELECT artifact_location FROM {table}" for table in ("experiments", "runs", "tags"))
    with closing(sqlite3.connect(database)) as store:
        return [value for (value,) in store.execute(query)]


def test_what_begins_with_the_old_place_has_the_new_one_and_nothing_else_changes(moved: Path, root: Path) -> None:
    before = values(moved)
    follow_project(moved)
    after = values(moved)
    assert {old: new for old, new in zip(before, after, strict=True) if old != new} == {
        "/old/a b/mlruns/0": f"{root}/mlruns/0",
        "file:///old/a%20b/.mlflow/artifacts": artifacts(),
        "file:///old/a%20b/.mlflow/artifacts/1/artifacts": f"{artifacts()}/1/artifacts",
        "/old/a b/.mlflow": f"{root}/.mlflow",
    }
    content = moved.read_bytes()
    follow_project(moved)
    assert moved.read_bytes() == content


def test_a_store_that_cannot_follow_is_named(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops.tracking.own_store.BUSY", 0)
    before = values(moved)
    with closing(sqlite3.connect(moved, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError, match=str(moved)):
            follow_project(moved)
        other.execute("ROLLBACK")
    assert values(moved) == before


def test_the_address_of_an_odd_folder_is_that_of_its_database(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlalchemy

    (root / ODD / "below").mkdir(parents=True)
    (root / ODD / ".mlflow").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(root / ODD))
    for folder in (root / ODD, root / ODD / "below"):
        monkeypatch.chdir(folder)
        engine = sqlalchemy.create_engine(own_uri())
        with engine.connect() as store:
            store.execute(sqlalchemy.text("SELECT 1"))
        engine.dispose()
        assert is_own(own_uri())
    assert sorted(path.name for path in root.iterdir()) == [ODD]
    assert (root / ODD / ".mlflow" / "mlflow.db").exists()
    monkeypatch.chdir(root)
    with pytest.raises(UserError, match="folder with"):
        own_uri()


def test_every_spelling_of_the_own_store_is_the_own_store(root: Path) -> None:
    (root / "link").symlink_to(root)
    for place in (root, root / "link", root / "x" / ".."):
        assert is_own(f"sqlite:///{place}/.mlflow/mlflow.db")
    assert is_own("sqlite:///.mlflow/mlflow.db")
    for address in ("sqlite:///mlflow.db", "sqlite://", f"http://{root}/.mlflow/mlflow.db"):
        assert not is_own(address)


@pytest.mark.slow
def test_a_copy_in_an_odd_folder_registers_and_generates_by_itself(finished: Project, tmp_path: Path) -> None:
    """The original is away meanwhile, so that nothing can be read there."""
    place = Project(tmp_path / ODD)
    shutil.copytree(finished.root, place.root, symlinks=True)
    away = finished.root.with_name("away")
    finished.root.rename(away)
    try:
        commands: tuple[tuple[str, ...], ...] = (
            (sys.executable, "-m", "dvc", "repro", "--force", "--single-item", "register"),
            (sys.executable, "-m", "commands.generate", "2", "pictures"),
        )
        for command in commands:
            ended = place.run(*command)
            assert ended.returncode == 0, ended.stdout
        assert not finished.root.exists()
    finally:
        away.rename(finished.root)
    run = json.loads((place.root / "reports" / "registration.json").read_text())["run_id"]
    assert {path.name for path in (place.root / ".mlflow" / "artifacts" / run / "artifacts").iterdir()} >= {"lineage"}
    assert [path.name for path in tmp_path.iterdir()] == [ODD]
    assert (place.root / "pictures" / "grid.png").exists()
