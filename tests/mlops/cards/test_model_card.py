"""The model card says what scores.json says, fits into a description, and lets nothing be taken for markdown."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mlops.cards.model_card import LIMIT, Facts, card, model_card, plain, shortened
from mlops.project.prepared_data import Summary
from mlops.scoring.comparison import PICTURES, Model

TRAINING: dict[str, Any] = {
    "key": "f1ab63798643a2e2",
    "data_md5": "d" * 32 + ".dir",
    "device": "x86_64 CPU, 1 thread(s)",
    "parameters": {
        "network": {"family": "mlp", "z_dim": 32},
        "train": {"seed": 7, "steps": 12000, "loss": "relativistic", "report_every": 20},
    },
}
SUMMARY = Summary("digits", 8, 1, [str(digit) for digit in range(10)], 1206, 155, 436, 0, 0, 0, 0, 0)


@pytest.fixture
def facts(made_model: Callable[..., Model]) -> Facts:
    return Facts(
        model="gan-generator",
        version="3",
        run_id="a" * 32,
        commit="c" * 40,
        summary=SUMMARY,
        training=TRAINING,
        evidence=made_model(3, 2.0, trainings=5).evidence,
        doctor="healthy at step 12,000: all is well.",
        verdict="Version 3 is better than version 1 in fid_digits.",
        reason="- because",
    )


def test_every_number_of_the_scores_is_that_of_the_file(facts: Facts) -> None:
    scores, text = facts.evidence.scores, card(facts, str)
    for name in ("fid_digits", "is_digits"):
        (row,) = [line for line in text.splitlines() if line.startswith(f"|{name}&")]
        *shown, real = re.findall(r"\d+\.?\d*", row)
        columns = [f"{name}{again}{end}" for again in ("", "_replicas") for end in ("", "_low", "_high")]
        assert shown == [
            f"{scores[column]:.{len(at.split('.')[1])}f}" for column, at in zip(columns, shown, strict=True)
        ]
        assert real == f"{scores[f'{name}_of_real']:.4g}"
    assert f"uniform noise is {scores['fid_digits_of_noise']:.4g}." in text
    assert f"over {scores['banks']} banks of z of {scores['images']} images" in text


def test_the_first_line_is_the_verdict(facts: Facts) -> None:
    assert card(facts, str).splitlines()[0] == model_card(facts, str).splitlines()[0] == facts.verdict


@pytest.mark.parametrize(
    "expected",
    [
        "healthy at step 12,000",
        "1,206 for training",
        "d" * 32 + ".dir",
        "|train&emsp;|seed 7, steps 12000, loss relativistic|",
        "f1ab63798643a2e2",
        "c" * 40,
        'load_model("models:/gan-generator/3")',
        "python -m commands.generate",
        "mlflow models serve -m models:/gan-generator@champion --env-manager local -p 5001",
        "extractor&emsp;|name digits, kind classifier, sha256 " + "e" * 64,
        "- because",
    ],
)
def test_the_card_says(expected: str, facts: Facts) -> None:
    text = card(facts, str)
    assert expected in text
    assert facts.evidence.scores["passport"] in text


def test_the_pictures_are_where_the_caller_says(facts: Facts) -> None:
    addresses = re.findall(r"!\[[^]]+\]\(([^)]+)\)", card(facts, lambda name: f"there/{name}"))
    assert addresses == [f"there/{name}" for name in PICTURES]


def test_few_images_are_marked_before_all_else(facts: Facts) -> None:
    assert "FEW IMAGES" not in card(facts, str)
    few = replace(facts, evidence=replace(facts.evidence, scores=facts.evidence.scores | {"few_images": 1}))
    assert card(few, str).split("\n\n")[1].startswith("**WARNING, FEW IMAGES:** 436 images are fewer")


def test_one_training_is_no_interval_over_seeds(facts: Facts, made_model: Callable[..., Model]) -> None:
    text = card(replace(facts, evidence=made_model(4, 2.0).evidence), str)
    assert "over seeds" not in text
    assert "It was trained once" in text


def test_the_card_fits_into_a_description(facts: Facts) -> None:
    text = card(facts, lambda name: f"get-artifact?path=card/{name}&run_uuid={'a' * 32}")
    assert shortened(text, "elsewhere") == text


@pytest.mark.parametrize("length", [LIMIT - 1, LIMIT, LIMIT + 1, 3 * LIMIT])
def test_what_does_not_fit_is_cut_at_a_paragraph_and_says_so(length: int) -> None:
    text = ("first\n\n" + "word " * 80 + "\n\n") * 100
    cut = shortened(text[:length], "the artifact")
    assert len(cut) <= LIMIT
    assert (cut == text[:length]) == (length <= LIMIT)
    if length > LIMIT:
        kept, end = cut.rsplit("\n\n", 1)
        assert text.startswith(f"{kept}\n\n")
        assert end == "*Cut at 5,000 characters: the artifact has all of it.*"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", "a\\|b"),
        ("two\nlines", "two lines"),
        ("<img src=x>", "&lt;img src=x>"),
        ("AT&T", "AT&amp;T"),
        ("fid_digits 2.43 [2.32, 2.53]", "fid_digits 2.43 [2.32, 2.53]"),
        ("_so_", "\\_so\\_"),
        ("*so* `so`", "\\*so\\* \\`so\\`"),
        ("![x](http://y)", "![x]\\(http://y)"),
    ],
)
def test_text_is_no_markup(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_data_with_a_nasty_name_break_no_table(facts: Facts) -> None:
    nasty = replace(facts, summary=replace(SUMMARY, name="a|b\n# c"))
    rows = [line for line in card(nasty, str).splitlines() if line.startswith("|data")]
    assert [re.sub(r"\\\|", "", row).count("|") for row in rows] == [3]
