"""The model card says what scores.json says, fits into a description, and lets nothing be taken for markdown."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gan_core.metrics.utility.gain import WAYS
from mlops.cards.model_card import LIMIT, Facts, Part, card, plain, shortened
from mlops.cards.scored_model import MORE_PICTURES, PICTURES, ScoredModel
from mlops.project.prepared_data import Summary
from mlops.scoring.comparison import shown_interval
from mlops.scoring.evaluation import Skill
from mlops.scoring.utility import Utility

PARTS: tuple[Part, ...] = ("version", "model", "run")
TRAINING: dict[str, Any] = {
    "key": "f1ab63798643a2e2",
    "data_md5": "d" * 32 + ".dir",
    "device": "x86_64 CPU, 1 thread(s)",
    "choice": {"step": 9000, "sentence": "the generator is that of step 9,000, better [than] the last"},
    "parameters": {
        "network": {"family": "mlp", "z_dim": 32},
        "augmentation": {"kind": "none"},
        "train": {"seed": 7, "steps": 12000, "loss": "relativistic", "report_every": 20},
    },
}
SUMMARY = Summary("digits", 8, 1, [str(digit) for digit in range(10)], 1206, 155, 436, 0, 0, 0, 0, 0)


@pytest.fixture
def facts(made_model: Callable[..., ScoredModel]) -> Facts:
    return Facts(
        model="gan-generator",
        version="3",
        run_id="a" * 32,
        experiment="1",
        commit="c" * 40,
        summary=SUMMARY,
        training=TRAINING,
        evaluation=made_model(3, 2.0, trainings=5).evaluation,
        utility=None,
        doctor="healthy at step 12,000: all is well.",
        standing="**Champion since today, promoted**: Version 3 is better than version 1 in fid_digits.",
        scores="Version 3 has fid_digits 2",
        reason="- because",
        compared=True,
    )


def test_every_number_of_the_scores_is_that_of_the_file(facts: Facts) -> None:
    evaluation, text = facts.evaluation, card(facts, str)
    for metric, score in evaluation.scores.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"|{metric}_digits&")]
        _, _, *shown, real = row.strip("|").split("&emsp;|")
        assert shown == [shown_interval(score.over_banks), shown_interval(score.over_seeds)]
        assert real == f"{score.real:.4g}"
    assert "212.7" in text
    assert f"{evaluation.banks_each} banks of z of {evaluation.images} images" in text


def test_a_weak_extractor_and_the_trivial_generator_are_on_the_card(facts: Facts) -> None:
    assert "26.5" in card(facts, str)
    for skill, weak in ((Skill(0.39, 0.1), True), (Skill(0.97, 0.1), False)):
        text = card(replace(facts, evaluation=replace(facts.evaluation, skill=skill)), str)
        assert (
            "**WARNING, WEAK EXTRACTOR:** it names 39 % of the test images rightly, of more than one class 55 %" in text
        ) is weak
        assert "\n\n\n" not in text


def test_the_card_has_the_step_of_the_generator_and_why(facts: Facts) -> None:
    for part in PARTS:
        assert f"{plain(TRAINING['choice']['sentence'])}." in card(facts, str, part)
    assert "after 9,000 of 12,000 steps" in card(facts, str)


def test_the_card_answers_whether_the_generator_helps(facts: Facts) -> None:
    assert "Utility" not in card(facts, str)
    measured = Utility({way: [0.9, 0.91] for way in WAYS} | {"shifted_generated": [0.95, 0.96]}, False, 100, 436, 9)
    assert measured.answer == "helps"
    for part in PARTS:
        text = card(replace(facts, utility=measured), str, part)
        assert f"**Utility:** {measured.sentence()}." in text
        rows = ["&emsp;|".join(row) in text for row in measured.rows()]
        assert rows == [part == "version"] * len(WAYS)
        assert "\n\n\n" not in text
    address = lambda name: f"get-artifact?path=card/{name}&run_uuid={'a' * 32}"  # noqa: E731
    assert len(card(replace(facts, utility=measured), address)) <= LIMIT


def test_the_first_paragraph_is_the_decision(facts: Facts) -> None:
    assert {card(facts, str, part).split("\n\n")[0] for part in PARTS} == {facts.standing}


def test_the_cards_of_a_model_and_of_a_run_are_shorter(facts: Facts) -> None:
    titles = {part: re.findall("^## (.+)", card(facts, str, part), re.MULTILINE) for part in PARTS}
    assert titles["version"] == [*titles["model"], "Trained on", "Passport"]
    assert titles["run"] == ["Scores"]
    for part in ("model", "run"):
        assert re.findall(r"!\[[^]]+\]\(([^)]+)\)", card(facts, str, part)) == ["comparison.png"]


def test_a_card_links_to_the_pages_that_are_there(facts: Facts) -> None:
    place = f"#/experiments/1/runs/{'a' * 32}/artifacts"
    for compared, pages in ((True, ["samples.html", "comparison.html"]), (False, ["samples.html"])):
        for part in ("version", "run"):
            text = card(replace(facts, compared=compared), str, part)
            assert re.findall(rf"\({place}/(.+?)\?workflowType=machine_learning\)", text) == pages
            assert ("(#/models/gan-generator/versions/3)" in text) == (part == "run")


@pytest.mark.parametrize("part", PARTS)
def test_paragraphs_are_one_empty_line_apart(facts: Facts, part: Part) -> None:
    assert "\n\n\n" not in card(facts, str, part)
    assert re.findall("[^\n]\n##|\\|\n[^|\n]{9}", card(facts, str, part)) == []


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
        "mlflow models serve -m models:/gan-generator/3 --env-manager local -p 5001",
        "python -m commands.promote promote 3 --reason",
        "python -m commands.promote rollback --reason",
        "*Promote model*",
        "extractor&emsp;|name digits, kind classifier, sha256 " + "e" * 64,
        "- because",
    ],
)
def test_the_card_says(expected: str, facts: Facts) -> None:
    text = card(facts, str)
    assert expected in text
    assert facts.evaluation.passport_sha256 in text


def test_the_pictures_are_where_the_caller_says(facts: Facts) -> None:
    for whole, names in ((False, [*PICTURES]), (True, [*PICTURES, *MORE_PICTURES])):
        text = card(facts, lambda name: f"there/{name}", whole=whole)
        assert re.findall(r"!\[[^]]+\]\(([^)]+)\)", text) == [f"there/{name}" for name in names]


def test_few_images_are_marked_before_all_else(facts: Facts) -> None:
    assert "FEW IMAGES" not in card(facts, str)
    few = replace(facts, evaluation=replace(facts.evaluation, few_images=True))
    assert re.match(r"\*\*WARNING, FEW IMAGES:\*\* 436 ", card(few, str).split("\n\n")[3])


def test_one_training_is_no_interval_over_seeds(facts: Facts, made_model: Callable[..., ScoredModel]) -> None:
    assert "over seeds" in card(facts, str)
    assert "over seeds" not in card(replace(facts, evaluation=made_model(4, 2.0).evaluation), str)


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
