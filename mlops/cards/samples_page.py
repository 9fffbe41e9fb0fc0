"""The sample grids of a training as one page with a slider, which needs no network, and as an animation."""

import base64
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from mlops.cards.templates import render
from mlops.figures.animations import animation


def samples_page(grids: Mapping[int, Path], title: str) -> str:
    """Return HTML that shows the grid of each step, as large as its window; the last one first."""
    pictures = {step: base64.b64encode(path.read_bytes()).decode() for step, path in sorted(grids.items())}
    return render("samples_page.html.jinja", title=title, pictures=pictures)


def growth(grids: Mapping[int, Path]) -> bytes:
    """Return an animation, WebP, of the grids in the order of their steps; it rests on the last one."""
    frames = [Image.open(path) for _, path in sorted(grids.items())]
    return animation(frames, 0.4, last=2.0)
