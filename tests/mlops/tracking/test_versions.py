from pathlib import Path

import pytest

from mlops.project.errors import UserError
from mlops.tracking import versions as registry
from mlops.tracking.runs import connect
from tests.decisions import add_version, who


def test_a_version_that_nobody_can_name_is_refused(root: Path) -> None:
    client, model = connect()[0], root.name.replace("_", "-")
    add_version(client, model, who("a"))
    client.create_model_version(model, "file:///nowhere")
    found = registry.versions(client, model)
    assert list(found) == ["2", "1"]
    assert registry.identity(model, 1, found) == who("a")
    with pytest.raises(UserError, match=r"no version 3; its versions are: 1, 2$"):
        registry.identity(model, 3, found)
    with pytest.raises(UserError, match=r"no tag generator\.sha256 and no tag passport"):
        registry.identity(model, 2, found)
