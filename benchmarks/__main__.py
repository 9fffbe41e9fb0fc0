"""`python -m benchmarks NAME [ARGUMENTS]` prints one table; `python -m benchmarks --page PAGE [NAME...]` writes a page.

The page gets the tables of all benchmarks, or of those that are named. Each runs in a process of its own, so that none
inherits another's memory. If one fails, its section of the page is kept as it was, and the exit status is 1.
"""

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.harness.machine import machine, measured
from benchmarks.harness.rounds import in_own_process
from benchmarks.harness.tables import page_of, section, sections, show, table_of
from mlops.project.errors import command_line

NAMES = ("startup", "overhead", "training", "precision", "modes", "labels", "scale", "prepare", "scoring")
ON_REQUEST = ("recipes", "choice", "utility", "gpu", "kills", "sweep", "serving", "full_disks", "chaos")
"""Take a path or hours, so that a page gets them only by their names."""
PICTURES = Path("docs/pictures")


def require_known(names: Iterable[str]) -> None:
    """End with an error that names all benchmarks if a name is none of them."""
    for name in names:
        if name not in NAMES + ON_REQUEST:
            sys.exit(f"error: unknown benchmark '{name}'; the benchmarks are {', '.join(NAMES + ON_REQUEST)}")


def write(page: Path, name: str) -> None:
    """Measure in a new process and put the section on the page, with the picture if one was drawn now."""
    started = time.time()
    table = in_own_process(table_of, name)
    drawn = PICTURES / f"{name}.png"
    picture = os.path.relpath(drawn, page.parent) if drawn.exists() and drawn.stat().st_mtime >= started else None
    texts = sections(page.read_text()) if page.exists() else {}
    if picture is not None:  # another machine's section must not show this machine's plot
        texts = {key: text.replace(f"\n![{name}]({picture})\n", "") for key, text in texts.items()}
    texts[machine(), name] = section(name, table, measured=measured(), picture=picture)
    page.write_text(page_of(texts))


def write_page(page: Path, names: tuple[str, ...]) -> list[str]:
    """Write one section after the other and return the names of those that failed."""
    failed = []
    for number, name in enumerate(names, start=1):
        print(f"benchmark {number} of {len(names)}: {name}", file=sys.stderr, flush=True)
        try:
            write(page, name)
        except (Exception, SystemExit) as error:
            print(f"benchmark {name} failed: {error!r}", file=sys.stderr, flush=True)
            failed.append(name)
    return failed


def main(name: str = "", *arguments: str) -> None:
    """Print one table, or write the page."""
    if name == "--page":
        page, *names = arguments or ("docs/benchmarks.md",)
        require_known(names)
        failed = write_page(Path(page), tuple(names) or NAMES)
        if failed:
            sys.exit(f"error: benchmarks failed: {', '.join(failed)}; {page} keeps their old sections")
    else:
        require_known([name])
        with command_line():
            show(table_of(name, *arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
