from collections.abc import Callable

from mlops.cards.scored_model import ScoredModel, score_table, verdict_table
from mlops.scoring.comparison import compare, shown_interval

MakeModel = Callable[..., ScoredModel]


def test_tables_have_scores_with_intervals_the_doctor_and_verdicts(made_model: MakeModel) -> None:
    models = [made_model(1, 3.0), made_model(2, 2.0), made_model(3, 4.0), made_model(4, 3.0)]
    first, *others = (model.evaluation for model in models)
    comparisons = [compare(first, other, "fid", "sampling", 0.05) for other in others]
    table = score_table(models, comparisons)
    assert list(table.index) == [f"version {number}" for number in (1, 2, 3, 4)]
    assert list(table.columns) == ["doctor", "fid_digits", "is_digits"]
    assert set(table.doctor) == {"healthy"}
    assert table.fid_digits["version 2"] == shown_interval(models[1].evaluation.scores["fid"].over_banks)
    verdicts = verdict_table(comparisons)
    assert dict(verdicts.fid_digits) == {"version 2": "better", "version 3": "worse", "version 4": "cannot tell"}
    assert set(verdicts.is_digits) == {"cannot tell"}


def test_intervals_over_seeds_are_shown_if_verdicts_are_about_seeds(made_model: MakeModel) -> None:
    models = [made_model(1, 3.0, trainings=5), made_model(2, 2.0, trainings=5)]
    comparison = compare(models[0].evaluation, models[1].evaluation, "fid", "seeds", 0.05)
    shown = score_table(models, [comparison]).fid_digits["version 1"]
    assert shown == shown_interval(models[0].evaluation.scores["fid"].over_seeds)
