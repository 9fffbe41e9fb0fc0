import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
from mlflow import MlflowClient

from commands.promote import main, set_champion
from mlops.project.errors import UserError
from mlops.promotion.history import Entry
from mlops.promotion.ledger import LEDGER, locked_ledger
from mlops.tracking import versions as registry
from mlops.tracking.aliases import sync_aliases
from mlops.tracking.runs import connect
from tests.decisions import add_version, who, write_params
from tests.project import ROOT, environment


@pytest.fixture
def model(root: Path) -> str:
    """Return the registered model of this test, the champions a, b and c of which were promoted as versions 1 to 3."""
    name = root.name.replace("_", "-")
    write_params(root, name)
    client, _ = connect()
    with locked_ledger() as ledger:
        for letter in "abc":
            add_version(client, name, who(letter))
            ledger.append("promoted", name, who(letter), f"{letter} is better", {"bounds": [], "test": None})
        sync_aliases(client, name, ledger)
    return name


def run(*arguments: str) -> None:
    main(arguments, standalone_mode=False)


def champion(model: str) -> str | None:
    return registry.champion(connect()[0], model)


def last() -> Entry:
    with locked_ledger() as ledger:
        return ledger.entries[-1]


def test_a_rollback_goes_one_back_and_a_second_two(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("rollback", "--reason", "c has artefacts")
    assert champion(model) == "2"
    assert (last().action, last().reason, last().champion_before) == ("rolled back", "c has artefacts", who("c"))
    printed = f"{model}: version 2 is champion, rolled back: c has artefacts (before: version 3)\n"
    assert capsys.readouterr().out == printed
    run("rollback", "--reason", "so has b")
    assert champion(model) == "1"
    with pytest.raises(SystemExit, match=LEDGER):
        run("rollback", "--reason", "further")
    assert champion(model) == "1"


def test_any_earlier_champion_comes_back_by_its_number(model: str) -> None:
    run("rollback", "1", "--reason", "the best of all")
    assert champion(model) == "1"
    run("rollback", "3", "--reason", "it was not")
    assert champion(model) == "3"
    run("rollback", "--reason", "it was")
    assert champion(model) == "1"


def test_the_page_of_the_model_names_who_is_champion_now(model: str) -> None:
    for number in ("1", "3"):
        run("rollback", number, "--reason", "artefacts")
        first, second = str(connect()[0].get_registered_model(model).description).split("\n\n")
        assert re.fullmatch(r"Champion since [\d: -]+ UTC, rolled back: artefacts\.", first)
        assert second == f"Version {number} is champion."


def test_a_promotion_by_hand_takes_any_version(model: str) -> None:
    client, _ = connect()
    number = add_version(client, model, who("refused by the gate"))
    run("promote", str(number), "--reason", "people like it better")
    assert champion(model) == str(number)
    assert (last().action, last().candidate, last().evidence) == (
        "promoted by hand",
        who("refused by the gate"),
        None,
    )
    assert client.get_model_version_by_alias(model, "previous-champion").version in (3, "3")
    run("rollback", "--reason", "people changed their minds")
    assert champion(model) == "3"


@pytest.mark.parametrize("form", ["3", "challenger", "models:/{model}/3", "models:/{model}@challenger"])
def test_a_version_has_several_names(model: str, form: str) -> None:
    run("rollback", "--reason", "c has artefacts")
    connect()[0].set_registered_model_alias(model, "challenger", "3")
    run("promote", form.format(model=model), "--reason", "it has not")
    assert champion(model) == "3"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote", "4", "--reason", ""], "--reason"),
        (["rollback", "--reason", "  \t"], "--reason"),
        (["rollback", "--reason", "two\nlines"], "--reason"),
        (["promote", "9", "--reason", "why"], r"'9' in .* has 1, 2, 3, 4, champion, previous-champion:"),
        (["rollback", "9", "--reason", "why"], r"'9' in .* has 1, 2, 3, 4, champion, previous-champion:"),
        (["promote", "", "--reason", "why"], r" has 1, 2, 3, 4, champion, previous-champion:"),
        (["promote", "3", "--reason", "why"], "version 3 of .* champion"),
        (["promote", "champion", "--reason", "why"], "version 3 of .* champion"),
        (["rollback", "3", "--reason", "why"], "version 3 of .* champion"),
        (["rollback", "4", "--reason", "why"], "version 4 of .* promote VERSION"),
    ],
)
def test_what_cannot_be_done_changes_nothing(model: str, arguments: list[str], message: str) -> None:
    add_version(connect()[0], model, who("x"))
    before = Path(LEDGER).read_bytes()
    with pytest.raises(SystemExit, match=message):
        run(*arguments)
    assert Path(LEDGER).read_bytes() == before
    assert champion(model) == "3"


@pytest.mark.parametrize("arguments", [["rollback"], ["promote", "--reason", "why"], ["promote", "x"], []])
def test_a_command_line_without_what_it_needs_is_refused(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError):
        run(*arguments)


def crash(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_rollback_that_was_cut_off_is_completed_and_not_done_twice(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", crash)
        with pytest.raises(KeyboardInterrupt):
            set_champion("rolled back", None, "c has artefacts")
    assert (last().action, champion(model)) == ("rolled back", "3")
    with pytest.raises(UserError, match=r"decision 4 .* version 2"):
        set_champion("rolled back", None, "c has artefacts")
    assert (last().number, champion(model)) == (4, "2")
    assert f"champion of {model} is version 2" in capsys.readouterr().out
    set_champion("rolled back", None, "so has b")
    assert champion(model) == "1"


def test_a_decision_that_was_cut_off_is_completed_by_the_next_one(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            "commands.promote.sync_aliases",
            lambda *held: crash() if held[2].entries[-1].action == "rolled back" else [],
        )
        with pytest.raises(KeyboardInterrupt):
            set_champion("rolled back", "1", "the best")
    assert champion(model) == "3"
    set_champion("rolled back", "2", "the second best")
    assert last().champion_before == who("a")
    assert champion(model) == "2"


def test_an_alias_that_was_moved_by_hand_is_moved_back_first(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    connect()[0].set_registered_model_alias(model, "champion", "1")
    set_champion("rolled back", None, "c has artefacts")
    assert "champion of" in capsys.readouterr().out
    assert (champion(model), last().champion_before) == ("2", who("c"))


def test_a_champion_that_this_mlflow_lacks_is_named(model: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'fresh.db'}")
    add_version(connect()[0], model, who("a"))
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        set_champion("rolled back", None, "c has artefacts")
    set_champion("rolled back", "1", "it is the one I have")
    assert champion(model) == "1"


@pytest.mark.slow
def test_an_earlier_champion_is_back_soon_after_mlflow_is_imported(model: str, root: Path, tracking_uri: str) -> None:
    client, _ = connect()
    for number in range(50):
        add_version(client, model, who(f"one of many {number}"))

    def run_python(*words: str) -> tuple[str, float]:
        """Return what a process says of its imports, and its seconds of a processor."""
        command = [sys.executable, "-X", "importtime", *words]
        variables = environment(PYTHONPATH=str(ROOT), MLFLOW_TRACKING_URI=tracking_uri)
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, check=True)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.stderr, end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime

    _, mlflow = run_python("-c", "import mlflow.store.tracking.sqlalchemy_store")
    imports, rollback = run_python("-m", "commands.promote", "rollback", "1", "--reason", "quick")
    assert champion(model) == "1"
    assert json.loads(Path(LEDGER).read_bytes().splitlines()[-1])["reason"] == "quick"
    assert " torch\n" not in imports
    assert rollback < 3 * mlflow
