"""From an evaluation to an entry of the ledger, and back: the ledger keeps what the gate compares, without MLflow."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from mlops.project.params import RegisterConfig
from mlops.promotion.gate import Challenge, Decision, bounds, challenge, decide
from mlops.promotion.history import Entry, ModelId, opponent, replay
from mlops.promotion.ledger import LEDGER, Ledger
from mlops.scoring.comparison import Comparison
from mlops.scoring.evaluation import Evaluation
from mlops.scoring.evaluation_files import parse_evaluation, public_banks, scores_json
from mlops.scoring.passport import differences


@dataclass(frozen=True)
class Judgement:
    """What was decided on a candidate, now or before, why, and how it compares with the champion, if there is one."""

    action: str
    reason: str
    challenge: Challenge | None


def judge(ledger: Ledger, model_id: ModelId, evaluation: Evaluation, config: RegisterConfig, commit: str) -> Judgement:
    """Decide on a candidate, once: the same candidate before the same champion under the same rules changes nothing.

    A champion scored under another passport, or on more trainings, stays champion, and later candidates are compared
    with its new scores. A former champion returns by hand only, or each run of the pipeline would undo a rollback. The
    ledger gets an entry if something was decided, with the commit of the code that can score the candidate again.
    """
    name, state = config.model_name, replay(ledger.entries, config.model_name)
    met = _challenge(ledger.entries, model_id, evaluation, config)
    mine = [entry for entry in ledger.entries if entry.model == name and entry.candidate.weights == model_id.weights]
    if model_id.weights in {former.weights for former in state.former}:
        command = "python -m commands.promote rollback VERSION"
        reason = f"it was champion and was replaced; only a person brings it back: {command}"
        return Judgement("former champion", reason, met)
    if state.champion is not None and state.champion.weights == model_id.weights:
        if any(entry.candidate.passport == model_id.passport and _covers(entry, evaluation) for entry in mine):
            return Judgement(mine[-1].action, mine[-1].reason, met)
        reason = _scored_again(recall(ledger.entries, name, model_id, model_id.passport), evaluation)
        decision = Decision("refused", reason, bounds(evaluation, config))
        ledger.append("scored again", name, model_id, reason, record(evaluation, decision, config, commit))
        return Judgement("scored again", reason, met)
    for entry in reversed(mine):
        if _covers(entry, evaluation) and _same_case(entry, model_id, ledger.entries, config):
            return Judgement(entry.action, entry.reason, met)
    decision = decide(evaluation, met, config)
    ledger.append(decision.action, name, model_id, decision.reason, record(evaluation, decision, config, commit))
    return Judgement(decision.action, decision.reason, met)


def _challenge(
    entries: Sequence[Entry], model_id: ModelId, evaluation: Evaluation, config: RegisterConfig
) -> Challenge | None:
    """Return how a candidate compares with the champion, whose scores come from the ledger."""
    champion = opponent(entries, config.model_name, model_id)
    if champion is None:
        return None
    scored = recall(entries, config.model_name, champion, model_id.passport)
    if scored is None:
        reason = "the ledger has no scores of the champion to compare with; score it (dvc repro) or promote by hand"
        return Challenge(champion, None, reason)
    return challenge(champion, scored, evaluation, config)


def _scored_again(before: Evaluation | None, now: Evaluation) -> str:
    """Return why a champion gets an entry with new scores."""
    if before is None:
        why = "the ledger had no scores of it"
    elif differing := differences(before.passport, now.passport):
        why = f"its passport changed (value before first): {'; '.join(differing)}"
    else:
        counts = [f"{model.trainings} x {model.banks_each}" for model in (now, before)]
        why = f"{counts[0]} trainings x banks are scored, {counts[1]} were"
    return f"the champion stays champion and has new scores, with which later candidates are compared: {why}"


def _covers(entry: Entry, evaluation: Evaluation) -> bool:
    """Return whether a decision rests on as many trainings and banks as are scored now: they change no passport."""
    banks = entry.evidence["banks"] if entry.evidence else {}
    return any(
        len(trainings) >= evaluation.trainings and len(trainings[0]) >= evaluation.banks_each
        for trainings in banks.values()
    )


def _same_case(entry: Entry, model_id: ModelId, entries: Sequence[Entry], config: RegisterConfig) -> bool:
    """Return whether a decision would be made again: on these scores, under these rules, before this champion."""
    champion = replay(entries, config.model_name).champion
    again = {later.candidate.weights for later in entries[entry.number :] if later.action == "scored again"}
    if entry.evidence is None or (champion and champion.weights in again):
        return False
    met = entry.champion_before and entry.champion_before.weights  # with which passport, older ledgers may not have
    case = (entry.candidate.passport, entry.evidence["register"], met)
    return case == (model_id.passport, asdict(config), champion and champion.weights)


def record(evaluation: Evaluation, decision: Decision, config: RegisterConfig, commit: str) -> dict[str, Any]:
    """Return the numbers that a decision rests on, as JSON, with all that a later decision needs."""
    banks = public_banks(evaluation)
    trainings = banks.groupby("training", sort=False)
    return {
        "bounds": [asdict(bound) for bound in decision.bounds],
        "test": _test(decision.comparison) if decision.comparison else None,
        "register": asdict(config),
        "commit": commit,
        "scores": scores_json(evaluation),
        "banks": {name: [list(map(float, values)) for _, values in trainings[name]] for name in banks.columns[2:]},
        "passport": evaluation.passport,
    }


def _test(comparison: Comparison) -> dict[str, Any]:
    means = {
        role: asdict(interval)
        for role, model in (("champion", comparison.first), ("candidate", comparison.other))
        if (interval := model.scores[comparison.metric].interval(comparison.noise))
    }
    rules = {"metric": comparison.first.public_name(comparison.metric), "noise": comparison.noise}
    return rules | {"rate": comparison.rate} | asdict(comparison.outcome) | means


def recall(entries: Sequence[Entry], model: str, model_id: ModelId, passport: str) -> Evaluation | None:
    """Return the newest evaluation of a model under a passport (its sha256), else under another, else None.

    Older entries have the banks of FID and KID alone.
    """
    about = [entry for entry in entries if entry.model == model and entry.candidate.weights == model_id.weights]
    kept = sorted((entry for entry in about if entry.evidence), key=lambda entry: entry.candidate.passport == passport)
    if not kept or not (evidence := kept[-1].evidence):
        return None
    shape = next(iter(evidence["banks"].values()))
    rows = [(training, bank) for training, values in enumerate(shape) for bank in range(len(values))]
    banks = pd.DataFrame(rows, columns=["training", "bank"])
    for column, trainings in evidence["banks"].items():
        banks[column] = [value for values in trainings for value in values]
    name = f"the champion (decision {kept[-1].number} of {LEDGER}, commit {evidence['commit'][:12] or 'unknown'})"
    return parse_evaluation(name, evidence["scores"], evidence["passport"], banks)
