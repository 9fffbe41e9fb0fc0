"""Advice before a training: what the data are, which settings fit them and this machine, and what a run costs."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from mlops.advice.cost import Cost, cost
from mlops.advice.findings import Findings, findings
from mlops.advice.settings import PRESET, enough, fitting
from mlops.images.worker_pool import cores
from mlops.project import params
from mlops.project.identity import located, project_root
from mlops.project.params import Params
from mlops.project.presets import dumped, with_preset
from mlops.safety.user_files import check_sources

CODE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Advice:
    """What was found, and the cost of a training under `params`; `changes` are those to the preset, if there is one."""

    found: Findings
    cost: Cost
    params: Params
    preset: str = ""
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    data: str = ""

    def show(self, *, is_taken: bool = False) -> None:
        """Print it on one screen of 80 columns; `is_taken` if the preset is about to be in `params.yaml`."""
        table = Table.grid("", "", padding=(0, 2))
        for name, text in self.rows(is_taken=is_taken):
            table.add_row(name, escape(text))
        Console(highlight=False).print(table)

    def rows(self, *, is_taken: bool = False) -> list[tuple[str, str]]:
        """Return what is shown, as names and sentences; `is_taken` as of `show`."""
        found, summary, config = self.found, self.found.summary, self.params
        splits = f"{summary.train:,} to train, {summary.validation:,} to validate, {summary.test:,} to test"
        size = config.prepare.image_size
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
        free = shutil.disk_usage(project_root()).free
        side = f" of originals of {found.side}" if found.side is not None else ""
        shape = f"{size} x {size} pixels{side}, {'colour' if config.prepare.channels == 3 else 'grey'}"
        preset = f"make preset{f' DATA={shlex.quote(self.data)}' * bool(self.data)}"
        lengths = f"batches of {config.train.batch_size}, {config.train.steps:,} steps"
        rows = [
            ("images", f"{found.total:,} in {self._classes()}: {splits}"),
            ("of note", self._notes()),
            ("enough", enough(summary.train - summary.duplicates_train, preset)),
            ("machine", f"{cores()} cores, of which training uses {config.compute.threads}; {gpu}"),
            ("settings", f"{self._settings()}{shape}; {config.network.family}; {lengths}"),
            ("time", self._time()),
            ("disk", f"about {decimal(self.cost.disk)}; {decimal(free)} are free"),
        ]
        if not self.preset:
            return rows
        if summary.classes is not None and not config.network.conditional:
            rows.append(
                ("by class", "dvc exp run -S network.conditional=true makes images of a class that you ask for")
            )
        return [*rows, ("next", "make run" if is_taken else f"{preset} && make run")]

    def _time(self) -> str:
        cost, seeds = self.cost, self.params.replicate.seeds
        training = f"{_duration(cost.training)} for {f'{1 + seeds} trainings' if seeds else 'training'}"
        scoring = f", {_duration(cost.features)} for features of images" if cost.features else ""
        return f"about {_duration(cost.whole)}: {training}, {_step(cost.step)} a step{scoring}, and all else{_busy()}"

    def _classes(self) -> str:
        found = self.found
        if found.smallest_class is None or found.largest_class is None or found.summary.classes is None:
            return "no classes"
        (rare, fewest), (frequent, most) = found.smallest_class, found.largest_class
        return f"{len(found.summary.classes):,} classes of {fewest:,} ({rare}) to {most:,} ({frequent})"

    def _notes(self) -> str:
        found, summary = self.found, self.found.summary
        duplicates = summary.duplicates_train + summary.duplicates_validation + summary.duplicates_test
        more = ["..."] if summary.refused > len(found.refused) else []
        counts = {
            f"refused ({', '.join([*found.refused, *more])})": summary.refused,
            "copies of another image": duplicates,
            "held out but also in training": summary.leaks,
            "with a copy in another class": found.contradicted,
            "near-black": found.dark,
            "near-white": found.bright,
            f"enlarged from less than {summary.size} pixels": found.enlarged or 0,
            "lose a third or more to the middle square (prepare.fit: pad keeps all of it)": (
                found.elongated if self.params.prepare.fit == "crop" else 0
            ),
        }
        return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "nothing"

    def _settings(self) -> str:
        if not self.preset:
            return ""
        changed = [f"{section}.{key} {value}" for section, keys in self.changes.items() for key, value in keys.items()]
        return f"preset {self.preset}{' with ' if changed else ''}{', '.join(changed)}; "


def _step(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _busy() -> str:
    """Return that other programs made a measured time long, if they do now."""
    load = os.getloadavg()[0]
    return f"; the machine is busy (load {load:.1f} on {cores()} cores), on an idle one it is shorter" * (
        load > 1.5 * cores()
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def advice(prepared: Path) -> Advice:
    """Return what to expect of a run under `params.yaml`, whose data are prepared."""
    values = params.load()
    return Advice(findings(prepared), cost(prepared, values), values)


def advised(data: str) -> Advice:
    """Return the preset and its changes that fit a folder, zip or tar of images and this machine.

    The images are prepared in a folder of their own, which is deleted; `params.yaml` and outputs stay as they are.
    """
    values = with_preset(PRESET, data)
    check_sources(values)
    place = str(located(data, "DATA"))
    with TemporaryDirectory() as folder:
        _prepare(Path(folder), dumped(with_preset(PRESET, place), f"the preset {PRESET}"), "fetch", "prepare")
        found = findings(Path(folder) / "prepared")
        section, gpu = values["train"], torch.cuda.is_available()
        size, batch_size = values["prepare"]["image_size"], section["batch_size"]
        changes = fitting(found, size=size, batch_size=batch_size, cores=cores(), is_gpu=gpu)
        if changes:
            shutil.rmtree(Path(folder) / "prepared")
            _prepare(Path(folder), dumped(with_preset(PRESET, place, changes), f"the preset {PRESET}"), "prepare")
        chosen = params.load(Path(folder) / params.PARAMS)
        return Advice(found, cost(Path(folder) / "prepared", chosen), chosen, PRESET, changes, data)


def _prepare(folder: Path, text: str, *stages: str) -> None:
    """Run stages in a folder under the parameters of a text; if one fails, this process ends with its error."""
    (folder / params.PARAMS).write_text(text, encoding="utf-8")
    outputs = {"fetch": ("raw",), "prepare": ("raw", "prepared")}
    variables = os.environ | {"PYTHONPATH": str(CODE), "DVC_ROOT": str(folder)}
    for stage in stages:
        command = [sys.executable, "-m", "stages", stage, *outputs[stage]]
        ended = subprocess.run(command, cwd=folder, env=variables, stdout=subprocess.PIPE, text=True, check=False)
        if ended.returncode:
            sys.exit(ended.returncode)
