"""What the page offers to ask: problems, or for a model of text openings that it has not read."""

import json
import shutil

import pytest

from axion.release import open_release
from playground.content.metrics import read_curves
from playground.content.training import list_facts
from playground.generate.catalogue import Catalogue
from playground.generate.chat import answer_prompt
from playground.generate.presets import PROBLEMS, QUESTIONS, comparison_prompt, first_prompt, presets
from playground.generate.rate_limits import RateLimiter
from playground.server.page import build_page
from playground.server.tabs.api import read_controls
from playground.server.tabs.chat import model_text
from tests.support.measured import make_chatty

OPENINGS = ["The Fox\n\nOnce upon a time there was a fox who lived in the", "A crow"]


@pytest.fixture(scope="module")
def models(tiny_release, tmp_path_factory):
    """A folder with three models: `problems`, `tales`, which was trained on text, and `chatty`."""
    root = tmp_path_factory.mktemp("presets")
    for name in ("problems", "tales"):
        shutil.copytree(tiny_release, root / name)
    make_chatty(tiny_release, root / "chatty")
    source = {"kind": "text", "local_files": [{"name": "grimm.txt", "sha256": "0" * 64}]}
    data = {"sources": [source], "train": {"tokens": 5, "by_source": {"text": {"tokens": 5_000}}}}
    (root / "tales" / "release.json").write_text(json.dumps({"openings": OPENINGS, "data": data}), encoding="utf-8")
    return root


@pytest.fixture
def tales(models):
    return Catalogue([str(models / "tales")]).open("tales")


def test_openings_in_place_of_problems(models, tales):
    problems = open_release(models / "problems")
    assert presets(problems) == presets(None) == PROBLEMS and first_prompt(problems) in PROBLEMS.values()
    assert presets(tales.release) == {"The Fox Once upon a time there wa…": OPENINGS[0], "A crow": "A crow"}
    assert first_prompt(tales.release) == comparison_prompt(tales.release) == OPENINGS[0]
    assert read_controls(tales, "", {}).prompt == OPENINGS[0]


def test_what_is_said_to_a_model_of_text_is_continued_as_it_is(models, tales):
    said = [{"role": "user", "content": "47 + 38"}]
    assert answer_prompt(tales, said) == "47 + 38"
    assert json.loads(model_text(tales))["starters"] == OPENINGS
    problems = Catalogue([str(models / "problems")]).open("problems")
    assert (
        answer_prompt(problems, said).startswith("# Pergunta:") and json.loads(model_text(problems))["starters"] == []
    )


def test_a_chat_model_is_asked_questions_in_its_own_form(models):
    chatty = Catalogue([str(models / "chatty")]).open("chatty")
    asked = presets(chatty.release)
    assert list(asked) == list(QUESTIONS) == json.loads(model_text(chatty))["starters"]
    assert asked["Quem é você?"] == "<|user|>Quem é você?<|end|><|assistant|>"
    assert first_prompt(chatty.release) == comparison_prompt(chatty.release) == asked[QUESTIONS[0]]


@pytest.mark.parametrize(("language", "text"), [("en", "text of grimm.txt: 5"), ("pt", "texto de grimm.txt: ")])
def test_the_page_says_what_text_it_was(tales, language, text):
    (data,) = [fact for fact in list_facts(tales, language) if text in f"{fact[1]} {fact[2]}"]
    assert data


@pytest.mark.parametrize(
    ("name", "first", "shown"),
    [("problems", "Quanto é 5 + 3?", 4), ("tales", "The Fox Once", 2), ("chatty", "What is your name?", 4)],
)
def test_the_buttons_are_those_of_the_model(models, name, first, shown):
    page = build_page(Catalogue([str(models / name)]), RateLimiter()).blocks
    buttons = [block for block in page.blocks.values() if type(block).__name__ == "Button"]
    form = [button.visible for button in buttons if str(button.elem_id).endswith("as-problem")]
    assert form == [name == "problems"] * 2
    named = [button for button in buttons if str(button.value).startswith(first)]
    assert len(named) == 2 and all(button.visible for button in named)
    examples = [button for button in buttons if button.elem_id is None and button.min_width == 40 and button.visible]
    assert len(examples) == 2 * shown
    prompts = [block.value for block in page.blocks.values() if block.elem_id in ("prompt", "compare-prompt")]
    assert all(("Pergunta" in prompt) == (name == "problems") for prompt in prompts) and len(prompts) == 2
    labels = [block.value for block in page.blocks.values() if getattr(block, "label", None) == "Temperature"]
    assert labels == [0.8 if name == "tales" else 0.0] * 2 + [0.0, 0.8]  # those of the comparison stay


@pytest.mark.parametrize("openings", [None, "text", [7, ""], [["x"]], {"0": "x"}, ["x" * 501]])
def test_malformed_openings_are_none(models, tmp_path, openings):
    folder = shutil.copytree(models / "problems", tmp_path / "odd")
    (folder / "release.json").write_text(json.dumps({"openings": openings}), encoding="utf-8")
    assert open_release(folder).openings == []


def test_a_run_has_the_openings_that_it_recorded(models, tmp_path):
    folder = shutil.copytree(models / "problems", tmp_path / "run" / "final")
    (tmp_path / "run" / "run.json").write_text(json.dumps({"openings": OPENINGS}), encoding="utf-8")
    assert open_release(folder).openings == OPENINGS


def test_the_page_shows_the_curves_and_the_facts_of_a_run(models, tmp_path):
    shutil.copytree(models / "problems", tmp_path / "run" / "final")
    (tmp_path / "run" / "metrics.csv").write_text("step,tokens,train_loss,val_loss\n1,10,5.5,\n2,20,4.5,4.4\n")
    described = {
        "finished": True,
        "tokens": 1234,
        "seconds": 60.0,
        "recipe": "training: {epochs: 3}\nseed: 7\n",
        "seed": 7,
    }
    (tmp_path / "run" / "run.json").write_text(json.dumps(described), encoding="utf-8")
    run = Catalogue([str(tmp_path / "run" / "final")]).open("run")
    curves = read_curves(run.release.metrics_file)
    assert curves is not None and curves.validation_loss == ((20.0, 4.4),)
    values = [fact[1] for fact in list_facts(run, "en")]
    assert values[0] == "1,234" and "7" in values
    (tmp_path / "run" / "run.json").write_text(json.dumps(described | {"finished": False}), encoding="utf-8")
    assert list_facts(Catalogue([str(tmp_path / "run" / "final")]).open("run"), "en") == []
