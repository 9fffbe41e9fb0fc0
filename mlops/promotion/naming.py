"""What a registered model is called: after its data, unless `params.yaml` names it."""

import hashlib
import json
import re
import unicodedata
from pathlib import Path

from mlops.project.identity import project_root
from mlops.project.params import DataConfig, RegisterConfig
from mlops.promotion.ledger import LEDGER

AUTO = "auto"
BEFORE = "gan-generator"
"""The name of every model when the default named none after its data."""
LONGEST = 63
ARCHIVE = r"\.(zip|tar|tgz|tbz2?|txz|(tar\.)?(gz|bz2|xz|zst))$"


def model_name(register: RegisterConfig, data: DataConfig) -> str:
    """Return the name of the registered model: `register.model_name` or, if that is `auto`, one made of the data's.

    Published data give theirs, as in `gan-fashion-mnist`, a folder or archive its own: `gan-emoji` for `Emoji.tar.gz`.
    A project from before, whose ledger has a champion of `gan-generator` for the same data, keeps that name.
    """
    if register.model_name != AUTO:
        return register.model_name
    named = f"gan-{data_name(data)}"
    return BEFORE if _reigns_from_before(named, data) else named


def data_name(data: DataConfig) -> str:
    """Return the name of published data, or of a folder or archive in small letters, digits and `-`."""
    if data.name != "folder" or data.path is None:
        return data.name.replace("_", "-")
    path = Path(data.path).expanduser()
    name = (project_root() / path).resolve().name if path.name in ("", "..") else path.name
    bare = re.sub(ARCHIVE, "", name.lower())
    letters = unicodedata.normalize("NFKD", bare).encode("ascii", "ignore").decode()
    slug = re.sub("[^a-z0-9]+", "-", letters).strip("-")[: LONGEST - len("gan-")].strip("-")
    return slug or f"folder-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _reigns_from_before(named: str, data: DataConfig) -> bool:
    """Return whether the ledger has a champion of the old name for these data, and nothing of the new name.

    Published data are told by their name, a folder by DVC's md5 of the prepared images. The ledger is read without its
    lock: another model's name in it changes only once.
    """
    ledger, lock = project_root() / LEDGER, Path("dvc.lock")
    if not ledger.exists() or f'"model": "{BEFORE}"' not in (text := ledger.read_text(encoding="utf-8")):
        return False
    try:
        entries = [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return False  # `register` reports a damaged ledger
    mine = [entry for entry in entries if entry["model"] == BEFORE]
    if any(entry["model"] == named for entry in entries):
        return False
    champions = {entry["champion_after"]["weights"] for entry in mine if entry["champion_after"]}
    scored = [entry["evidence"] for entry in mine if entry["candidate"]["weights"] in champions and entry["evidence"]]
    references = [evidence["passport"]["reference"] for evidence in scored]
    images = lock.read_text(encoding="utf-8") if lock.exists() else ""
    return any(
        reference["data"] == data.name and (data.name != "folder" or reference["dvc_md5"] in images)
        for reference in references
    )
