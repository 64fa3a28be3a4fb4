"""The command `python -m publish`: what it prints and pushes. Nothing is trained; the Hub is local."""

import json
from dataclasses import replace

import pytest

from axion.cli import run
from axion.recipe import load_recipe
from publish import pipeline
from publish.cli import app
from tests.publish.publications import BUNDLED, DRY, REPO_ID, WHOLE, contents


def test_the_command_prints_one_line_per_step(here, command, capsys):
    assert run(app, [*command, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == DRY


def test_the_json_summary_is_one_object(the_hub, command, capsys):
    assert run(app, [*command, "--json"]) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert [step["name"] for step in summary["steps"]] == WHOLE
    assert [line.split()[0] for line in printed.err.splitlines()] == WHOLE
    (released,) = summary["releases"]
    assert released["tag"] == released["revision"] == "v0.1" and released["url"] == f"{the_hub.url}/{REPO_ID}"
    assert 'revision = "someone/Axion-tiny", "v0.1"' in released["snippet"] and len(released["commit"]) == 40


def test_a_branch_is_pinned_by_its_commit(the_hub, command, capsys):
    assert run(app, [*command, "--branch", "trial", "--json"]) == 0
    (pushed,) = json.loads(capsys.readouterr().out)["releases"]
    assert pushed["revision"] == pushed["commit"] and pushed["url"].endswith("/tree/trial")


def test_the_other_forms_are_published_too(the_hub, command, capsys):
    for option in (["--exports"], ["--exports"], []):  # the card keeps naming what is published
        assert run(app, [*command, *option]) == 0
    capsys.readouterr()
    repos = the_hub.snapshot()["repos"]
    assert set(repos) == {f"models/{REPO_ID}{suffix}" for suffix in ("", "-native", "-GGUF")}
    for repo in repos.values():
        assert repo["refs"]["refs/tags/v0.1"] == repo["refs"]["refs/heads/main"]
        assert repo["refs"]["refs/heads/main"]["commits"] == 2
    original = the_hub.store.repos["models", REPO_ID]
    card = original.commits[original.refs["refs/tags/v0.1"]].tree["README.md"].data.decode()
    assert f"{REPO_ID}-GGUF" in card and f"{REPO_ID}-native" in card


def test_all_publishes_the_series(the_hub, command, capsys, monkeypatch, recipe_file, here):
    made = pipeline.series.Member("axion-tiny", "0.1", "Axion tiny", "Axion-tiny", True, 1, 1)
    planned = replace(made, name="axion1-v0.9", repo_name="Unmade")
    monkeypatch.setattr(pipeline.series, "walk", lambda: iter([made, planned]))
    monkeypatch.setattr(pipeline, "load_recipe", lambda version, overrides, own: load_recipe(recipe_file, overrides))
    steps_of = [part for part in command if part.startswith(("--set", "data."))]
    assert run(app, ["all", "--dry-run", "--user", "someone", *steps_of]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*DRY, "axion1-v0.9"] and "planned" in lines[-1]
    monkeypatch.setattr(pipeline.series, "walk", lambda: iter([made]))
    assert run(app, ["all", *steps_of]) == 0
    assert list(the_hub.snapshot()["repos"]) == [f"models/{REPO_ID}"]


@pytest.mark.skipif(not BUNDLED.is_dir(), reason="releases/axion1-v0.1 is not built")
def test_a_dry_run_of_the_whole_series_needs_no_hub_and_replaces_no_release(unbuilt, hub, capsys):
    before = contents(BUNDLED)
    assert run(app, ["all", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "planned" not in line] == DRY
    assert sum("planned" in line for line in lines) == len(list(pipeline.series.walk())) - 1
    assert hub.log == [] and contents(BUNDLED) == before


def test_a_job_gets_the_same_command_without_the_options_for_jobs(the_hub, command, capsys, monkeypatch):
    monkeypatch.setattr("publish.jobs.submit", lambda request: request)
    monkeypatch.setattr("publish.jobs.describe", lambda request: repr(request))
    assert run(app, [*command, "--on", "jobs", "--flavor=t4-small", "--timeout", "3h", "--private"]) == 0
    printed = capsys.readouterr().out
    assert repr((*command, "--private")) in printed and "flavor='t4-small', timeout='3h'" in printed
