import base64
import re
from pathlib import Path

from mlops.cards.samples_page import samples_page


def test_every_step_has_its_picture_in_order_and_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    grids = {step: tmp_path / f"{step}.png" for step in (1000, 0, 300)}
    for step, path in grids.items():
        path.write_bytes(f"picture {step}".encode())
    page = samples_page(grids, "a <run>")
    shown = re.findall(r'\["([\d,]+)", "([^"]+)"\]', page)
    assert [(step, base64.b64decode(picture)) for step, picture in shown] == [
        ("0", b"picture 0"),
        ("300", b"picture 300"),
        ("1,000", b"picture 1000"),
    ]
    assert 'max="2" value="2"' in page
    assert "http" not in page
    assert "<run>" not in page
