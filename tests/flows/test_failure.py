from pathlib import Path

import pytest

from flows.failure import StageDiedError, StageFailedError, own_error, stage_error

ENDED = "ERROR: failed to reproduce 'train': failed to run: python -m stages train, exited with 1"
STARTED = ["Running stage 'train':", "> python -m stages train a b"]
TRACEBACK = ["Traceback (most recent call last):", '  File "a.py"', "ValueError: 3"]
NO_DISK = "ERROR: unexpected error - [Errno 28] No space left on device"
STOPPED = "stopped at step 1,340 of 6,000; make run goes on"
BUSY = ["ERROR: failed to reproduce 'train': '/a' is busy, it is being blocked by:", "  (PID 7): dvc repro", "If there"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["train: steps 10 of 60", "error: params.yaml: unknown key a", ENDED], "params.yaml: unknown key a"),
        (["error: params.yaml: a", "params.yaml: b", ENDED], "params.yaml: a\nparams.yaml: b"),
        (["error: first try", "error: second try", ENDED], "second try"),
        ([*TRACEBACK, ENDED], "ValueError: 3"),
        ([*STARTED, *BUSY], "'/a' is busy, it is being blocked by:\n  (PID 7): dvc repro\nIf there"),
        (
            [*STARTED, "ERROR: failed to reproduce 'train': [Errno 13] Permission denied: '/a'"],
            "[Errno 13] Permission ",
        ),
        (["ERROR: Unable to acquire lock."], "Unable to acquire lock."),
        (["'./dvc.yaml' is invalid.", "While parsing"], "'./dvc.yaml' is invalid.\nWhile parsing"),
        (["ERROR: /a is not a git repository"], "/a is not a git repository; type `git init`"),
        ([*STARTED, "ERROR: failed to reproduce 'train': 'a' is outside of git repository 'b'"], "'a' is outside"),
        (
            [NO_DISK, "Having any troubles? Hit us up at https://dvc.org/support"],
            NO_DISK.removeprefix("ERROR: ") + "; ",
        ),
        ([*STARTED, STOPPED, ENDED], STOPPED),
        (
            [
                "ERROR: failed to transfer 'a' - 401",
                "ERROR: failed to push data to the cloud - 1 files failed to upload",
            ],
            "failed to transfer 'a' - 401",
        ),
        ([ENDED], "it printed nothing"),
        ([], "it printed nothing"),
    ],
)
def test_the_error_is_that_of_the_stage_or_of_dvc(
    lines: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert own_error(lines).startswith(expected)
    assert "dvc.org/support" not in own_error(lines)


def test_who_holds_the_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".dvc/tmp").mkdir(parents=True)
    Path(".dvc/tmp/lock").write_text(" 4711\n")
    assert "process 4711 " in own_error(["ERROR: Unable to acquire lock. Most likely"])


@pytest.mark.parametrize(
    ("status", "lines", "kind"),
    [
        (-9, ["step 3"], StageDiedError),
        (255, [*STARTED, *TRACEBACK, ENDED], StageDiedError),
        (255, [*STARTED, "ERROR: of some library", ENDED.replace("with 1", "with -9")], StageDiedError),
        (1, TRACEBACK, StageDiedError),
        (255, [*STARTED, "error: no data", ENDED], StageFailedError),
        (255, [*STARTED, *BUSY], StageFailedError),
        (255, [NO_DISK], StageFailedError),
        (255, ["'./dvc.lock' is invalid.", "While parsing"], StageFailedError),
        (-15, ["error: no data"], StageFailedError),
        (255, [*STARTED, STOPPED, ENDED.replace("with 1", "with 143")], StageFailedError),
        (-9, [*STARTED, STOPPED], StageDiedError),  # DVC was killed, and the training ended after it
    ],
)
def test_only_what_was_killed_or_crashed_may_be_tried_again(
    status: int, lines: list[str], kind: type[StageFailedError]
) -> None:
    error = stage_error("train", status, lines)
    assert type(error) is kind
    assert str(error).startswith(f"stage train failed (exit {status}): ")
