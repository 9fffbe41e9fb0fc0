"""What users see: MLflow's and Prefect's pages in a real browser. Each test leaves a picture in `screenshots/`."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect, sync_playwright

from commands.local_servers import mlflow_server as mlflow
from mlops.tracking.runs import COLUMNS as WIDTHS
from tests.project import LONGER, ROOT, TINY, Project
from tests.servers import TIMEOUT, Deployment, FlowRun, mlflow_server

pytestmark = pytest.mark.slow
SIZE = (1400, 900)
COLUMNS = list(WIDTHS)
TALL = (1400, 5000)
"""High enough for a model's card with the table of its versions below."""
VIEW = "workflowType=machine_learning"
"""MLflow 3.17 opens every experiment in its view for language models, unless the address asks for the other."""
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Tracking:
    """MLflow's server, and the runs of its experiment 1, the newest first: ids by name."""

    address: str
    runs: dict[str, str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        message = "no browser: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    expect.set_options(timeout=TIMEOUT * 1000)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=path, args=SWITCHES, timeout=TIMEOUT * 1000) as browser,
    ):
        yield browser


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that opens an address in a browser that was never used before; the page closes with the test.

    An open page keeps asking its server and drawing.
    """
    with ExitStack() as pages:

        def opened(address: str, size: tuple[int, int] = SIZE) -> Page:
            viewport = ViewportSize(width=size[0], height=size[1])
            context = pages.enter_context(browser.new_context(viewport=viewport, reduced_motion="reduce"))
            context.set_default_timeout(TIMEOUT * 1000)
            # MLflow's assistant opens by itself at the first visit and takes a quarter of the page.
            context.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
            page = context.new_page()
            page.goto(address)
            return page

        yield opened


@pytest.fixture(scope="module")
def trained(browser: Browser, experiment: tuple[Project, str], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project that has trained twice."""
    project, _ = experiment
    return project.copy(tmp_path_factory.mktemp("trained") / "project")


@pytest.fixture(scope="module")
def tracking(trained: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """Serve both runs."""
    with mlflow_server(trained, tmp_path_factory.mktemp("mlflow") / "server.log") as address:
        request = {"experiment_ids": ["1"]}
        answer = httpx.post(f"{address}/api/2.0/mlflow/runs/search", json=request, timeout=TIMEOUT).json()
        runs = {run["info"]["run_name"]: run["info"]["run_id"] for run in answer["runs"]}
        assert [run["info"]["status"] for run in answer["runs"]] == ["FINISHED", "FINISHED"]
        assert len(runs) == 2
        yield Tracking(address, runs)


@pytest.fixture(scope="module")
def versions(tracking: Tracking, trained: Project) -> dict[str, str]:
    """Train a third time and return the runs of all versions of the model, by number."""
    trained.set(train={"seed": 2, "steps": 60})
    trained.dvc("repro")
    address = f"{tracking.address}/api/2.0/mlflow/model-versions/search"
    answer = httpx.get(address, timeout=TIMEOUT).json()["model_versions"]
    runs = {version["version"]: version["run_id"] for version in answer}
    assert sorted(runs) == ["1", "2", "3"]
    return runs


def keep(page: Page, name: str) -> None:
    page.screenshot(path=ROOT / "screenshots" / f"{name}.png", animations="disabled")


def is_shown(image: Locator) -> None:
    """Check that an image was loaded and decoded, and that something of it is in view."""
    image.scroll_into_view_if_needed()
    expect(image).to_be_in_viewport()
    expect(image).to_have_js_property("complete", True)
    assert image.evaluate("image => image.naturalWidth") > 0


def test_the_experiment_opens_on_what_decides(open_page: Callable[..., Page], tracking: Tracking) -> None:
    page = open_page(f"{tracking.address}{mlflow(5000).page}")
    for name in tracking.runs:
        expect(page.get_by_role("link", name=name)).to_be_visible()
    for column in COLUMNS[1:6]:
        expect(
            page.get_by_role("columnheader", name=re.sub(".*`(.*)`", r"\1", column), exact=True).first
        ).to_be_visible()
    expect(page.get_by_role("gridcell", name="champion", exact=True)).to_be_visible()
    expect(page.get_by_role("gridcell", name=re.compile(r"^[\d.]+ \[[\d.]+, [\d.]+\] digits$"))).to_have_count(2)
    expect(page.get_by_role("link", name="Model registry")).to_be_visible()
    keep(page, "mlflow-runs")


def test_two_runs_compare_by_parameters_and_scores(open_page: Callable[..., Page], tracking: Tracking) -> None:
    runs = quote(json.dumps(list(tracking.runs.values())))
    page = open_page(f"{tracking.address}/#/compare-runs?runs={runs}&experiments={quote(json.dumps(['1']))}&{VIEW}")
    expect(page.get_by_role("heading", name="Comparing 2 Runs")).to_be_visible()
    for name in tracking.runs:
        expect(page.get_by_text(name).first).to_be_visible()
    steps = rf"train\.steps\s+{LONGER['steps']}\s+{TINY['train']['steps']}"
    expect(page.get_by_role("row", name=re.compile(steps))).to_be_visible()
    for metric in ("extractor_accuracy", "fid_digits", "fid_digits_low"):
        expect(page.get_by_role("link", name=metric, exact=True)).to_be_visible()
    page.get_by_role("row", name=re.compile(r"train\.steps")).scroll_into_view_if_needed()
    keep(page, "mlflow-compare")


def test_a_comparison_of_three_versions_shows_scores_intervals_and_grids(
    open_page: Callable[..., Page], trained: Project, versions: dict[str, str]
) -> None:
    ended = trained.run(sys.executable, "-m", "commands.compare", *sorted(versions), "--html", "comparison.html")
    assert ended.returncode == 0, ended.stdout
    page = open_page((trained.root / "comparison.html").as_uri())
    for number in ("2", "3"):
        expect(page.get_by_text(re.compile(rf"Version {number}\b.*version 1\b.*fid_digits"))).to_be_visible()
    cells = page.get_by_role("row", name=re.compile("^fid_digits")).get_by_role("cell")
    expect(cells.filter(has_text=re.compile(r"^\d+\.?\d* \[\d+\.?\d*, \d+\.?\d*\]"))).to_have_count(3)
    is_shown(page.get_by_alt_text("scores with their 95 % intervals"))
    keep(page, "comparison-scores")
    for number in versions:
        for picture in ("comparison", "neighbours", "interpolation"):
            is_shown(page.get_by_alt_text(f"{picture}.png of version {number}"))
    page.get_by_alt_text("comparison.png of version 1").scroll_into_view_if_needed()
    keep(page, "comparison-pictures")


def test_a_version_shows_its_card_with_pictures(
    open_page: Callable[..., Page], tracking: Tracking, versions: dict[str, str]
) -> None:
    page = open_page(f"{tracking.address}/#/models/gan-digits/versions/3?{VIEW}")
    decision = page.get_by_text(re.compile(r"^(Champion since .*|Refused), ")).first
    expect(decision).to_be_in_viewport()
    expect(page.get_by_text(re.compile(r"^Version 3 has fid_digits \d+\.?\d* \[\d+"))).to_be_visible()
    for heading in ("Scores", "What now", "Trained on", "Passport"):
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
    expect(page.get_by_role("row", name=re.compile(r"recall_digits\s+higher\s+\S+ \[\S+, \S+\]"))).to_be_visible()
    for picture in ("comparison", "neighbours", "interpolation"):
        is_shown(page.locator(f"img[src^='get-artifact'][src*='{picture}.png'][src*='{versions['3']}']"))
    page.get_by_role("heading", name="Scores").scroll_into_view_if_needed()
    keep(page, "mlflow-version")


def test_a_newcomer_finds_the_scores_of_three_versions_side_by_side(
    open_page: Callable[..., Page], tracking: Tracking, versions: dict[str, str]
) -> None:
    page = open_page(f"{tracking.address}/#/models/gan-digits?{VIEW}", TALL)
    is_shown(page.locator("img[src^='get-artifact']"))
    for number in versions:
        row = page.get_by_role("row", name=re.compile(rf"^Version {number}\b"))
        expect(row.get_by_text(re.compile("^(Champion|Former champion|Refused)")).first).to_be_visible()
        row.get_by_role("checkbox").check()
    keep(page, "mlflow-model")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_role("heading", name="Comparing 3 Versions")).to_be_visible()
    for metric in ("fid_digits", "fid_digits_low", "fid_digits_high"):
        expect(page.get_by_role("row", name=re.compile(rf"^\s*{metric}\s+\S+ \S+ \S+"))).to_be_visible()
    keep(page, "mlflow-compare-versions")


def test_a_run_shows_its_samples_step_by_step(open_page: Callable[..., Page], tracking: Tracking) -> None:
    newest = next(iter(tracking.runs.values()))
    page = open_page(f"{tracking.address}/#/experiments/1/runs/{newest}?{VIEW}")
    page.get_by_text("Show more").click()
    link = page.get_by_role("link", name="Samples at every step").get_attribute("href")
    page = open_page(f"{tracking.address}/{link}")  # MLflow opens it in a tab of its own
    shown = page.frame_locator("iframe")
    slider, image = shown.get_by_role("slider"), shown.get_by_role("img")
    for step in range(LONGER["steps"], -1, -LONGER["sample_every"]):
        expect(shown.get_by_text(f"step {step:,}", exact=True)).to_be_visible()
        is_shown(image)
        box = image.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) > 500
        slider.press("ArrowLeft")
    keep(page, "mlflow-samples")


def test_a_run_draws_its_curves_first(open_page: Callable[..., Page], tracking: Tracking) -> None:
    newest = next(iter(tracking.runs.values()))
    page = open_page(f"{tracking.address}/#/experiments/1/runs/{newest}/model-metrics?{VIEW}")
    expect(page.get_by_role("heading", name="d_loss", exact=True)).to_be_in_viewport()
    keep(page, "mlflow-curves")


def test_a_flow_run_shows_its_stages(open_page: Callable[..., Page], deployed: Deployment, flow_run: FlowRun) -> None:
    stages = deployed.tasks(flow_run)
    page = open_page(f"{deployed.address}/runs/flow-run/{flow_run.id}")
    expect(page.get_by_text(f"{len(stages)} Task runs")).to_be_visible()
    keep(page, "prefect-flow-run")
    page.get_by_text("Task Runs", exact=True).click()
    for stage in stages:
        expect(page.get_by_role("link", name=stage, exact=True)).to_be_visible()
    keep(page, "prefect-task-runs")


def test_a_run_shows_the_diagnosis(
    open_page: Callable[..., Page], experiment: tuple[Project, str], tracking: Tracking
) -> None:
    diagnosis = json.loads((experiment[0].root / "reports" / "diagnosis" / "diagnosis.json").read_text())
    newest = next(iter(tracking.runs.values()))
    page = open_page(f"{tracking.address}/#/experiments/1/runs/{newest}?{VIEW}")
    expect(page.get_by_text(re.compile("^(Champion since .*|Refused)")).first).to_be_in_viewport()
    page.get_by_text("Show more").click()
    expect(page.get_by_text(diagnosis["sentence"]).first).to_be_visible()
    is_shown(page.locator("img[src^='get-artifact'][src*='run.png']"))
    keep(page, "mlflow-run")


def test_the_decision_shows_its_pictures(
    open_page: Callable[..., Page], deployed: Deployment, flow_run: FlowRun
) -> None:
    mine = {"id": {"any_": [flow_run.id]}}
    artifacts = {item["key"]: item["id"] for item in deployed.ask("artifacts/filter", flow_runs=mine)}
    page = open_page(f"{deployed.address}/artifacts/artifact/{artifacts['gan-decision']}")
    expect(page.get_by_role("heading", name=re.compile("^(promoted|refused): gan-digits version 1"))).to_be_visible()
    keep(page, "prefect-decision")
    for title in ("generated beside real images", "readings through training"):
        is_shown(page.get_by_alt_text(title))
