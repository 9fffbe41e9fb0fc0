"""The stage `diagnose`: the doctor's verdict on a finished training, and a picture of what it rests on."""

from dataclasses import asdict
from pathlib import Path

from gan_core.config import DoctorConfig
from gan_core.doctor import Doctor
from mlops.figures.curves import instruments_picture
from mlops.project.result_files import DIAGNOSIS, HISTORY, INSTRUMENTS, load_history, save_json
from mlops.safety.new_outputs import Output


def diagnose(training: Path, diagnosis: Output, *, doctor: DoctorConfig) -> None:
    """Write the doctor's diagnosis of a training.

    Args:
        training: the folder that `train` wrote.
        diagnosis: new; a folder with `diagnosis.json` (verdict, the step since which it holds, a sentence, the
            evidence) and `instruments.png` (the readings through training).
        doctor: which readings are a failure.
    """
    rows = load_history(training / HISTORY)
    result = Doctor(doctor, steps=int(rows[-1]["step"])).read_all(rows)
    save_json(diagnosis / DIAGNOSIS, asdict(result))
    (diagnosis / INSTRUMENTS).write_bytes(instruments_picture(rows, result.sentence))
    print(f"doctor: {result.sentence}")
