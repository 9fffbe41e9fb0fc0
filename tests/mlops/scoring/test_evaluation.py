import pytest

from gan_core.metrics.intervals import Interval, interval
from mlops.project.errors import UserError
from mlops.scoring.evaluation import Score
from tests.mlops.scoring.made import evaluation


def test_sampling_noise_is_that_of_the_banks_of_the_models_own_training() -> None:
    model = evaluation(1.0, trainings=3, spread=0.5)
    assert model.values("fid", "sampling") == list(model.banks.fid[:6])
    assert model.scores["fid"].interval("sampling") == interval(list(model.banks.fid[:6]))


def test_seed_to_seed_variance_is_that_of_the_means_of_trainings() -> None:
    model = evaluation(1.0, trainings=4, spread=0.5)
    means = model.banks.fid.to_numpy().reshape(-1, 6).mean(axis=1)
    assert model.values("fid", "seeds") == pytest.approx(list(means), rel=1e-12)
    assert model.scores["fid"].interval("seeds") == interval(model.values("fid", "seeds"))
    assert (model.trainings, model.banks_each) == (4, 6)


def test_a_model_that_was_trained_once_has_no_seed_to_seed_variance() -> None:
    once = evaluation(1.0)
    assert once.scores["fid"].interval("seeds") is None
    with pytest.raises(UserError, match=r"replicate\.seeds"):
        once.values("fid", "seeds")


def test_an_interval_stays_within_what_a_metric_can_be() -> None:
    low, high = (
        {metric: score.over_banks for metric, score in evaluation(mean).scores.items()} for mean in (0.01, 0.99)
    )
    assert (low["precision"].low, high["recall"].high, high["is"].low) == (0, 1, 1)
    assert high["fid"].high > 1
    assert low["kid"].low < 0


def test_fid_stands_in_relation_to_real_images_and_noise() -> None:
    assert Score(Interval(3.0, 2.0, 4.0), real=2.0, noise=12.0).ratios() == {"to_real": 1.5, "to_noise": 0.25}
    assert Score(Interval(3.0, 2.0, 4.0), real=2.0).ratios() == {}


@pytest.mark.parametrize(
    ("extractor", "name"),
    [({"kind": "classifier", "name": "digits"}, "fid_digits"), ({"kind": "inception-v3", "name": "inception"}, "fid")],
)
def test_fid_alone_is_that_of_inception(extractor: dict[str, str], name: str) -> None:
    assert evaluation(1.0, passport={"extractor": extractor}).public_name("fid") == name
