"""A finished run is published under another title, licence or language without being trained again."""

import json
import shutil

import pytest
import yaml

from axion.recipe import OwnText, load_recipe
from publish import pipeline
from publish.manifest import HELD_OUT, files_in
from publish.release.facts import presentation
from tests.publish.publications import SYNTHETIC, run_steps

RENAMED = ("title=Another title", "license=apache-2.0", "languages=[pt]")


def test_the_release_is_presented_as_the_recipe_says_now(here, request_for, monkeypatch):
    monkeypatch.setattr(pipeline, "train", None)  # calling it would fail
    shutil.rmtree(here / "releases")
    request = request_for(skip_train=False, overrides=(*SYNTHETIC, *RENAMED))
    said = run_steps(request)
    assert "is finished" in said["train"] and "title, license, languages as the recipe says now" in said["build"]
    folder = here / "releases" / "axion-tiny"
    info, recipe = json.loads((folder / "release.json").read_text()), load_recipe(folder / "recipe.yaml")
    card = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])
    for found in (info, recipe.model_dump()):
        assert [found[key] for key in ("title", "license", "languages")] == ["Another title", "apache-2.0", ["pt"]]
    assert (card["license"], card["language"]) == ("apache-2.0", ["pt"])
    assert "up to date" in run_steps(request)["build"]
    assert "up to date" not in run_steps(request_for())["build"]  # as the run says again


def test_languages_that_are_left_out_are_those_of_the_run(recipe_file):
    recipe = load_recipe(recipe_file, ["languages=[]"])
    assert "languages" not in presentation(recipe) and presentation(recipe)["title"] == "Axion tiny"


@pytest.fixture
def tales(tmp_path, recipe_file):
    """Makes the recipe of a text with these options --language."""
    (tmp_path / "tales.txt").write_text("Once there was a fox.")
    return lambda *languages: load_recipe(recipe_file, [], OwnText([str(tmp_path / "tales.txt")], "tales", languages))


def test_a_language_is_no_reason_to_train_again(tales, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content | {"recipe": tales().to_yaml()}))
    assert pipeline._changed(run, tales("en")) == [] == pipeline._changed(run, tales("en", "pt"))
    assert pipeline.changed_since(run, tales("en")) == ["data.sources.0.language"]


def test_held_out_documents_are_released_unless_they_may_be_private(here, request_for):
    shutil.rmtree(here / "releases")
    results = here / "runs" / "axion-tiny" / "evaluation.json"
    texts = [{"text": "2 + 2", "source": "arithmetic"}]
    results.write_text(json.dumps(json.loads(results.read_text()) | {"held_out": texts}))
    assert f"{HELD_OUT} shows 1 held-out documents of arithmetic" in run_steps(request_for())["build"]
    folder = here / "releases" / "axion-tiny"
    assert [json.loads(line) for line in (folder / HELD_OUT).read_text().splitlines()] == texts
    assert HELD_OUT in json.loads((folder / "release.json").read_text())["files"]
    without = request_for(overrides=(*SYNTHETIC, "release_heldout=false"))
    assert (
        f"no held-out documents of arithmetic; --set release_heldout=true adds {HELD_OUT}"
        in (run_steps(without)["build"])
    )
    assert HELD_OUT not in files_in(here / "runs" / "axion-tiny" / "release")
