import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.images import draw
from tests.offline import offline
from tests.project import LONGER, Project, clone
from tests.servers import Deployment, FlowRun, deployment

pytest_plugins = ["tests.fixtures"]

# `make test` starts a pytest in the background, where shells ignore interrupts; what tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which `nohup` ignores

# Trainings of different tests wait for no slot.
os.environ["EQUILIBRIUM_SLOTS"] = "100"

# Examples repeat from run to run, and a slow shared machine fails nothing: tests count steps, never seconds.
settings.register_profile("equilibrium", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("equilibrium")


CLONES = {"project", "finished", "experiment", "deployed", "pictured", "team"}
"""Fixtures whose tests run in clones of the project, and mostly wait for other processes."""


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test` runs in a process of its own, beside all other tests."""
    for item in items:
        if CLONES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.pipeline)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    import torch  # here, for a list of the tests, or help, needs none

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def project(tmp_path: Path) -> Callable[[], Project]:
    """Return a function that makes clean clones of the project, with tiny parameters."""
    count = 0

    def make() -> Project:
        nonlocal count
        count += 1
        return clone(tmp_path / f"clone-{count}")

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a clone in which the whole pipeline has run once, the network cut off; nobody may change it.

    Its model is the champion. Whatever runs there has no network either; copies of it have.
    """
    folder = tmp_path_factory.mktemp("finished")
    project = clone(folder / "project", variables=offline(folder / "project", folder / "hook"))
    project.set(register={"max_fid_to_trivial": 1e9, "max_fid_ratio_to_noise": 1e9})
    project.dvc("repro")
    return project


@pytest.fixture(scope="session")
def experiment(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """Return a copy of `finished` in which `dvc exp run` trained once more, and its output; nobody may change it."""
    project = finished.copy(tmp_path_factory.mktemp("experiment") / "project")
    project.commit()
    changes = [f"--set-param=train.{name}={value}" for name, value in LONGER.items()]
    return project, project.dvc("exp", "run", *changes)


@pytest.fixture(scope="session")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project whose champion learned a folder of images, under parameters that git does not have.

    Among a thousand images of two classes are some that are odd, and `UNREADABLE`.
    """
    project = clone(tmp_path_factory.mktemp("pictured") / "project")
    draw(project.root / "pictures")
    assert project.run(sys.executable, "-m", "commands.preset", "images-32", "pictures").returncode == 0
    project.set(
        network={"generator_width": 8, "discriminator_width": 8},
        train={"seed": 1, "steps": 20, "report_every": 10},
        choose={"images": 20},
        evaluate={"banks": 4, "max_images": 60},
        register={"max_fid_to_trivial": 1e9, "max_fid_ratio_to_noise": 1e9, "max_excess_near_copies": 1.0},
    )
    project.dvc("repro")
    return project


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Return `gan-training/local` of a clone, with a server and a worker."""
    folder = tmp_path_factory.mktemp("deployed")
    with deployment(clone(folder / "project"), folder) as running:
        yield running


@pytest.fixture(scope="session")
def first_flow_run(deployed: Deployment) -> tuple[FlowRun, dict[str, bytes]]:
    """Return the first run of the deployment, in which every stage ran, and the bytes that it wrote."""
    run = deployed.watch()
    assert run.returncode == 0, deployed.state(run)["message"]
    return run, deployed.project.results()


@pytest.fixture(scope="session")
def flow_run(first_flow_run: tuple[FlowRun, dict[str, bytes]]) -> FlowRun:
    """Return the first run of the deployment."""
    return first_flow_run[0]
