"""From data to served and generated images, without pickle and with the network cut off."""

import base64
import errno
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from PIL import Image

from tests.project import Project
from tests.servers import BIN, TIMEOUT, serving

pytestmark = pytest.mark.slow
LOAD = """
import hashlib, mlflow, pandas as pd
model = mlflow.pyfunc.load_model("models:/gan-digits@champion")
images = model.predict(pd.DataFrame({"seed": [7], "count": [5]}))
print(*[hashlib.sha256(png).hexdigest() for png in images.png])
"""


def python(project: Project, *arguments: str) -> str:
    """Run Python in a project and return what it printed."""
    ended = project.run(sys.executable, *arguments)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


@pytest.fixture(scope="module")
def served(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the champion; yield the address for requests."""
    log = tmp_path_factory.mktemp("served") / "server.log"
    model = ("-m", "models:/gan-digits@champion", "--env-manager", "local", "--host", "127.0.0.1", "-p")
    with serving(finished, log, str(BIN / "mlflow"), "models", "serve", *model, health="/health") as address:
        yield f"{address}/invocations"


@pytest.fixture(scope="module")
def images(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of generated images."""
    folder = tmp_path_factory.mktemp("generated") / "images"
    python(finished, "-m", "commands.generate", "5", str(folder), "--seed", "7")
    return folder


def served_images(address: str, *rows: dict[str, Any]) -> list[bytes]:
    """Return the images with which a server answers a request."""
    answer = httpx.post(address, json={"dataframe_records": rows}, timeout=TIMEOUT).raise_for_status().json()
    return [base64.b64decode(image["png"]) for image in answer["predictions"]]


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)",
        "import socket; socket.getaddrinfo('example.org', 80)",
        "import urllib.request; urllib.request.urlopen('http://example.org', timeout=5)",
        "import asyncio; asyncio.run(asyncio.open_connection('192.0.2.1', 80))",
    ],
)
def test_the_network_is_cut_off(finished: Project, code: str) -> None:
    ended = finished.run(sys.executable, "-c", code)
    assert ended.returncode == 1
    assert f"[Errno {errno.ENETUNREACH}]" in ended.stdout


def test_the_champion_loads(finished: Project, images: Path) -> None:
    rows = pd.read_csv(images / "manifest.csv")
    assert python(finished, "-c", LOAD).split()[-5:] == list(rows.sha256)


def test_served_images_are_those_that_are_generated(served: str, images: Path) -> None:
    files = [path.read_bytes() for path in sorted((images / "images").iterdir())]
    assert len(files) == 5
    assert served_images(served, {"seed": 7, "count": 5}) == files
    parts = {"seed": 7, "count": 2, "first": 3}, {"seed": 7, "count": 1, "first": 0}
    assert served_images(served, *parts) == files[3:] + files[:1]
    with Image.open(io.BytesIO(served_images(served, {"seed": 8})[0])) as picture:
        assert (picture.format, picture.size, picture.mode) == ("PNG", (8, 8), "L")


def test_truncated_images_are_served_as_they_are_generated(
    finished: Project, served: str, images: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "truncated"
    python(finished, "-m", "commands.generate", "3", str(folder), "--seed", "7", "--truncation", "0.5")
    files = [path.read_bytes() for path in sorted((folder / "images").iterdir())]
    assert served_images(served, {"seed": 7, "count": 3, "truncation": 0.5}) == files
    assert files[0] != (images / "images" / "000000.png").read_bytes()


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"seed": -1}, ["seed"]),
        ({"seed": "one"}, ["seed"]),
        ({"count": 1}, ["seed"]),
        ({"seed": 1, "count": 10**9}, ["10,000"]),
        ({"seed": 1, "truncation": 0}, ["truncation", "0"]),
        ({"seed": 1.5}, ["seed", "1.5"]),
        ({"seed": True}, ["seed", "True"]),
        ({"seed": 1, "sed": 2}, ["sed", "truncation"]),
    ],
)
def test_a_bad_request_is_answered_with_what_is_wrong(served: str, row: dict[str, Any], names: list[str]) -> None:
    answer = httpx.post(served, json={"dataframe_records": [row]}, timeout=TIMEOUT)
    assert answer.status_code == 400
    assert all(name in answer.json()["message"] for name in names)
    assert "Traceback" not in answer.text


def test_the_command_names_a_model_that_is_not_there(finished: Project, tmp_path: Path) -> None:
    """Other errors of it are tested without a process; this one is of MLflow, and its last line is ours."""
    folder, model = tmp_path / "new", "models:/gan-digits@king"
    ended = finished.run(sys.executable, "-m", "commands.generate", "1", str(folder), f"--model={model}")
    assert ended.returncode == 1
    last = ended.stdout.splitlines()[-1]
    assert last.startswith("error: ")
    assert model in last
    assert not folder.exists()
