"""Decisions on who is champion, and the state of the registry to which they lead."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Action = Literal["promoted", "refused", "promoted by hand", "rolled back", "scored again"]
"""What was decided. A champion with scores under another passport, or of more trainings or banks, is `scored again`."""

REFUSED = "Refused"
"""How a `Standing` begins of a model that never was champion."""
MAKE_CHAMPION = ("promoted", "promoted by hand", "rolled back")
"""Actions after which the candidate is champion."""


@dataclass(frozen=True)
class ModelId:
    """A model and its scores: sha256 of the weights, sha256 of the passport, key of the training."""

    weights: str
    passport: str
    training: str


@dataclass(frozen=True)
class Entry:
    """A decision. `previous` is the sha256 of the line before; `evidence` is null where a person decided."""

    number: int
    previous: str | None
    time: str
    action: Action
    model: str
    candidate: ModelId
    champion_before: ModelId | None
    champion_after: ModelId | None
    reason: str
    by: str
    evidence: dict[str, Any] | None


@dataclass(frozen=True)
class State:
    """The roles of models after all decisions.

    `previous` is the champion that a rollback returns to; `former` are all past champions, the latest first, each once.
    """

    champion: ModelId | None
    previous: ModelId | None
    former: tuple[ModelId, ...]


def replay(entries: Sequence[Entry], model: str) -> State:
    """Return the state of a registered model to which decisions, in their order and on any models, lead.

    A champion that was scored again stays champion, with the passport of its new scores.
    """
    line: list[ModelId] = []
    former: dict[str, ModelId] = {}
    for entry in entries:
        if entry.model != model:
            continue
        candidate = entry.candidate
        if entry.action in MAKE_CHAMPION:
            for past in line[-1:]:
                former = {past.weights: past} | {key: value for key, value in former.items() if key != past.weights}
            line = _succeed(line, candidate, back=entry.action == "rolled back")
            former.pop(candidate.weights, None)
        elif entry.action == "scored again" and line and line[-1].weights == candidate.weights:
            line[-1] = candidate
    previous, champion = [None, None, *line][-2:]
    return State(champion, previous, tuple(former.values()))


def _succeed(line: list[ModelId], model_id: ModelId, *, back: bool) -> list[ModelId]:
    """Return the line of champions with a new one; a rollback drops those after the one that it returns to."""
    places = [place for place, past in enumerate(line[:-1]) if back and past.weights == model_id.weights]
    return [*(line[: places[-1]] if places else line), model_id]


def opponent(entries: Sequence[Entry], model: str, model_id: ModelId) -> ModelId | None:
    """Return the champion with which a candidate is compared: for the champion itself, the one that it met before.

    It is None if there is no other champion, or was none when the gate decided on the candidate.
    """
    champion = replay(entries, model).champion
    if champion is None or champion.weights != model_id.weights:
        return champion
    decided = [entry for entry in entries if entry.model == model and entry.candidate.weights == model_id.weights]
    met = [entry.champion_before for entry in decided if entry.evidence and entry.champion_before]
    return next((past for past in reversed(met) if past.weights != model_id.weights), None)


def version_tags(weights: str | None, passport: str | None, entries: Sequence[Entry], model: str) -> dict[str, str]:
    """Return the tags by which a version of a model shows its role and what was decided on it.

    The role is about its weights, the decision about weights and passport of its scores (their sha256). A version that
    is not in the ledger has no tags.
    """
    about = [entry for entry in entries if entry.model == model]
    mine = [entry for entry in about if (entry.candidate.weights, entry.candidate.passport) == (weights, passport)]
    role = _role(weights, replay(about, model), decided=bool(mine))
    tags = {"role": role} if role else {}
    if mine:
        tags |= {"gate.decision": mine[-1].action, "gate.reason": mine[-1].reason}
    tested = [entry.evidence["test"] for entry in mine if entry.evidence and entry.evidence["test"]]
    return tags | ({"gate.p_value": f"{tested[-1]['p_value']:.3g}"} if tested else {})


def _role(weights: str | None, state: State, *, decided: bool) -> str | None:
    if state.champion and weights == state.champion.weights:
        return "champion"
    if weights in {past.weights for past in state.former}:
        return "former champion"
    return "refused" if decided else None


@dataclass(frozen=True)
class Standing:
    """What a model is after all decisions, in words: `head` says what, and since when; `reason` says why."""

    head: str
    reason: str

    @property
    def sentence(self) -> str:
        """Both; without markup, which MLflow's list of versions shows as it is."""
        return f"{self.head}{', because' if self.head == REFUSED else ':'} {self.reason.rstrip('.')}."


def standing(weights: str, entries: Sequence[Entry], model: str) -> Standing | None:
    """Return what a model with these weights is: champion, former champion or refused; None if nothing was decided."""
    about = [entry for entry in entries if entry.model == model]
    mine = [entry for entry in about if entry.candidate.weights == weights]
    reigns = [entry for entry in about if entry.action in MAKE_CHAMPION]
    made = [entry for entry in reigns if entry.candidate.weights == weights]
    if not mine:
        return None
    if not made:
        return Standing(REFUSED, mine[-1].reason)
    last = made[-1]
    if reigns[-1] is last:
        return Standing(f"Champion since {_when(last)}, {last.action}", last.reason)
    after = reigns[reigns.index(last) + 1]
    return Standing(
        f"Former champion, until {_when(after)}",
        f"another version was {after.action}. {after.reason.replace('The candidate', 'That')}",
    )


def _when(entry: Entry) -> str:
    return datetime.fromisoformat(entry.time).strftime("%Y-%m-%d %H:%M %Z")
