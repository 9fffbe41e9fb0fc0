from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.project import Project, clone
from tests.servers import Deployment, FlowRun, deployment

# Examples repeat from run to run, and a slow shared machine fails nothing: tests count steps, never seconds.
settings.register_profile("equilibrium", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("equilibrium")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
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
    """Return a clone in which the whole pipeline has run once; nobody may change it."""
    project = clone(tmp_path_factory.mktemp("finished") / "project")
    project.dvc("repro")
    return project


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Return `gan-training/local` of a clone, with a server and a worker."""
    folder = tmp_path_factory.mktemp("deployed")
    with deployment(clone(folder / "project"), folder) as found:
        yield found


@pytest.fixture(scope="session")
def flow_run(deployed: Deployment) -> FlowRun:
    """Return the first run of the deployment: every stage ran in it."""
    run = deployed.watch()
    assert run.returncode == 0, deployed.state(run)["message"]
    return run
