"""The release of a model of text: its card, its examples and its trace show text, and no sums."""

import json
import re
import shutil
from copy import deepcopy

import pytest

from axion.errors import AxionError
from axion.evaluation import evaluate as evaluation
from axion.evaluation.evaluate import evaluate
from axion.recipe import OwnText, load_recipe
from axion.release import Release, open_release
from publish.check.lint import lint
from publish.manifest import HELD_OUT, PLAIN_TOKENIZER, files_in
from publish.markdown import python_snippets
from publish.release import exports
from publish.release.build import Ingredients, build_release
from publish.release.card import python_of_card, render_card
from publish.release.heldout import describe
from publish.release.measure import TEXT_SAMPLES, measure, write_samples
from tests.publish.conftest import MEASURED, RUN, counts

OPENINGS = [
    "The Fox\n\nOnce upon a time there was a fox who said, “It's a lie”",
    "A crow had \\ and ``` in its",
    "It rained",
]
STORIES = [f"Story {n}.\n\nOnce there was a fox with {n} tails, and it sang." for n in range(60)]


@pytest.fixture(scope="module")
def text_run(finished_run, recipe_file, tmp_path_factory):
    """A finished run of a model of text, with random weights."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "tales.txt").write_text("<|endoftext|>".join(STORIES), encoding="utf-8")
    run = shutil.copytree(finished_run, folder / "runs" / "tales")
    recipe = load_recipe(recipe_file, [], OwnText([str(folder / "tales.txt")], "tales", ["en"]))
    data = RUN["data"] | {
        "sources": recipe.data.released()["sources"],
        "files": recipe.data.sources[0].released()["local_files"],
        "train": counts(60) | {"by_source": {"text": counts(60)}},
        "validation": counts(3) | {"by_source": {"text": counts(3)}},
    }
    described = {"name": "tales", "recipe": recipe.to_yaml(), "data": data, "openings": OPENINGS}
    (run / "run.json").write_text(json.dumps(RUN | described), encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def measured(text_run):
    results = {name: deepcopy(MEASURED["results"][name]) for name in ("validation", "expert_load", "speed")}
    results["validation"] |= {"data": "tales.txt", "dataset": None}
    del results["expert_load"]["arithmetic"]
    samples = write_samples(Release("tales", text_run / "final"))
    return MEASURED | {"results": results, "samples": samples, "test_files": []}


@pytest.fixture(scope="module")
def release(text_run, measured, tmp_path_factory):
    folder = tmp_path_factory.mktemp("releases") / "tales"
    build_release(Ingredients(text_run, measured, "someone/tales"), folder)
    return folder


def test_the_card_says_what_the_model_read(release):
    card = (release / "README.md").read_text(encoding="utf-8")
    assert "It **is** a model of the text of tales.txt" in card and "| text of tales.txt | 60 |" in card
    assert "tales.txt, held-out documents: bits per byte" in card and "com o texto de tales.txt" in card
    assert "language:\n- en" in card and "datasets:" not in card
    for word in (
        "GSM8K",
        "# Pergunta",
        "sum or a difference",
        "Operand pairs",
        "worked",
        "# Resposta",
        "axion:start asking",
    ):
        assert word not in card, word
    assert lint(release) == []


def test_its_examples_are_openings_of_held_out_text(release):
    card = (release / "README.md").read_text(encoding="utf-8")
    assert f"prompt = {json.dumps(OPENINGS[0], ensure_ascii=False)}" in card
    namespace = {}
    exec(re.search(r"^prompt = .*$", card, re.M)[0], namespace)
    assert namespace["prompt"] == OPENINGS[0]
    info = json.loads((release / "release.json").read_text(encoding="utf-8"))
    assert set(python_snippets(card)) == set(python_of_card(info, "someone/tales"))
    assert [sample["prompt"] for sample in info["samples"]] == OPENINGS[:TEXT_SAMPLES]
    assert "sampled with temperature 0.8, top-p 0.95 and seed 1" in card
    assert f"\n````text\n{OPENINGS[1]}" in card  # a longer fence than the text has
    trace = json.loads((release / "trace.json").read_text(encoding="utf-8"))
    assert trace["prompt"] == OPENINGS[0] and trace["sampling"]["temperature"] == 0.8
    assert open_release(release).openings == OPENINGS == open_release(release.parent / "tales").openings


def test_a_prompt_in_a_shell_command_is_quoted(release):
    info = json.loads((release / "release.json").read_text(encoding="utf-8"))
    card = render_card(info | {"exports": ["gguf", "native"]})
    assert "-p $'The Fox\\n\\nOnce upon a time there was a fox who said, “It\\'s a lie”'" in card
    for built in ("native", "gguf"):
        facts = exports._facts(info, open_release(release), release, built, "someone/tales")
        facts["sizes"] = dict.fromkeys((f"tales-{dtype}.gguf" for dtype in exports.DTYPES), 1)
        text = exports.render_card(facts)
        assert "The Fox\\n" in text and "Pergunta" not in text and "how-to-ask" not in text


def test_the_literal_of_a_prompt_runs_nothing(release):
    info = json.loads((release / "release.json").read_text(encoding="utf-8"))
    hostile = '"\nimport os; os.abort()\n"""\n```\n{{ 7 * 7 }}'
    for snippet in python_of_card(info | {"openings": [hostile]}, "someone/tales"):
        compile(snippet, "card", "exec")
        assert "\nimport os; os.abort()" not in snippet and "49" not in snippet


def test_tasks_for_problems_are_left_out(text_run, release):
    recipe = load_recipe(text_run / "recipe.yaml") if (text_run / "recipe.yaml").is_file() else None
    data = (recipe or load_recipe(release / "recipe.yaml")).data
    results = evaluate(open_release(release), data, known={"speed": {}})
    assert set(results) == {"validation", "expert_load", "experts", "speed"}
    assert "was read from tales.txt; give --set data.sources.text.files=FILE" in results["validation"]["skipped"]
    with pytest.raises(AxionError, match="the model was not trained on problems"):
        evaluate(open_release(release), data, tasks=["arithmetic"])


def test_a_release_needs_the_text_it_was_trained_on(text_run, tmp_path, monkeypatch):
    run, own = shutil.copytree(text_run, tmp_path / "run"), text_run.parent.parent / "tales.txt"
    monkeypatch.setattr(evaluation, "TASKS", {name: evaluation.TASKS[name] for name in ("validation", "expert_load")})
    recipe = load_recipe(release_recipe(run))
    with pytest.raises(AxionError, match=r"a release needs the held-out text: .*was read from tales\.txt"):
        measure(run, recipe, [].append)
    (tmp_path / "tales.txt").write_text("Another text.")
    with pytest.raises(AxionError, match=r"tales\.txt is not what the model was trained on: that was tales\.txt with"):
        measure(run, load_recipe(release_recipe(run), [f"data.sources.text.files={tmp_path / 'tales.txt'}"]), [].append)
    measured = measure(run, load_recipe(release_recipe(run), [f"data.sources.text.files={own}"]), [].append)
    held_out = [each["text"] for each in measured["held_out"]]
    assert len(held_out) == measured["results"]["validation"]["documents"] > 0 and set(held_out) < set(STORIES)
    assert measured["results"]["validation"]["data"] == "tales.txt" and set(measured["results"]["expert_load"]) == {
        *("together", "validation", "command")
    }
    name, option = measured["results"]["validation"]["command"].split()[4], "--set data.sources.text.files=tales.txt"
    for task in ("validation", "expert_load"):
        assert measured["results"][task]["command"] == f"python -m axion eval {name} {option} --tasks {task}"


def release_recipe(run):
    (path := run / "recipe.yaml").write_text(json.loads((run / "run.json").read_text())["recipe"])
    return path


def test_documents_of_local_files_are_released_only_on_request(text_run, measured, release, tmp_path):
    assert not (release / HELD_OUT).exists()
    assert "were read from local files and are not part of this release" in (release / "README.md").read_text()
    texts = [{"text": f"{STORIES[0]} in /home/fox/den", "source": "text"}]  # no path of this machine
    chosen = {"release_heldout": True}
    folder = tmp_path / "tales"
    build_release(Ingredients(text_run, measured | {"held_out": texts}, "someone/tales", chosen), folder)
    assert [json.loads(line) for line in (folder / HELD_OUT).read_text().splitlines()] == texts
    assert "[heldout.jsonl](heldout.jsonl) has 1 of the held-out" in (folder / "README.md").read_text()
    assert lint(folder) == []
    recipe = load_recipe(folder / "recipe.yaml")
    assert recipe.release_heldout and "shows 1 held-out documents of tales.txt; --set" in describe(recipe, texts)
    private = describe(load_recipe(release / "recipe.yaml"), texts)
    assert "no held-out documents of tales.txt, which are read from local files; --set release_heldout=true" in private


def test_a_release_with_a_tokenizer_of_others_has_no_plain_one(text_run, measured, tmp_path):
    from tokenizers import Tokenizer

    run = shutil.copytree(text_run, tmp_path / "runs" / "tales")
    content = json.loads((run / "final" / "tokenizer.json").read_text(encoding="utf-8"))
    content["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    Tokenizer.from_str(json.dumps(content)).save(str(run / "final" / "tokenizer.json"))
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    info["recipe"] = info["recipe"].replace("vocab_size: 320", "kind: hub\n  id: someone/model\n  revision: abc")
    (run / "run.json").write_text(json.dumps(info), encoding="utf-8")
    build_release(Ingredients(run, measured, "someone/tales"), folder := tmp_path / "tales")
    assert not set(files_in(folder)) & set(PLAIN_TOKENIZER) and lint(folder) == []
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "Tokenizer: that of someone/model at commit `abc`, with 320 entries." in card and "BPETokenizer" not in card
