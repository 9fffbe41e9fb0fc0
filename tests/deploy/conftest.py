from collections.abc import Iterator

import pytest

from tests.deploy.team import Team, running_team


@pytest.fixture(scope="session")
def team() -> Iterator[Team]:
    """Return the servers for a team: PostgreSQL, store, MLflow and Prefect."""
    with running_team() as team:
        yield team
