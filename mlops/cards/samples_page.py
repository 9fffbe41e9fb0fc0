"""The sample grids of a training as one page with a slider, which needs no network."""

import base64
from collections.abc import Mapping
from pathlib import Path

from mlops.cards.templates import render


def samples_page(grids: Mapping[int, Path], title: str) -> str:
    """Return HTML that shows the grid of each step, as large as its window; the last one first."""
    pictures = {step: base64.b64encode(path.read_bytes()).decode() for step, path in sorted(grids.items())}
    return render("samples_page.html.jinja", title=title, pictures=pictures)
