"""The page of a comparison: complete, self-contained, and nothing in it is taken for markup."""

import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

from PIL import Image

from mlops.cards.comparison_page import page
from mlops.scoring.comparison import Model, compare_models, sentences

MakeModel = Callable[..., Model]


def written(*models: Model) -> str:
    return page(compare_models(list(models), "fid", noise="sampling", rate=0.05))


def test_the_page_has_the_verdicts_scores_and_pictures_of_all_models(made_model: MakeModel) -> None:
    models = [made_model(1, 3.0), made_model(2, 2.0), made_model(3, 3.0)]
    text = written(*models)
    for said in sentences(compare_models(models, "fid", noise="sampling", rate=0.05)):
        assert said in text
    for model in models:
        assert model.interval("fid", "sampling") in text
    assert ">better</b>" in text
    assert models[0].evidence.scores["passport"] in text
    pictures = [Image.open(BytesIO(b64decode(data))) for data in re.findall(r"base64,([^']+)'", text)]
    assert [picture.size for picture in pictures[1:]] == [(60, 30)] * 9
    assert [picture.getpixel((0, 0)) for picture in pictures[1:]] == [1, 2, 3] * 3


def test_the_page_needs_no_network_and_is_the_same_each_time(made_model: MakeModel) -> None:
    models = made_model(1, 3.0), made_model(2, 2.0)
    assert written(*models) == written(*models)
    assert re.findall(r"(?:src|href)='(?!data:image/png;base64,)", written(*models)) == []
    assert "<script" not in written(*models)


def test_the_page_says_what_differs_in_how_models_were_made(made_model: MakeModel) -> None:
    first, second = made_model(1, 3.0), made_model(2, 2.0)
    assert "Nothing that MLflow knows of" in written(first, second)
    made = [
        replace(model, found=replace(model.found, params={"train.steps": steps, "train.seed": "0"}))
        for model, steps in ((first, "60"), (second, "90"))
    ]
    text = written(*made)
    assert "<tr><th>train.steps</th><td>60</td><td>90</td></tr>" in text
    assert "train.seed" not in text


def test_names_are_no_markup(made_model: MakeModel) -> None:
    first, second = made_model(1, 3.0), made_model(2, 2.0)
    named = replace(second, evidence=replace(second.evidence, name="<script>alert(1)</script>"))
    assert "<script" not in written(first, named)
