"""What can be checked of `deploy/compose.yaml` without starting anything."""

import os
import re
import shutil

import pytest
import yaml

from tests.deploy.team import COMPOSE, SECRETS, compose, path_of_programs
from tests.project import ROOT


@pytest.fixture(autouse=True)
def _compose_is_installed() -> None:
    if not shutil.which("docker-compose", path=path_of_programs()):
        if os.environ.get("CI"):
            pytest.fail("docker-compose is missing: pip install -r requirements.lock")
        pytest.skip("docker-compose is missing")


def test_it_is_valid() -> None:
    ended = compose(SECRETS)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("value", [None, ""])
def test_no_secret_has_a_default(secret: str, value: str | None) -> None:
    others = {name: content for name, content in SECRETS.items() if name != secret}
    ended = compose(others | ({} if value is None else {secret: value}))
    assert ended.returncode != 0
    assert set(re.findall(r"required variable (\w+)", ended.stderr)) == {secret}


def test_images_have_a_version() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    versions = {
        name: service["image"].rpartition(":")[2] for name, service in services.items() if "build" not in service
    }
    assert set(versions) == {"postgres", "store"}
    assert all(re.match(r"\d+\.\d+", version) for version in versions.values())


def test_every_command_stands_in_the_text_for_servers_without_containers() -> None:
    text = " ".join((ROOT / "deploy" / "servers.md").read_text().replace("\\\n", " ").split())
    for name, service in yaml.safe_load(COMPOSE.read_text())["services"].items():
        assert " ".join(service["command"].split()) in text, name
