"""The benchmark of preparation: its text, what it watches, its table. No speed is asserted."""

import sys

import pytest

from benchmarks import data
from benchmarks.data import block, read_stories, variations, watch
from benchmarks.report import DOCS, Row, build_report


def test_the_text_is_many_variations_of_the_stories(tmp_path):
    (tmp_path / "a.txt").write_text(f"Tom ran. He fell.\n{data.SEPARATOR}\nLily sat. It rained.", encoding="utf-8")
    (tmp_path / "b.txt").write_text("\n\n".join(["Long paragraph. " * 50] * 5), encoding="utf-8")
    stories = read_stories([tmp_path / "a.txt", tmp_path / "b.txt"])
    assert stories[:2] == ["Tom ran. He fell.", "Lily sat. It rained."] and len(stories) == 4
    text = list(variations(stories[:2], 20_000))
    assert 20_000 <= len("".join(text)) < 20_200 and len(set(text)) == len(text)
    assert text == list(variations(stories[:2], 20_000)) and all(data.SEPARATOR in each for each in text)


def test_a_command_is_watched(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "POLL_SECONDS", 0.01)
    code = "import pathlib, sys, time; time.sleep(.1); pathlib.Path(sys.argv[1]).write_text('a\\nb\\n'); time.sleep(.1)"
    watched = watch([sys.executable, "-c", code, str(tmp_path / "file")], until=tmp_path / "file")
    assert watched.seconds >= 0.1 and 2 < watched.peak_mb < 100
    with pytest.raises(SystemExit, match="nothing works"):
        watch([sys.executable, "-c", "raise SystemExit('nothing works')"])


def test_the_page_has_a_place_for_the_table():
    report = build_report([Row("preparation", (200.0,), "s", at_most=240)], megabytes=2000, documents=10**6)
    assert "| preparation | 200 s |" in block(report) and "2,000 MB of text" in block(report)
    page = (DOCS / "data.md").read_text(encoding="utf-8")
    assert "<!-- data:start -->\n" in page and "<!-- data:end -->" in page
