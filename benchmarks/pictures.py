"""The docs' pictures, from what this project has made: `make pictures`.

It copies the pictures that the pipelines wrote and takes screenshots with Debian's `chromium`: MLflow's list of runs,
the longest flow run in Prefect, the form of one, and the newest sweep. First register two versions (change a number,
`make run`, change it back, `make run`), sweep, and run `dvc repro experiments/densities/dvc.yaml`; what was not made
stays.
`mnist.png` is `comparison.png` of the preset `mnist-dcgan`; `power.png` is drawn by `python -m benchmarks.gate`,
`prepare.png` and `scale.png` by the benchmarks of these names.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from playwright.sync_api import Page, sync_playwright

from commands import local_servers
from tests.project import ROOT, Project, environment
from tests.servers import BIN, answers, free_port, mlflow_server, running, wait_for
from tests.test_browser import SWITCHES

PICTURES = ROOT / "docs" / "pictures"
COPIED = {"reports/diagnosis/instruments.png": "instruments.png"} | {
    f"experiments/densities/pictures/{name}.png": f"densities/{name}.png"
    for name in ("learning", "value", "gradients", "modes")
}
WIDTH, MENU = 1420, 200
"""Pixels of a page, and of the menu on its left, which is cut off: the README shows what remains 900 pixels wide."""


def copy_pictures() -> None:
    """Copy what the pipelines drew."""
    for drawn, name in COPIED.items():
        if (ROOT / drawn).exists():
            shutil.copyfile(ROOT / drawn, PICTURES / name)
            print(f"{name}: {drawn}")


def mlflow_runs(page: Page, address: str) -> None:
    """Show what decides between the runs.

    Args:
        page: empty.
        address: of MLflow's server.
    """
    page.goto(f"{address}{local_servers.mlflow_server(5000).page}")
    page.get_by_role("gridcell", name="champion", exact=True).wait_for()


def prefect_run(page: Page, address: str) -> None:
    """Show the longest of the flow runs, in which most stages did something.

    Args:
        page: empty.
        address: of Prefect's server.
    """
    runs = httpx.post(f"{address}/api/flow_runs/filter", json={}).raise_for_status().json()
    if not runs:
        sys.exit("error: Prefect has no flow run; `make run` makes one")
    longest = max(runs, key=lambda run: float(run["total_run_time"]))
    page.goto(f"{address}/runs/flow-run/{longest['id']}")
    page.get_by_text(re.compile(r"\d+ Task runs")).wait_for()


def prefect_form(page: Page, address: str) -> None:
    """Open the form of a run, with one section open.

    Args:
        page: empty.
        address: of Prefect's server, which the deployment is made at.
    """
    command = [str(BIN / "prefect"), "--no-prompt", "deploy", "--name", "gan-training/local"]
    variables = environment(PREFECT_API_URL=f"{address}/api")
    pool = [str(BIN / "prefect"), "--no-prompt", "work-pool", "create", "local", "--type", "process", "--overwrite"]
    for arguments in (pool, command):
        subprocess.run(arguments, cwd=ROOT, env=variables, check=True, stdout=subprocess.DEVNULL)
    deployment = httpx.get(f"{address}/api/deployments/name/gan-training/local").raise_for_status().json()
    page.goto(f"{address}/deployments/deployment/{deployment['id']}/run")
    page.get_by_text("change", exact=True).first.click()
    page.get_by_role("spinbutton").nth(1).fill("500")


def sweeps(address: str) -> list[str]:
    """Return the addresses of what sweeps have left in Prefect, the newest first."""
    question = {"artifacts": {"key": {"any_": ["gan-sweep"]}}, "sort": "CREATED_DESC"}
    found = httpx.post(f"{address}/api/artifacts/filter", json=question).raise_for_status().json()
    return [f"{address}/artifacts/artifact/{artifact['id']}" for artifact in found]


def prefect_sweep(page: Page, address: str) -> None:
    """Show the newest sweep.

    Args:
        page: empty.
        address: of Prefect's server.
    """
    page.goto(sweeps(address)[0])
    page.get_by_alt_text("parallel coordinates").wait_for()


@contextmanager
def prefect_server(project: Project, log: Path) -> Iterator[str]:
    """Serve the project's own runs, as `make ui` does.

    Args:
        project: this one.
        log: of the server.

    Yields:
        The address.
    """
    port = str(free_port())
    address = f"http://127.0.0.1:{port}"
    command = (str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", port)
    with running(project, log, *command, PREFECT_API_URL=f"{address}/api"):
        wait_for(lambda: answers(f"{address}/api/health"), f"Prefect does not answer; see {log}")
        yield address


def screenshot(name: str, height: int, show: Callable[[Page, str], None], address: str) -> None:
    """Write the upper part of a page.

    Args:
        name: of the picture.
        height: of that part, in pixels.
        show: opens the page.
        address: of the server.
    """
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=shutil.which("chromium"), args=SWITCHES) as browser,
    ):
        page = browser.new_page(viewport={"width": WIDTH, "height": height + 200})
        page.set_default_timeout(60_000)
        page.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
        show(page, address)
        page.wait_for_timeout(2000)  # for what slides and fades
        page.screenshot(path=PICTURES / name, clip={"x": MENU, "y": 0, "width": WIDTH - MENU, "height": height})
    print(f"{name}: {address}")


def main() -> None:
    """Copy, then look at both servers."""
    copy_pictures()
    project = Project(ROOT)
    with TemporaryDirectory() as logs:
        with mlflow_server(project, Path(logs) / "mlflow.log") as address:
            screenshot("mlflow-runs.png", 480, mlflow_runs, address)
        with prefect_server(project, Path(logs) / "prefect.log") as address:
            screenshot("prefect-run.png", 580, prefect_run, address)
            screenshot("prefect-form.png", 900, prefect_form, address)
            if sweeps(address):
                screenshot("prefect-sweep.png", 1150, prefect_sweep, address)


if __name__ == "__main__":
    main()
