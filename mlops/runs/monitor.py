"""What a training logs and prints while it runs."""

import sys

from gan_core.augmentation.adaptive import is_adaptive
from gan_core.config import DoctorConfig
from gan_core.doctor import BREAKING, Diagnosis, Doctor, non_finite
from gan_core.training.instruments import NAMES, Instruments
from gan_core.training.loop import NonFiniteLossError, Report
from gan_core.training.state import TrainState
from mlops.project.errors import UserError
from mlops.tracking.live_run import LiveRun
from mlops.tracking.runs import NOTE, doctor_tags


def columns(state: TrainState) -> tuple[str, ...]:
    """Return those of history.csv: losses, instruments, the probability of an augmentation that adapts."""
    adapted = ("augment_probability",) if is_adaptive(state.augmentation) else ()
    return ("step", "images_seen", "d_loss", "g_loss", *NAMES, *adapted)


class TrainingMonitor:
    """Reads the instruments, logs to MLflow, and prints what the doctor finds."""

    def __init__(self, state: TrainState, doctor: DoctorConfig, instruments: Instruments, live: LiveRun) -> None:
        self.live = live
        self._config, self._instruments, self._columns = state.config, instruments, columns(state)
        self._stop = doctor.stop
        self._doctor = Doctor(doctor, state.config.steps)

    def read(self, report: Report, state: TrainState) -> dict[str, float]:
        """Return the row of a step, with `columns`, from its report and the state after it.

        It is a UserError if a loss is not finite, or the doctor ends the training.
        """
        try:
            losses = report.read()
        except NonFiniteLossError as error:
            diagnosis = non_finite(error.step)
            self._tag(diagnosis)
            raise UserError(f"training stopped: {diagnosis.sentence}") from None
        seen = report.step * self._config.batch_size * self._config.discriminator_steps
        row = losses | {"images_seen": seen} | self._instruments.read(state)
        if "augment_probability" in self._columns:
            row["augment_probability"] = state.augment_probability.item()
        self.live.log_row(row)
        self.diagnose(row)
        return row

    def diagnose(self, row: dict[str, float]) -> None:
        """Add a row, with `columns`, to what the doctor judges; warn of a new diagnosis.

        If `doctor.stop` is set, one that breaks the training is a UserError instead.
        """
        diagnosis = self._doctor.read(row)
        if diagnosis is None:
            return
        self._tag(diagnosis)
        if self._stop and diagnosis.verdict in BREAKING:
            raise UserError(f"training stopped, because doctor.stop in params.yaml is true: {diagnosis.sentence}")
        print(f"warning: {diagnosis.sentence}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Log the diagnosis of the whole training; the stage `diagnose` prints it."""
        self._tag(self._doctor.verdict())

    def _tag(self, diagnosis: Diagnosis) -> None:
        self.live.log_tags(doctor_tags(diagnosis.verdict, diagnosis.sentence) | {NOTE: diagnosis.sentence})
