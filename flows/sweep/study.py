"""A sweep as Optuna keeps it: a study in a database, so that one that was stopped goes on."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from flows.failure import StageFailedError

STORAGE = "OPTUNA_STORAGE"
"""Environment variable, also Optuna's own: a database, as sqlite:///PATH or postgresql+psycopg2://USER@HOST/NAME."""
OWN = Path(".prefect", "sweeps.db")
"""In the project, if the variable is not set."""
ASKED, ID, CANCELLED = "asked", "id", "cancelled"
"""Attributes: of a study what was asked for and a name that no other study has; of a trial that a person ended it."""
FIRST_TRIALS = 10
"""Drawn at random before others are proposed; of a short sweep a third. Bergstra et al. 2011 take about as many."""
UNSCORED, EARLIEST = 4, 30
"""No trial is pruned before so many were scored, nor in the first percents of its steps."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def address(root: Path) -> str:
    """Return the address of the database of a project's sweeps."""
    return os.environ.get(STORAGE) or f"sqlite:///{root / OWN}"


def open_study(root: Path, name: str, asked: Mapping[str, Any]) -> optuna.Study:
    """Return the study of a name, a new one if there is none.

    Args:
        root: the project.
        name: of the study.
        asked: what its trials depend on; an empty value is what the study has.

    Returns:
        The study, whose attributes `asked` and `id` are set.

    Raises:
        StageFailedError: there is a study of this name that was asked for other trials.
    """
    (root / OWN).parent.mkdir(parents=True, exist_ok=True)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=UNSCORED, n_warmup_steps=EARLIEST)
    storage = optuna.storages.RDBStorage(address(root), engine_kwargs={"pool_pre_ping": True})
    study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True, pruner=pruner)
    before = study.user_attrs.get(ASKED)
    if before is None:
        study.set_user_attr(ASKED, dict(asked))
        study.set_user_attr(ID, uuid.uuid4().hex[:12])
    elif other := [key for key, value in asked.items() if value and before.get(key) != value]:
        place = f"${STORAGE}" if os.environ.get(STORAGE) else address(root)
        raise StageFailedError(
            f"there is a sweep {name} with another {' and '.join(other)}; give this one a name of its own, or delete "
            f"that one: optuna delete-study --study-name '{name}' --storage {place}"
        )
    return study


def proposed(study: optuna.Study, drawn: Mapping[str, BaseDistribution]) -> list[FrozenTrial]:
    """Return the trials that count: neither ended by a person, nor cut off while they were proposed."""
    every = study.get_trials(deepcopy=False)
    return [trial for trial in every if not trial.user_attrs.get(CANCELLED) and drawn.keys() == trial.params.keys()]


def propose(
    study: optuna.Study, drawn: Mapping[str, BaseDistribution], *, trials: int, at_once: int, seed: int
) -> Trial:
    """Return a new trial; what is proposed depends on seed and past trials, and not on when the sweep was stopped.

    Trials that run are taken for bad ones ("constant liar"), so that another part of the space is proposed.
    """
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=min(FIRST_TRIALS, -(-trials // 3)),
        constant_liar=at_once > 1,
        seed=seed + 1000 * len(study.get_trials(deepcopy=False)),
    )
    return study.ask(dict(drawn))


def opened(study: optuna.Study, trial: FrozenTrial) -> Trial:
    """Return a trial that runs, to write to it; Optuna has no public name for the id by which it does so."""
    return Trial(study, trial._trial_id)


def running(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that are not finished."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
