from pathlib import Path

import pytest

from deploy.servers_data import place_of
from mlops.project.errors import UserError


def test_an_object_is_a_file_below_its_bucket() -> None:
    assert place_of(Path("/backup"), "mlflow", "1/a b.txt") == Path("/backup/objects/mlflow/1/a b.txt")


@pytest.mark.parametrize("key", ["../a", "a/../../b", "/etc/passwd", "a//b", "./a"])
def test_a_key_that_would_lead_elsewhere_is_refused(key: str) -> None:
    with pytest.raises(UserError):
        place_of(Path("/backup"), "mlflow", key)
