import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from mlops.project.params import DataConfig, RegisterConfig
from mlops.promotion.ledger import LEDGER
from mlops.promotion.naming import model_name
from tests.decisions import RULES

AUTO = RegisterConfig("auto", 0.15, 0.03, 0.1, "fid", "sampling", 0.05)
DIGITS = DataConfig("digits", None)
LINE: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "ledger_of_before.jsonl").read_text())


@pytest.fixture(autouse=True)
def _in(root: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (DIGITS, "gan-digits"),
        (DataConfig("mnist", "/data/elsewhere"), "gan-mnist"),
        (DataConfig("fashion_mnist", None), "gan-fashion-mnist"),
        (DataConfig("folder", "/data/emoji-google-64.zip"), "gan-emoji-google-64"),
        (DataConfig("folder", "Emoji_2.TAR.gz"), "gan-emoji-2"),
        (DataConfig("folder", "~/a/b.tgz/"), "gan-b"),
        (DataConfig("folder", "v1.2/"), "gan-v1-2"),
        (DataConfig("folder", "cats/../dogs & wölfe/."), "gan-dogs-wolfe"),
        (DataConfig("folder", "/pictures/cats/.."), "gan-pictures"),
        (DataConfig("folder", "x" * 200), f"gan-{'x' * 59}"),
        (DataConfig("folder", "x" * 58 + "--y"), f"gan-{'x' * 58}"),
        (DataConfig("folder", "猫"), "gan-folder-a810bf84"),
        (DataConfig("folder", "犬"), "gan-folder-1e82f9b0"),
    ],
)
def test_a_model_is_named_after_its_data(data: DataConfig, expected: str) -> None:
    assert model_name(AUTO, data) == expected
    assert TypeAdapter(RegisterConfig).validate_python({**vars(AUTO), "model_name": expected})


def test_a_given_name_is_taken() -> None:
    assert model_name(RULES, DIGITS) == RULES.model_name


def ledger(*lines: dict[str, Any]) -> None:
    Path(LEDGER).write_text("".join(json.dumps(LINE | line) + "\n" for line in lines))


def test_a_project_from_before_keeps_its_champion_and_its_name() -> None:
    ledger({})
    assert model_name(AUTO, DIGITS) == "gan-generator"
    assert model_name(AUTO, DataConfig("mnist", None)) == "gan-mnist"
    assert model_name(AUTO, DataConfig("folder", "cats")) == "gan-cats"
    ledger({}, {"model": "gan-digits"})
    assert model_name(AUTO, DIGITS) == "gan-digits"


def test_who_was_only_refused_leaves_the_name_free() -> None:
    other = {"weights": "b" * 64, "passport": "c" * 64, "training": "d"}
    evidence = LINE["evidence"] | {"passport": {"reference": {"data": "mnist", "dvc_md5": "e" * 32}}}
    ledger({}, {"action": "refused", "candidate": other, "evidence": evidence})
    assert model_name(AUTO, DataConfig("mnist", None)) == "gan-mnist"


def test_a_folder_from_before_is_told_by_its_images() -> None:
    evidence = LINE["evidence"] | {"passport": {"reference": {"data": "folder", "dvc_md5": "e" * 32 + ".dir"}}}
    ledger({"evidence": evidence})
    cats = DataConfig("folder", "cats")
    assert model_name(AUTO, cats) == "gan-cats"
    Path("dvc.lock").write_text(f"    md5: {'e' * 32}.dir\n")
    assert model_name(AUTO, cats) == "gan-generator"


def test_a_damaged_ledger_is_left_to_the_stage_that_reports_it() -> None:
    ledger({})
    Path(LEDGER).write_text(Path(LEDGER).read_text() + '{"torn')
    assert model_name(AUTO, DIGITS) == "gan-digits"
