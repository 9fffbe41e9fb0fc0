"""The page of a comparison: complete, self-contained, and nothing in it is taken for markup."""

import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

from PIL import Image

from mlops.cards.comparison_page import page
from mlops.cards.scored_model import ScoredModel
from mlops.scoring.comparison import Comparison, compare, sentence, shown_interval

MakeModel = Callable[..., ScoredModel]


def compared(*models: ScoredModel) -> list[Comparison]:
    first, *others = (model.evaluation for model in models)
    return [compare(first, other, "fid", "sampling", 0.05) for other in others]


def written(*models: ScoredModel) -> str:
    return page(models, compared(*models))


def test_the_page_has_the_verdicts_scores_and_pictures_of_all_models(made_model: MakeModel) -> None:
    models = [made_model(1, 3.0), made_model(2, 2.0), made_model(3, 3.0)]
    text = written(*models)
    for comparison in compared(*models):
        assert sentence(comparison) in text
    for model in models:
        assert shown_interval(model.evaluation.scores["fid"].over_banks) in text
    assert re.findall(">(better|worse|cannot tell)</b>", text) == ["better", *["cannot tell"] * 3]
    assert models[0].evaluation.passport_sha256 in text
    pictures = [Image.open(BytesIO(b64decode(data))) for data in re.findall(r'base64,([^"]+)"', text)]
    assert [picture.size for picture in pictures[1:]] == [(60, 30)] * 9
    assert [picture.getpixel((0, 0)) for picture in pictures[1:]] == [1, 2, 3] * 3


def test_the_page_needs_no_network_and_is_the_same_each_time(made_model: MakeModel) -> None:
    models = made_model(1, 3.0), made_model(2, 2.0)
    text = written(*models)
    assert text == written(*models)
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', text) == []
    assert "<script" not in text


def test_the_page_lists_what_differs_in_how_models_were_made(made_model: MakeModel) -> None:
    first, second = made_model(1, 3.0), made_model(2, 2.0)
    assert "<th>parameter</th>" not in written(first, second)
    made = [
        replace(model, record=replace(model.record, params={"train.steps": steps, "train.seed": "0"}))
        for model, steps in ((first, "60"), (second, "90"))
    ]
    text = written(*made)
    assert "<tr><th>train.steps</th><td>60</td><td>90</td></tr>" in text
    assert "train.seed" not in text


def test_names_are_no_markup(made_model: MakeModel) -> None:
    first, second = made_model(1, 3.0), made_model(2, 2.0)
    named = replace(second, evaluation=replace(second.evaluation, name="<script>alert(1)</script>"))
    assert "<script" not in written(first, named)
