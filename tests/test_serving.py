"""From data to served and generated images, without pickle and with the network cut off."""

import base64
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
from tests.servers import BIN, answers, free_port, running, wait_for

pytestmark = pytest.mark.slow
LOAD = """
import hashlib, mlflow, pandas as pd
model = mlflow.pyfunc.load_model("models:/gan-generator@champion")
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
    """Serve the champion; yield where to ask."""
    address, log = f"http://127.0.0.1:{free_port()}", tmp_path_factory.mktemp("served") / "server.log"
    model = ("-m", "models:/gan-generator@champion", "--env-manager", "local")
    port = ("--host", "127.0.0.1", "-p", address.rsplit(":", 1)[1])
    with running(finished, log, str(BIN / "mlflow"), "models", "serve", *model, *port):
        wait_for(lambda: answers(f"{address}/health"), f"the model is not served; see {log}")
        yield f"{address}/invocations"


@pytest.fixture(scope="module")
def images(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of generated images."""
    folder = tmp_path_factory.mktemp("generated") / "images"
    python(finished, "-m", "commands.generate", "5", str(folder), "--seed", "7")
    return folder


def asked(address: str, *rows: dict[str, Any]) -> list[bytes]:
    """Return the images that a server answers with."""
    answer = httpx.post(address, json={"dataframe_records": rows}, timeout=60).raise_for_status().json()
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
    assert "the network is cut off" in ended.stdout


def test_the_champion_loads(finished: Project, images: Path) -> None:
    rows = pd.read_csv(images / "manifest.csv")
    assert python(finished, "-c", LOAD).split()[-5:] == list(rows.sha256)


def test_served_images_are_those_that_are_generated(served: str, images: Path) -> None:
    files = [path.read_bytes() for path in sorted((images / "images").iterdir())]
    assert len(files) == 5
    assert asked(served, {"seed": 7, "count": 5}) == files
    parts = {"seed": 7, "count": 2, "first": 3}, {"seed": 7, "count": 1, "first": 0}
    assert asked(served, *parts) == files[3:] + files[:1]
    with Image.open(io.BytesIO(asked(served, {"seed": 8})[0])) as picture:
        assert (picture.format, picture.size, picture.mode) == ("PNG", (8, 8), "L")


def test_truncated_images_are_served_as_they_are_generated(
    finished: Project, served: str, images: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "truncated"
    python(finished, "-m", "commands.generate", "3", str(folder), "--seed", "7", "--truncation", "0.5")
    files = [path.read_bytes() for path in sorted((folder / "images").iterdir())]
    assert asked(served, {"seed": 7, "count": 3, "truncation": 0.5}) == files
    assert files[0] != (images / "images" / "000000.png").read_bytes()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"seed": -1}, "seed and first must be at least 0"),
        ({"seed": "one"}, "Failed to convert column seed"),
        ({"count": 1}, "missing inputs ['seed']"),
        ({"seed": 1, "count": 10**9}, "one call gives 1 to 10,000 images"),
        ({"seed": 1, "truncation": 0}, "truncation must be above 0"),
    ],
)
def test_a_bad_request_is_answered_with_what_is_wrong(served: str, row: dict[str, Any], message: str) -> None:
    answer = httpx.post(served, json={"dataframe_records": [row]}, timeout=60)
    assert answer.status_code == 400
    assert message in answer.json()["message"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["1", "{images}"], "error: {images} exists and is not empty; remove it"),
        (["0", "{new}"], "error: COUNT must be at least 1, got 0"),
        (["1", "{new}", "--model=models:/gan-generator@king"], "error: models:/gan-generator@king: "),
    ],
)
def test_the_command_says_what_is_wrong(
    finished: Project, images: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    folders = {"images": images, "new": tmp_path / "new"}
    ended = finished.run(sys.executable, "-m", "commands.generate", *(word.format(**folders) for word in words))
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1].startswith(message.format(**folders))
    assert not folders["new"].exists()
