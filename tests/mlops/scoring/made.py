"""Evaluations that are made up, in every metric."""

from typing import Any

import numpy as np
import pandas as pd

from mlops.scoring.evaluation import LOWER_IS_BETTER, Evaluation, References, summarise

PASSPORT: dict[str, Any] = {
    "extractor": {"kind": "classifier", "name": "digits"},
    "settings": {"seed": 6},
    "device": "cpu",
}


def evaluation(
    mean: float,
    *,
    seed: int = 0,
    trainings: int = 1,
    spread: float = 0.0,
    passport: dict[str, Any] = PASSPORT,
    few_images: bool = False,
    **others: Any,
) -> Evaluation:
    """Return six banks of each training around a mean, `spread` apart between trainings; other metrics are given."""
    rng = np.random.default_rng(seed)
    rows = [
        {"training": training, "bank": bank} | dict.fromkeys(LOWER_IS_BETTER, value)
        for training, centre in enumerate(mean + spread * rng.standard_normal(trainings))
        for bank, value in enumerate(centre + 0.1 * rng.standard_normal(6))
    ]
    banks = pd.DataFrame(rows).assign(**others)
    scores = summarise(banks, dict.fromkeys(LOWER_IS_BETTER, 0.5), References(50.0, 100.0))
    return Evaluation(f"model {seed}", scores, passport, banks, images=436, few_images=few_images)
