"""Why a stage failed, from what it and DVC printed, and whether trying again may mend it."""

import re
from collections.abc import Sequence
from pathlib import Path

CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])|[\x00-\x08\x0b-\x1f]")
"""Colours, movements of the cursor, and other codes for a terminal."""
FAILED = re.compile(r"ERROR: failed to reproduce '.+?': ")
"""How DVC's line begins about a stage that failed, or that DVC refused to run or to take the outputs of."""
ENDED = re.compile(FAILED.pattern + "failed to run: .*, exited with ")
STOPPED = re.compile(r"stopped at step [\d,]+ of ")
"""How a training begins its line that a signal has ended it, after a checkpoint."""
CHATTER = re.compile(
    r"Having any troubles\? Hit us up at |ERROR: failed to push data to the cloud - \d+ files failed to"
    r"|If there are no processes with such PIDs"
)
"""How lines of DVC begin that add nothing to those before them."""
MARKS = re.compile(rf"error: |ERROR: |'.+' is invalid\.$|{STOPPED.pattern}")
"""How lines begin after which trying again mends nothing: of a stage, of DVC, of DVC about a file that it reads."""
LOCK = Path(".dvc", "tmp", "lock")
BUSY = "it is being blocked by"
"""What DVC prints of a file that another DVC uses."""
NO_GIT = "type `git init` and commit all files, or do without git: `dvc config --local core.no_scm true`"
"""What helps a project that is in no repository, such as one that was downloaded as a zip."""
REMEDIES = {
    "is not a git repository": NO_GIT,
    "is outside of git repository": (
        "DVC writes through no link: put a folder in the place of the link; for a larger disk move DVC's cache, "
        "`dvc cache dir --local FOLDER`"
    ),
    BUSY: (
        "another run works in this project: wait for it or stop it, and leave its lock alone. A dvc exp run that was "
        "refused has left its values in params.yaml: git diff params.yaml shows them"
    ),
    "No space left on device": "free some space; `dvc gc --workspace` drops old versions of data and models",
}
"""What helps if DVC prints this."""


class StageFailedError(RuntimeError):
    """A stage ended with an error; the message contains the stage's own, or DVC's."""


class StageDiedError(StageFailedError):
    """A stage was killed or crashed: its output has no error that a user can correct."""


def stage_error(name: str, status: int, lines: Sequence[str]) -> StageFailedError:
    """Return the error of a stage, or another command, that ended with a status other than 0."""
    kind = StageDiedError if _died(status, lines) else StageFailedError
    return kind(f"stage {name} failed (exit {status}): {own_error(lines)}")


def _died(status: int, lines: Sequence[str]) -> bool:
    """Return whether no `error:` was printed, nobody stopped it and DVC did not refuse: trying again may help."""
    if any(line.startswith("error: ") or (status > 0 and STOPPED.match(line)) for line in lines):
        return False
    return status < 0 or any(map(ENDED.match, lines)) or not any(map(MARKS.match, lines))


def own_error(lines: Sequence[str]) -> str:
    """Return the error in a failed stage's output: from its last `error:` line, or the last line of its traceback.

    DVC's line that the stage failed is left out; if DVC itself refused, the error is DVC's, with a remedy.
    """
    kept = [line for line in lines if not ENDED.match(line) and not CHATTER.match(line)]
    start = max((place for place, line in enumerate(kept) if MARKS.match(line)), default=-1)
    error = "\n".join(kept[start:])
    if not error or error.startswith("error: "):
        return error.removeprefix("error: ") or "it printed nothing"
    remedies = [remedy for sign, remedy in REMEDIES.items() if sign in error]
    if "Unable to acquire lock" in error and LOCK.exists():
        remedies.append(f"process {LOCK.read_text().strip()} took {LOCK} last: wait for it, or end it")
    reason = FAILED.sub("", error, count=1).removeprefix("ERROR: ")
    return "; ".join([reason.removesuffix("."), *remedies]) if remedies else reason
