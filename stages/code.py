"""The stage `code`: what must hold before any other stage, and digests of the code that each of them runs."""

from pathlib import Path

from mlops.project.code_digest import write_digests
from mlops.runs.kept_work import delete_recorded
from mlops.safety.pipelines import MAIN, PARAMS, load_yaml, stage_outputs
from mlops.safety.preflight import preflight
from mlops.safety.registration import drop_if_lost
from mlops.safety.written_files import note_written


def code(digests: Path) -> None:
    """Check what can be checked before work starts; write for each stage the digests of all files that it imports.

    If MLflow or the ledger lacks what `register` noted, the note goes, and the stage runs again. Trainings and prepared
    data that DVC has recorded go from `.checkpoints`.

    They are the one code dependency that `dvc.yaml` gives a stage. Those of `fetch` include one of a person's own
    images, so `dvc repro` packs them again if they change.

    Args:
        digests: a folder, which DVC leaves as it is; files are written if they change.

    Raises:
        UserError: a parameter is wrong or names a place that the project itself deletes, an output holds files that
            no stage wrote, or something that a later stage needs is missing.
    """
    preflight()
    delete_recorded()
    for note in stage_outputs(MAIN).get("register", ()):
        drop_if_lost(note)
    values = load_yaml(PARAMS)
    others = {}
    if values.get("data", {}).get("name") == "folder":
        from mlops.safety.source_digest import recorded_sha256  # only here: most runs need none of what it imports

        (raw,) = stage_outputs(MAIN)["fetch"]
        others["fetch"] = {"data/originals": recorded_sha256(values["data"]["path"], raw)}
    write_digests("stages", digests, others)
    note_written(digests)
