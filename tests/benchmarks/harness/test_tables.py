import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.harness.machine import machine
from benchmarks.harness.tables import HEAD, Table, page_of, section, sections, show

SPEED = Table("images a second", ("loop", "fp32", "bf16"), (("ours", "10", "20"), ("a|b", "5", "")), "Ours is fast.")
COST = Table("what it costs", ("way", "s"), (("dvc", "1.0"),), "It costs little. # no heading")


def text(name: str, table: Table = SPEED, date: str = "2026-11-23", picture: str | None = None) -> str:
    return section(name, table, measured=date, picture=picture)


def test_a_section_has_its_date_table_words_and_picture() -> None:
    assert text("speed", picture="pictures/speed.png") == (
        "### speed: images a second\n\n*2026-11-23*\n\n"
        "| loop | fp32 | bf16 |\n|---|---:|---:|\n| ours | 10 | 20 |\n| a\\|b | 5 |  |\n\n"
        "Ours is fast.\n\n![speed](pictures/speed.png)\n"
    )


def test_a_page_is_read_as_it_was_written() -> None:
    texts = {
        ("CPU, 2 cores, no GPU", "speed"): text("speed"),
        ("CPU, 2 cores, no GPU", "cost"): text("cost", COST),
        ("H100: big", "speed"): text("speed", date="2026-11-24", picture="pictures/speed.png"),
    }
    page = page_of(texts)
    assert page.startswith(HEAD)
    assert list(sections(page).items()) == list(texts.items())
    assert page_of(sections(page)) == page


def test_sections_of_one_machine_stay_together() -> None:
    texts = {("a", "speed"): text("speed"), ("b", "speed"): text("speed"), ("a", "cost"): text("cost", COST)}
    assert list(sections(page_of(texts))) == [("a", "speed"), ("a", "cost"), ("b", "speed")]


def test_a_table_is_shown_with_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    show(SPEED)
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("images a second", "bf16", "ours", "Ours is fast."))


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that writes the page from tables that are given, in this process, and returns what failed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs/pictures").mkdir(parents=True)

    def written(**tables: Table | Exception) -> list[str]:
        def measured(_: object, name: str) -> Table:
            table = tables[name]
            if isinstance(table, Exception):
                raise table
            return table

        monkeypatch.setattr(benchmarks, "in_own_process", measured)
        return benchmarks.write_page(Path("docs/benchmarks.md"), tuple(tables))

    return written


def test_a_rewrite_replaces_this_machine_and_keeps_others(measure: Callable[..., list[str]]) -> None:
    page = Path("docs/benchmarks.md")
    page.write_text(page_of({("H100", "speed"): text("speed"), (machine(), "speed"): text("speed", date="1999-01-01")}))
    assert measure(speed=SPEED, cost=COST) == []
    texts = sections(page.read_text())
    assert list(texts) == [("H100", "speed"), (machine(), "speed"), (machine(), "cost")]
    assert texts["H100", "speed"] == text("speed")
    assert "1999" not in page.read_text()


def test_a_failure_loses_no_section(measure: Callable[..., list[str]]) -> None:
    assert measure(speed=SPEED) == []
    before = Path("docs/benchmarks.md").read_text()
    assert measure(speed=OSError("full"), cost=COST) == ["speed"]
    after = Path("docs/benchmarks.md").read_text()
    assert after.startswith(before)
    assert (machine(), "cost") in sections(after)


def test_only_the_machine_that_drew_a_picture_shows_it(measure: Callable[..., list[str]]) -> None:
    page, drawn = Path("docs/benchmarks.md"), Path("docs/pictures/speed.png")
    page.write_text(page_of({("H100", "speed"): text("speed", picture="pictures/speed.png")}))
    drawn.write_bytes(b"old")
    os.utime(drawn, (0, 0))
    measure(speed=SPEED)
    texts = sections(page.read_text())
    assert "![speed]" in texts["H100", "speed"]
    assert "![speed]" not in texts[machine(), "speed"]
    os.utime(drawn, (2**32, 2**32))
    measure(speed=SPEED)
    texts = sections(page.read_text())
    assert texts["H100", "speed"] == text("speed")
    assert "![speed](pictures/speed.png)" in texts[machine(), "speed"]


def test_each_benchmark_has_a_process_of_its_own_that_finds_its_module(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmarks.write_page(tmp_path / "page.md", ("harness",)) == ["harness"]
    assert "benchmarks.harness" in capsys.readouterr().err


def test_a_failed_benchmark_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "write_page", lambda page, names: [names[0]])
    with pytest.raises(SystemExit, match=r"startup.*x\.md"):
        benchmarks.main("--page", "x.md")


def test_an_unknown_benchmark_is_an_error_that_names_all() -> None:
    with pytest.raises(SystemExit, match=r"'warp'.*startup, overhead"):
        benchmarks.main("warp")
    with pytest.raises(SystemExit, match="'warp'"):
        benchmarks.main("--page", "page.md", "startup", "warp")
