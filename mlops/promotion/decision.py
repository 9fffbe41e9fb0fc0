"""From evidence to an entry of the ledger, and back: the gate remembers what it saw, so it needs no MLflow."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from mlops.project.params import RegisterConfig
from mlops.promotion.gate import Decision, bounds, decide
from mlops.promotion.history import Entry, ModelId, replay
from mlops.promotion.ledger import LEDGER, Ledger
from mlops.scoring.evaluation import Evaluation, suffix

TESTED = ("fid", "kid")
"""Metrics that `register.metric` may name; their measurements are kept, whichever was tested."""


def judge(ledger: Ledger, who: ModelId, evidence: Evaluation, config: RegisterConfig, commit: str) -> tuple[str, str]:
    """Decide on a candidate, once: the same candidate before the same champion under the same rules changes nothing.

    A champion scored under another passport, or on more trainings, stays champion, and later candidates are compared
    with its new scores. A former champion returns by hand only, or each run of the pipeline would undo a rollback.

    Args:
        ledger: held; it gets an entry if something was decided.
        who: the candidate.
        evidence: its scores.
        config: the rules, and the name of the registered model.
        commit: of the code, for who wants to score the candidate again.

    Returns:
        What was decided on the candidate, now or before, and the reason.
    """
    name, state = config.model_name, replay(ledger.entries, config.model_name)
    mine = [entry for entry in ledger.entries if entry.model == name and entry.candidate.weights == who.weights]
    if who.weights in {past.weights for past in state.former}:
        command = "python -m commands.promote rollback VERSION"
        return "former champion", f"it was champion and was replaced; only a person brings it back: {command}"
    if state.champion is not None and state.champion.weights == who.weights:
        if not any(entry.candidate.passport == who.passport and _covers(entry, evidence) for entry in mine):
            reason = (
                "the champion has other scores now (passport, or trainings), with which later candidates are compared"
            )
            evidence_now = record(evidence, Decision("refused", reason, bounds(evidence, config)), config, commit)
            ledger.append("scored again", name, who, reason, evidence_now)
            return "scored again", reason
        return mine[-1].action, mine[-1].reason
    for entry in reversed(mine):
        if _covers(entry, evidence) and _same_case(entry, who, ledger.entries, config):
            return entry.action, entry.reason
    decision = _decide(ledger.entries, state.champion, who, evidence, config)
    ledger.append(decision.action, name, who, decision.reason, record(evidence, decision, config, commit))
    return decision.action, decision.reason


def _covers(entry: Entry, evidence: Evaluation) -> bool:
    """Return whether a decision knew as many trainings as were scored now: more of them change no passport."""
    banks = entry.evidence["banks"] if entry.evidence else {}
    return any(len(trainings) >= evidence.banks.training.nunique() for trainings in banks.values())


def _same_case(entry: Entry, who: ModelId, entries: Sequence[Entry], config: RegisterConfig) -> bool:
    """Return whether a decision would be made again: on these scores, under these rules, before this champion."""
    champion = replay(entries, config.model_name).champion
    again = {later.candidate.weights for later in entries[entry.number :] if later.action == "scored again"}
    if entry.evidence is None or (champion and champion.weights in again):
        return False
    case = (entry.candidate.passport, entry.evidence["register"], entry.champion_before)
    return case == (who.passport, asdict(config), champion)


def _decide(
    entries: Sequence[Entry], champion: ModelId | None, who: ModelId, evidence: Evaluation, config: RegisterConfig
) -> Decision:
    known = recall(entries, config.model_name, champion, who.passport) if champion else None
    if champion and known is None:
        reason = "the ledger has no scores of the champion to compare with; score it (dvc repro) or promote by hand"
        return Decision("refused", reason, bounds(evidence, config))
    return decide(evidence, known, config)


def record(evidence: Evaluation, decision: Decision, config: RegisterConfig, commit: str) -> dict[str, Any]:
    """Return the numbers that a decision rests on, as JSON, with all that a later decision needs."""
    columns = [f"{metric}{suffix(evidence.passport)}" for metric in TESTED]
    trainings = evidence.banks.groupby("training", sort=False)
    return {
        "bounds": [asdict(bound) for bound in decision.bounds],
        "test": asdict(decision.comparison) if decision.comparison else None,
        "register": asdict(config),
        "commit": commit,
        "scores": evidence.scores,
        "banks": {column: [list(map(float, values)) for _, values in trainings[column]] for column in columns},
        "passport": evidence.passport,
    }


def recall(entries: Sequence[Entry], model: str, who: ModelId, passport: str) -> Evaluation | None:
    """Return the scores of a model from the ledger.

    Args:
        entries: of the ledger.
        model: name of the registered model.
        who: whose scores.
        passport: sha256 of the passport that is wanted.

    Returns:
        The newest scores under that passport, else the newest under another, else None.
    """
    found = [entry for entry in entries if entry.model == model and entry.candidate.weights == who.weights]
    kept = sorted((entry for entry in found if entry.evidence), key=lambda entry: entry.candidate.passport == passport)
    if not kept or not (evidence := kept[-1].evidence):
        return None
    shape = next(iter(evidence["banks"].values()))
    rows = [(training, bank) for training, values in enumerate(shape) for bank in range(len(values))]
    banks = pd.DataFrame(rows, columns=["training", "bank"])
    for column, trainings in evidence["banks"].items():
        banks[column] = [value for values in trainings for value in values]
    name = f"the champion (decision {kept[-1].number} of {LEDGER}, commit {evidence['commit'][:12] or 'unknown'})"
    return Evaluation(name, evidence["scores"], evidence["passport"], banks)
