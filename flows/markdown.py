"""Markdown for Prefect's artifacts."""

import base64
from pathlib import Path


def embedded(path: Path, title: str) -> str:
    """Return a picture as markdown that needs no file."""
    return f"![{title}](data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()})"
