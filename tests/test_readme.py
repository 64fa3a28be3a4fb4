"""The README's commands run, its options and links exist, and its counts match the model."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import typer
import yaml

from axion.cli import app, run
from axion.data.sources import SOURCES, Gsm8k
from axion.params import count_parameters
from axion.recipe import load_recipe
from axion.release import RELEASES
from benchmarks.report import replace_block
from publish.cli import app as publish_app
from publish.release.facts import NEWEST_TRANSFORMERS, OLDEST_TRANSFORMERS
from tests.support.servers import served
from tools import own_text
from tools.tables import results_block, teaching_block

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BUNDLED = RELEASES / "axion1-v0.1"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands(start):
    lines = [shlex.split(line, comments=True) for block in blocks("bash") for line in block.splitlines()]
    return [line[len(start.split()) :] for line in lines if " ".join(line).startswith(start)]


@pytest.fixture
def printed(capsys, monkeypatch):
    """Calls a function in the clone's folder and returns what it prints."""
    monkeypatch.chdir(ROOT)

    def call(function, *arguments):
        capsys.readouterr()
        assert not function(*arguments)
        return capsys.readouterr().out

    return call


@pytest.fixture
def bundled():
    if not (BUNDLED / "model.safetensors").is_file():
        pytest.skip("releases/axion1-v0.1 is not here yet")


def test_there_is_a_command_of_each_kind():
    assert {line[0] for line in commands("python -m axion")} == {
        "generate",
        "params",
        "eval",
        "compare",
        "reproduce",
        "data",
        "overfit",
        "train",
        "scale",
        "finetune",
        "chat",
        "export",
    }
    assert {line[0] for line in commands("python -m publish")} == {
        "axion1-v0.1",
        "runs/small-talk/recipe.yaml",
        "check",
        "refresh",
        "verify",
        "all",
        "page",
        "space",
    }


@pytest.mark.parametrize("line", commands("python -m axion") + commands("axion "), ids=" ".join)
def test_every_option_exists(line):
    command = typer.main.get_command(app).commands[line[0]]
    command.make_context(line[0], line[1:])  # only parses, and raises on unknown options


@pytest.mark.parametrize("line", commands("python -m publish"), ids=" ".join)
def test_every_option_of_publish_exists(line):
    known = typer.main.get_command(publish_app).commands
    name, arguments = (line[0], line[1:]) if line[0] in known else ("release", line)
    known[name].make_context(name, arguments)


def test_the_example_of_sources_is_a_recipe(tmp_path):
    (example,) = blocks("yaml")
    recipe = yaml.safe_load((ROOT / "configs" / "axion1-v0.1.yaml").read_text(encoding="utf-8"))
    recipe["data"].update(yaml.safe_load(example)["data"])
    file = tmp_path / "stories.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (line,) = (line for line in commands("python -m axion train") if line[0] == file.name)
    loaded = load_recipe(str(file), [value for option, value in pairwise(line) if option == "--set"])
    assert loaded.data.kinds == ["text", "gsm8k", "arithmetic"] and loaded.data.sources[0].files == ["other.txt"]
    for kind in SOURCES:
        assert f"`{kind}`" in README


def test_the_example_of_a_question_is_the_document_below_it(tmp_path):
    source = yaml.safe_load(blocks("yaml")[0])["data"]["sources"][1]
    (tmp_path / "questions.jsonl").write_text(blocks("json")[0], encoding="utf-8")
    (problem,) = Gsm8k(**source | {"files": str(tmp_path / "questions.jsonl")}).problems()
    assert f"{problem.document()}\n" in blocks("text")


def test_the_figures_on_ones_own_text_are_those_recorded():
    block = own_text.readme_block(json.loads(own_text.FILE.read_text(encoding="utf-8")))
    assert replace_block(README, "own-text", block) == README and block in README


def test_params_runs(printed):
    for line in commands("python -m axion params"):
        assert "344,224" in printed(run, app, ["params", *line])


def test_generate_runs(bundled, printed):
    for line in commands("python -m axion generate axion1-v0.1"):
        text = printed(run, app, ["generate", "axion1-v0.1", *line])
        assert text.strip() and ("experts that read the" in text) == ("--show-experts" in line)


@pytest.mark.slow
def test_the_python_examples_run(bundled, printed):
    client, example, _ = blocks("python")  # tests/export/test_native.py runs the third
    address = "http://127.0.0.1:7860"
    with served() as server:
        assert printed(exec, client.replace(address, server.address), {}).startswith("8 [[")
    assert address in client and address in README.replace(client, "")
    assert printed(exec, example, {}).strip() == "8"


def test_the_counts_match_the_model():
    counts = count_parameters(load_recipe("axion1-v0.1").build_config())
    said = re.search(r"has ([\d,]+) parameters, of which ([\d,]+) are active per token and ([\d,]+) are", README)
    assert [int(number.replace(",", "")) for number in said.groups()] == [counts.total, counts.active, counts.embedding]


def test_the_results_match_the_bundled_release(bundled):
    info = json.loads((BUNDLED / "release.json").read_text(encoding="utf-8"))
    assert replace_block(README, "results", results_block(info)) == README, "run: python -m tools.tables"


def test_what_teaching_came_to_is_what_was_measured():
    report = json.loads((ROOT / "docs" / "teaching.json").read_text(encoding="utf-8"))
    assert replace_block(README, "teaching", teaching_block(report)) == README, "run: python -m tools.tables"


def test_the_versions_of_transformers_are_those_that_releases_were_tested_with():
    said = re.search(r"tested with\s+transformers\s+([\d.]+)\s+to\s+([\d.]*\d)", README)
    assert said.groups() == (OLDEST_TRANSFORMERS, NEWEST_TRANSFORMERS)


def test_links_and_folders_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", README, flags=re.MULTILINE)
    assert len(rows) > 8
    for folders, text in rows:
        folders, named = (re.findall(r"`([\w./-]+)`", cell) for cell in (folders, text))
        assert [folder for folder in folders if not (ROOT / folder).exists()] == []
        places = [ROOT, *(ROOT / folder for folder in folders)]  # the text of a row may name files in its folder
        named = [name for name in named if "/" in name]
        assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_torch_is_pinned_as_the_readme_says():
    pin = re.search(r"^torch==\S+$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert f"pip install {pin[0]} --index-url" in README
