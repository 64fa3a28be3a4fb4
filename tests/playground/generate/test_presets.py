"""What the page offers to ask: problems, or for a model of text openings that it has not read."""

import json
import shutil

import pytest

from axion.release import open_release
from playground.content.metrics import read_curves
from playground.content.training import list_facts
from playground.generate.catalogue import Catalogue
from playground.generate.chat import answer_prompt
from playground.generate.presets import QUESTIONS, STEP_BY_STEP, comparison_prompt, first_prompt, in_language, presets
from playground.generate.rate_limits import RateLimiter
from playground.generate.request import read_typed
from playground.locales import LANGUAGES
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
    assert presets(problems, "en") == presets(None, "en") and first_prompt(problems, "pt") == ("Quanto é 5 + 3?", False)
    for language in LANGUAGES:
        assert presets(tales.release, language) == {
            "The Fox Once upon a time there wa…": OPENINGS[0],
            "A crow": "A crow",
        }
        assert (
            first_prompt(tales.release, language) == comparison_prompt(tales.release, language) == (OPENINGS[0], True)
        )
    assert read_controls(tales, "", {}).prompt == OPENINGS[0]
    assert read_typed(tales, "5+3", False, "en") == ("5+3", None)


def test_every_language_has_presets_of_its_own(models):
    """English visitors see no Portuguese, and the model reads the same form."""
    model = Catalogue([str(models / "problems")]).open("problems")
    english, portuguese = (presets(model.release, language) for language in LANGUAGES)
    assert len(english) == len(portuguese) == 4 and not {*english.values()} & {*portuguese.values()}
    assert not any("Pergunta" in typed or "Quanto" in typed for typed in english.values())
    for offered, language in ((english, "en"), (portuguese, "pt")):
        reads = read_typed(model, offered[STEP_BY_STEP[language]], False, language)[0]
        assert reads.startswith("# Pergunta:\n") and reads.endswith("\n--\n# Raciocínio:\n")
        assert comparison_prompt(model.release, language).text == offered[STEP_BY_STEP[language]]
    typed = list(english.values())
    recorded = {"en": "Tom?", "pt": "Ana?"}
    assert [in_language(model.release, each, "pt", recorded) for each in typed] == list(portuguese.values())
    assert in_language(model.release, "Tom?", "pt", recorded) == "Ana?"
    assert (
        in_language(model.release, "Tom?", "en", recorded) is in_language(model.release, "5+7", "pt", recorded) is None
    )


def test_what_is_said_to_a_model_of_text_is_continued_as_it_is(models, tales):
    said = [{"role": "user", "content": "47 + 38"}]
    assert answer_prompt(tales, said) == "47 + 38"
    assert json.loads(model_text(tales))["starters"] == dict.fromkeys(LANGUAGES, OPENINGS)
    problems = Catalogue([str(models / "problems")]).open("problems")
    assert answer_prompt(problems, said).startswith("# Pergunta:")
    assert json.loads(model_text(problems))["starters"] == {language: [] for language in LANGUAGES}


def test_a_chat_model_is_asked_questions_in_its_own_form(models):
    chatty = Catalogue([str(models / "chatty")]).open("chatty")
    for language in LANGUAGES:
        asked = presets(chatty.release, language)
        assert list(asked) == list(QUESTIONS[language]) == json.loads(model_text(chatty))["starters"][language]
        first = first_prompt(chatty.release, language)
        assert first == comparison_prompt(chatty.release, language) == (QUESTIONS[language][0], False)
    asked = "<|user|>Quem é você?<|end|><|assistant|>"
    assert read_typed(chatty, "Quem é você?", False, "pt") == (asked, "Quem é você?")
    assert read_typed(chatty, asked, False, "pt") == (asked, None), "the form itself is left alone"


@pytest.mark.parametrize(("language", "text"), [("en", "text of grimm.txt: 5"), ("pt", "texto de grimm.txt: ")])
def test_the_page_says_what_text_it_was(tales, language, text):
    (data,) = [fact for fact in list_facts(tales, language) if text in f"{fact[1]} {fact[2]}"]
    assert data


@pytest.mark.parametrize(
    ("name", "first", "shown"),
    [("problems", "What is 5 + 3?", 4), ("tales", "The Fox Once", 2), ("chatty", "What is your name?", 4)],
)
def test_the_buttons_are_those_of_the_model(models, name, first, shown):
    page = build_page(Catalogue([str(models / name)]), RateLimiter()).blocks
    buttons = [block for block in page.blocks.values() if type(block).__name__ == "Button"]
    raw = [block for block in page.blocks.values() if block.elem_id in ("raw", "compare-raw")]
    assert [(switch.value, switch.interactive) for switch in raw] == [(name == "tales", name != "tales")] * 2
    named = [button for button in buttons if str(button.value).startswith(first)]
    assert len(named) == 2 and all(button.visible for button in named)
    examples = [button for button in buttons if button.elem_id is None and button.min_width == 40 and button.visible]
    assert len(examples) == 2 * shown
    prompts = [block.value for block in page.blocks.values() if block.elem_id in ("prompt", "compare-prompt")]
    assert len(prompts) == 2 and prompts[0].startswith(first.removesuffix("…")[:7])
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
