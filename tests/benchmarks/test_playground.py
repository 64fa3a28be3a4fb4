"""The page benchmark: its arithmetic, its tables in docs/, and that it can measure."""

import json

import pytest

from benchmarks.report import DOCS, Row, build_report, read_rows, replace_block, to_markdown

pytest.importorskip("playwright", reason="playwright is not installed")

from benchmarks import playground, visitors
from tests.support.servers import served


def test_a_row_meets_its_target_by_its_median():
    assert Row("a", (1.0, 30.0, 31.0), at_least=25).met is True
    assert Row("a", (1.0, 2.0, 31.0), at_least=25).met is False
    assert Row("a", (0.1, 0.2, 9.0), at_most=0.3).met is True
    assert Row("a", (0.1, 0.4, 9.0), at_most=0.3).met is False
    assert Row("a", (0.1,)).met is None


def test_the_table_shows_median_range_target_and_outcome():
    fast, slow = Row("fast", (26.04, 30.0, 28.0), "/s", at_least=25), Row("slow", (1.5,), "s", at_most=0.3)
    assert to_markdown([fast, slow, Row("other", (1234.0,))]).splitlines()[2:] == [
        "| fast | 28 /s | 26 to 30 | ≥ 25 | met |",
        "| slow | 1.5 s | 1.5 to 1.5 | ≤ 0.3 | **missed** |",
        "| other | 1,234 | 1,234 to 1,234 |  |  |",
    ]


def test_a_report_survives_json():
    rows = [Row("a", (1.0, 2.0), "s", at_most=3)]
    report = json.loads(json.dumps(build_report(rows, runs=2)))
    assert read_rows(report) == rows
    assert report["machine"]["processor"] and report["libraries"]["gradio"] and report["runs"] == 2


def test_only_the_text_between_the_markers_is_replaced():
    text = "a\n<!-- x:start -->\nold\n<!-- x:end -->\n<!-- y:start -->\nkept\n<!-- y:end -->\n"
    assert replace_block(text, "x", "new\n") == text.replace("old", "new")


@pytest.mark.parametrize("benchmark", [playground, visitors])
def test_the_docs_have_the_measured_tables(benchmark):
    report = json.loads((DOCS / f"{benchmark.__name__.split('.')[-1]}.json").read_text(encoding="utf-8"))
    assert benchmark.docs_block(report) in (DOCS / "playground.md").read_text(encoding="utf-8")
    assert len(read_rows(report)) >= 5


@pytest.mark.browser
@pytest.mark.slow
def test_stopping_is_measured(browser):
    stopped, closed, busy = playground.measure_stopping(browser, 1)
    assert 0 < stopped[0] < 10 and 0 < closed[0] < 10
    assert len(busy) == 2


@pytest.mark.browser
@pytest.mark.slow
def test_streaming_is_measured_against_two_textboxes(browser):
    streamed = playground.measure_streaming(browser, 1, "--speed", "500")
    assert set(streamed) == {"playground", "textbox", "textbox-each"}
    for [run] in streamed.values():
        assert 1 < run.updates_per_second < 130
        assert 20 < run.tokens_per_second < 500  # no more than were sent
        assert -0.1 < run.lag_seconds < 30
    rows = {row.name: row for row in playground.streaming_rows(streamed, "here")}
    speeds = [streamed[name][0].tokens_per_second for name in ("playground", "textbox")]
    assert rows["page ÷ Textbox updated as often, here"].values == (speeds[0] / speeds[1],)


@pytest.mark.browser
@pytest.mark.slow
def test_opening_the_page_is_measured(browser):
    with served() as server:
        [opened] = playground.measure_opening(browser, server.address, playground.CELL, 1)
    assert 0.05 < opened.seconds < 60
    assert opened.transferred > 50_000  # the cache was empty
