"""Candidates as the gate, the ledger and the registry see them, made without a training."""

import hashlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient

from mlops.project.params import RegisterConfig
from mlops.promotion.gate import Decision, challenge, decide
from mlops.promotion.history import ModelId
from mlops.scoring.evaluation import Evaluation, References, summarise
from mlops.scoring.passport import passport_sha256
from tests.project import ROOT

RULES = RegisterConfig("gan-generator", 0.15, 0.03, 0.1, "fid", "sampling", 0.05)
PASSPORT: dict[str, Any] = {
    "extractor": {"name": "digits", "kind": "classifier", "sha256": "ab" * 32, "batch_size": 64},
    "resizer": "none: 8 pixels, 1 channels",
    "reference": {"data": "digits", "split": "train", "images": 1227, "dvc_md5": "cd" * 16 + ".dir"},
    "compared": {"generated": 436, "real": {"split": "test", "images": 436}, "noise": 436},
    "settings": {"seed": 0, "few_images": "mark", "parzen": False},
    "device": "cpu",
    "threads": 1,
    "libraries": {"torch": "2.14.1", "scipy": "1.0"},
    "parzen": None,
}


def found(
    fid: float,
    passport: dict[str, Any] = PASSPORT,
    trainings: int = 1,
    name: str = "the candidate",
    scores: dict[str, float] | None = None,
    banks_each: int = 6,
) -> Evaluation:
    """Return an evaluation: measurements around a FID, and scores within the bounds of `RULES` but for those given.

    These are `fid_to_trivial` (0 at real images, 1 at the trivial generator), `fid_to_noise`, `near_copies` and
    `near_copies_of_real`.
    """
    given = {"fid_to_trivial": 0.1, "fid_to_noise": 0.01, "near_copies": 0.25, "near_copies_of_real": 0.2} | (
        scores or {}
    )
    rng = np.random.default_rng(int(fid * 1e6))
    rows = [(training, bank, fid + rng.normal() * 0.01) for training in range(trainings) for bank in range(banks_each)]
    banks = pd.DataFrame(rows, columns=["training", "bank", "fid"])
    banks = banks.assign(kid=0.5, near_copies=given["near_copies"])
    own = float(np.mean(banks.fid[:banks_each]))
    real = {"fid": own / 1.5, "kid": 0.1, "near_copies": given["near_copies_of_real"]}
    references = References(real["fid"] + (own - real["fid"]) / given["fid_to_trivial"], own / given["fid_to_noise"])
    summary = summarise(banks, real, references)
    return Evaluation(name, summary, passport, banks, images=436, few_images=False)


def decision(candidate: Evaluation, champion: Evaluation | None, rules: RegisterConfig = RULES) -> Decision:
    """Return what the gate decides on a candidate before a champion, if there is one."""
    met = None if champion is None else challenge(who(champion.name), champion, candidate, rules)
    return decide(candidate, met, rules)


def who(name: str, passport: dict[str, Any] = PASSPORT) -> ModelId:
    """Return the identity of a model that a name stands for."""
    return ModelId(hashlib.sha256(name.encode()).hexdigest(), passport_sha256(passport), f"training-{name}")


def add_version(client: MlflowClient, model: str, identity: ModelId) -> int:
    """Register a version that names an identity and holds nothing."""
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model)
    tags = {"generator.sha256": identity.weights, "passport": identity.passport, "training.key": identity.training}
    return int(client.create_model_version(model, "file:///nowhere", tags=tags).version)


def write_params(root: Path, model: str) -> None:
    """Write the committed parameters with another name of the registered model."""
    text = (ROOT / "params.yaml").read_text()
    assert "model_name: auto" in text
    (root / "params.yaml").write_text(text.replace("model_name: auto", f"model_name: {model}"))


def leaves(passport: dict[str, Any], field: str = "") -> list[str]:
    """Return the dotted names of everything in a passport that is no section."""
    names: list[str] = []
    for name, value in passport.items():
        inner = f"{field}{name}"
        names += leaves(value, f"{inner}.") if isinstance(value, dict) else [inner]
    return names


def changed(passport: dict[str, Any], field: str) -> dict[str, Any]:
    """Return a passport with one leaf changed into something of its kind."""
    other = deepcopy(passport)
    *sections, name = field.split(".")
    place = other
    for section in sections:
        place = place[section]
    match place[name]:
        case bool(value):
            place[name] = not value
        case int(value) | float(value):
            place[name] = value + 1
        case str(value):
            place[name] = f"{value}x"
        case list(value):
            place[name] = [*value, 1]
        case _:
            place[name] = {"samples": 1}
    return other
