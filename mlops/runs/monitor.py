"""What a training shows while it runs."""

import sys

from gan_core.config import DoctorConfig, TrainConfig
from gan_core.doctor import BREAKING, Diagnosis, Doctor, non_finite
from gan_core.training.instruments import NAMES, Instruments
from gan_core.training.loop import NonFiniteLossError, Report
from gan_core.training.state import TrainState
from mlops.project.errors import UserError
from mlops.tracking.live_run import LiveRun
from mlops.tracking.runs import NOTE, doctor_tags

COLUMNS = ("step", "images_seen", "d_loss", "g_loss", *NAMES)
"""Of history.csv: losses in nats, and the readings of `gan_core.training.instruments`."""


class TrainingMonitor:
    """Reads the instruments, tells MLflow, and lets the doctor speak where there is something to say."""

    def __init__(self, config: TrainConfig, doctor: DoctorConfig, instruments: Instruments, live: LiveRun) -> None:
        self.live = live
        self._config, self._instruments = config, instruments
        self._stop = doctor.stop
        self._doctor = Doctor(doctor, config.steps)

    def read(self, played: Report, state: TrainState) -> dict[str, float]:
        """Return the row of a step.

        Args:
            played: what the step did.
            state: both players after it.

        Returns:
            A number for each of `COLUMNS`.

        Raises:
            UserError: a loss is not finite, or the doctor ends the training.
        """
        self.live.flush()  # before the device is waited for: it has work in the meantime
        try:
            losses = played.read()
        except NonFiniteLossError as error:
            found = non_finite(error.step)
            self._tell(found)
            raise UserError(f"training stopped: {found.sentence}") from None
        seen = played.step * self._config.batch_size * self._config.discriminator_steps
        row = losses | {"images_seen": seen} | self._instruments.read(state)
        self.live.log_row(row)
        self.see(row)
        return row

    def see(self, row: dict[str, float]) -> None:
        """Show the doctor a row, and say what is new."""
        found = self._doctor.read(row)
        if found is not None:
            self._tell(found)
            if self._stop and found.verdict in BREAKING:
                raise UserError(
                    f"training stopped by the doctor (doctor.stop in params.yaml is true): {found.sentence}"
                )
            print(f"warning: {found.sentence}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Say the verdict of the whole training."""
        self._tell(self._doctor.verdict())
        print(f"doctor: {self._doctor.verdict().sentence}")

    def _tell(self, found: Diagnosis) -> None:
        self.live.log_tags(doctor_tags(found.verdict, found.sentence) | {NOTE: found.sentence})
