"""The essays in docs/ are what their templates give with the saved figures, and the diary's entries can be written."""

import json
import re

import pytest

from axion.files import write_json
from benchmarks import quality
from benchmarks.report import DOCS
from tests.benchmarks.test_quality import result
from tools import essays, log
from tools.essays import ESSAYS, class_of, render


@pytest.mark.parametrize("name", [name for name in ESSAYS if (DOCS / f"{name}.md").exists()])
def test_an_essay_is_what_its_figures_say(name):
    assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == render(name, ESSAYS[name].figures()), (
        f"run python -m tools.essays {name}"
    )
    assert (DOCS / f"{name}.png").stat().st_size < 200_000


def test_tokens_are_sorted_into_kinds():
    assert [
        class_of(token) for token in ("7", " 12", "+", " =", "\n", ":\n", " the", "The", "ing", "<eos>", " (", " ")
    ] == [
        *("digits", "digits", "operators", "operators", "line breaks", "line breaks"),
        *("words", "words", "pieces of words", "other", "other", "other"),
    ]


def test_links_and_pictures_of_the_essays_exist():
    for name in ("log", "quality", *ESSAYS):
        if (page := DOCS / f"{name}.md").exists():
            links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
            assert [link for link in links if not (DOCS / link).exists()] == [], name


def test_the_essay_on_the_mixture_says_what_is_clear(tmp_path, monkeypatch):
    losses = {"v0.1": 3.0, "dense-active": 3.1, "dense-total": 2.95, "balance-none": 3.0}
    runs = [
        result(*quality.VARIATIONS[name].overrides, loss=loss + 0.01 * (seed % 2), seed=seed)
        for name, loss in losses.items()
        for seed in (1, 2, 3)
    ]
    monkeypatch.setattr(quality, "RESULTS", tmp_path / "quality.json")
    write_json(quality.RESULTS, {"runs": {str(number): run for number, run in enumerate(runs)}})
    figures = ESSAYS["mixture"].figures()
    text = render("mixture", figures)
    assert "The loss of the dense twin is clearly higher by 0.100 nats after the same tokens." in text
    assert "The loss of the dense twin is clearly lower by 0.050 nats after the same tokens." in text
    assert "`balance-none`: none" in text and "3 seeds" in text
    ESSAYS["mixture"].draw(figures, tmp_path / "mixture.png")
    write_json(quality.RESULTS, {"runs": {"0": runs[0]}})
    with pytest.raises(FileNotFoundError, match="three seeds of dense-active and dense-total"):
        ESSAYS["mixture"].figures()


def test_an_essay_without_its_runs_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(essays, "DOCS", tmp_path)
    assert essays.main(["size"]) == 1 and not list(tmp_path.iterdir())
    assert "size: left out, since it needs" in capsys.readouterr().err


@pytest.mark.parametrize("name", log.ENTRIES)
def test_every_entry_of_the_diary_can_be_written(name, tmp_path, monkeypatch):
    page = tmp_path / "log.md"
    page.write_text(f"# Diary\n\n{log.MARKER}\n## earlier\n", encoding="utf-8")
    monkeypatch.setattr(log, "LOG", page)
    assert log.main([name]) == 0
    text = page.read_text(encoding="utf-8")
    assert re.search(rf"{log.MARKER}\n## \d{{4}}-\d\d-\d\d: \w.*\n\n.+\n\n## earlier\n$", text, re.DOTALL)
    assert "nan" not in text.lower().split()


def test_the_diary_names_what_does_not_work():
    title, text = log.release_entry()
    info = json.loads((log.RELEASE / "release.json").read_text(encoding="utf-8"))
    score = info["results"]["arithmetic_reasoning"]["scores"][0]
    assert title.startswith("axion1-v0.1") and f"{100 * score['accuracy']:.1f}% (1 digit, pt)" in text
