"""A benchmark's table, on the terminal and as a section of the page that keeps the tables of all machines."""

import importlib
import re
import sys
from dataclasses import dataclass

from rich import table as terminal
from rich.console import Console

HEAD = """# Benchmarks

`make bench` measures and rewrites what was measured before on the same machine; `python -m benchmarks NAME` prints one
table. Sections of other machines stay. Times of two ways are taken in turns, and ratios are medians within a round.
"""
WIDTH = 160
"""Columns of a log."""
HEADING = re.compile(r"^(## .*|### [a-z_]+: .*)$", re.MULTILINE)
Sections = dict[tuple[str, str], str]
"""The text of the page by machine and benchmark, from the benchmark's heading on."""


@dataclass(frozen=True)
class Table:
    """The result of a benchmark: rows of cells, the first of which is the row's name, and how they were measured."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: str


def table_of(name: str, *arguments: str) -> Table:
    """Return the table of the benchmark in `benchmarks/NAME.py`, measured now."""
    table: Table = importlib.import_module(f"benchmarks.{name}").table(*arguments)
    return table


def show(table: Table) -> None:
    """Print a table and its words."""
    shown = terminal.Table(title=table.title)
    for index, column in enumerate(table.columns):
        shown.add_column(column, justify="right" if index else "left")
    for row in table.rows:
        shown.add_row(*row)
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDTH)
    console.print(shown)
    console.print(table.words)


def section(name: str, table: Table, *, measured: str, picture: str | None = None) -> str:
    """Return a benchmark's section in Markdown.

    Args:
        name: the benchmark.
        table: its result.
        measured: date and versions.
        picture: path of its plot, relative to the page; None if it draws none.

    Returns:
        Heading, date, table, words and picture.
    """
    rules = ("---", *("---:" for _ in table.columns[1:]))
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in (table.columns, *table.rows)]
    lines.insert(1, "|" + "|".join(rules) + "|")
    parts = [f"### {name}: {table.title}", f"*{measured}*", "\n".join(lines), table.words]
    return "\n\n".join([*parts, f"![{name}]({picture})"] if picture else parts) + "\n"


def sections(page: str) -> Sections:
    """Return the sections of a page that `page_of` wrote."""
    texts, machine = Sections(), ""
    parts = HEADING.split(page)[1:]
    for heading, text in zip(parts[::2], parts[1::2], strict=True):
        if heading.startswith("## "):
            machine = heading.removeprefix("## ")
        else:
            texts[machine, heading[4:].split(":")[0]] = heading + text.rstrip() + "\n"
    return texts


def page_of(texts: Sections) -> str:
    """Return the page with all sections, machine by machine."""
    machines = dict.fromkeys(machine for machine, _ in texts)
    parts = [HEAD]
    for machine in machines:
        parts += [f"## {machine}\n", *(text for (place, _), text in texts.items() if place == machine)]
    return "\n".join(parts)
