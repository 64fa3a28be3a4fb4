"""The evaluation tasks: what they measure, and what they report when data is missing."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace
from typing import get_type_hints

import numpy as np
import pytest
import torch

from axion.cli.releases import evaluate as cli_evaluate
from axion.data.format import ANSWER, Problem, prompt
from axion.data.holdout import is_held_out, is_reserved
from axion.data.recipe import DataRecipe
from axion.data.sources import Arithmetic, Gsm8k, Text, WordProblems
from axion.data.sources.events import events_tests
from axion.data.sources.one_step_stories import stories_tests
from axion.data.sources.phrasings import phrasings_tests
from axion.data.templates import Template
from axion.errors import AxionError
from axion.evaluation import answers, prose, questions, speed, subject
from axion.evaluation import loops as loops_module
from axion.evaluation.answers import complete, score
from axion.evaluation.evaluate import evaluate
from axion.evaluation.intervals import bootstrap_interval, wilson_interval
from axion.evaluation.results import result_rows
from axion.evaluation.subject import COPIES, Subject, with_copies
from axion.evaluation.tasks import CARD, SETS, TASKS
from axion.machine import peak_bytes
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.params import report
from axion.pretrained_tokenizer import model_ids
from axion.release import open_release
from axion.shipped import ROOT
from axion.tokenizer import encode_document, generation_config, save_tokenizer
from axion.training.validation import DocumentLoss
from tests.conftest import TINY
from tests.support.foreign_tokenizers import like_gpt2

QUESTIONS = [
    {
        "question": f"Ann has {n} pens and buys {n + 1}. How many pens?",
        "answer": f"{n}+{n + 1}={2 * n + 1}\n#### {2 * n + 1}",
    }
    for n in range(100, 160)
]


@pytest.fixture(scope="module")
def release(tiny_release):
    return open_release(tiny_release)


@pytest.fixture
def few_prompts(monkeypatch):
    monkeypatch.setattr(subject, "ARITHMETIC_PROMPTS", 6)
    monkeypatch.setattr(questions, "REASONING_TOKENS", 8)
    monkeypatch.setattr(questions, "PHRASED_PROMPTS", 2)
    monkeypatch.setattr(questions, "STORY_PROMPTS", 20)
    monkeypatch.setattr(questions, "EVENT_PROMPTS", 1)
    monkeypatch.setattr(speed, "REPETITIONS", 1)
    monkeypatch.setattr(speed, "NEW_TOKENS", 10)
    monkeypatch.setattr(speed, "measure_memory", lambda *_: {"libraries_bytes": 1, "peak_bytes": 2})


@pytest.fixture
def local_data(tmp_path):
    """A DataRecipe with sixty problems to train on and sixty to test with."""
    files = {}
    for name in ("train", "test"):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
        files[name] = [str(path)]
    return DataRecipe(sources=(Gsm8k(files=files["train"], test_files=files["test"]),), val_fraction=0.3)


def answer_with(monkeypatch, write):
    """Lets a function write in place of the model."""
    monkeypatch.setattr(answers, "complete", write)
    monkeypatch.setattr(
        subject, "complete_often", lambda release, prompts, *_: [[text] for text in write(release, prompts)]
    )


SYNTHETIC = DataRecipe(sources=(Arithmetic(count=800), WordProblems(count=60)))


def test_every_task_has_figures_and_a_command(release, local_data, few_prompts):
    results = evaluate(release, local_data, seconds=(seconds := {}))
    assert list(results) == [task for task in CARD if task != "loops"]
    for task, result in results.items():
        named = " --set data.sources.gsm8k.files=train.jsonl --set data.sources.gsm8k.test_files=test.jsonl"
        files = named if task in ("validation", "gsm8k_test", "expert_load", "experts") else ""
        assert result["command"] == f"python -m axion eval axion-tiny{files} --tasks {task}"
    json.dumps(results, allow_nan=False)
    assert set(seconds) == set(results) and all(taken >= 0 for taken in seconds.values())

    validation = results["validation"]
    assert 0 < validation["documents"] < 60
    # random weights: about ln(V) nats, somewhat more where they are confidently wrong
    assert 4 < validation["nats_per_token"] < 12
    ratio = validation["tokens"] / validation["bytes"] / torch.log(torch.tensor(2.0)).item()
    assert validation["bits_per_byte"] == pytest.approx(validation["nats_per_token"] * ratio)
    assert validation["interval"][0] < validation["bits_per_byte"] < validation["interval"][1]

    for task in ("arithmetic", "arithmetic_reasoning"):
        scores = results[task]["scores"]
        assert {(s["digits"], s["language"]) for s in scores} == {(1, "pt"), (1, "en"), (2, "pt"), (2, "en")}
        assert all(s["total"] == 6 and s["interval"][0] <= s["accuracy"] <= s["interval"][1] for s in scores)
    assert results["gsm8k_test"]["total"] == 60

    for name in ("together", "validation", "arithmetic"):
        load = results["expert_load"][name]
        assert [sum(layer) for layer in load["layers"]] == pytest.approx([4, 4], abs=1e-3)
        assert load["lowest"] == min(map(min, load["layers"])) and load["highest"] == max(map(max, load["layers"]))


def test_tasks_without_their_data_are_skipped_with_a_reason(release, few_prompts):
    results = evaluate(release, SYNTHETIC)
    assert {task for task, result in results.items() if "skipped" in result} == {"gsm8k_test"}
    assert results["gsm8k_test"]["skipped"] == "the recipe has no source of kind gsm8k"
    assert (results["validation"]["data"], results["validation"]["dataset"]) == ("arithmetic, word problems", None)
    assert set(results["expert_load"]) == {"together", "validation", "arithmetic", "command"}


def test_a_text_only_release_has_figures_of_its_own_text(release, tmp_path):
    (tmp_path / "stories.txt").write_text("<|endoftext|>".join(f"Story {n} of two words." for n in range(60)))
    data = DataRecipe(sources=(Text(files=str(tmp_path / "stories.txt")), Arithmetic(count=400)), val_fraction=0.3)
    result = evaluate(release, data, ["gsm8k_validation"])["validation"]  # the name in cards of earlier releases
    assert (result["data"], result["dataset"]) == ("stories.txt", None)
    assert 5 < result["documents"] < 40 and result["bytes"] < 40 * 25
    (tmp_path / "stories.txt").write_text("One story only.")
    result = evaluate(release, data, ["validation"])["validation"]
    assert (result["data"], result["dataset"]) == ("arithmetic", None) and result["documents"] > 0


def test_local_data_that_is_not_at_hand_is_not_replaced_by_the_hubs(release, local_data, few_prompts, monkeypatch):
    monkeypatch.setattr("axion.data.sources.base.read_hub", lambda *_: pytest.fail("read the Hub"))
    released = DataRecipe.model_validate(local_data.released())
    assert released.sources[0].hub_id == "openai/gsm8k"
    results = evaluate(release, released)
    assert "was read from train.jsonl; give --set data.sources.gsm8k.files" in results["validation"]["skipped"]
    assert "give --set data.sources.gsm8k.test_files=FILE" in results["gsm8k_test"]["skipped"]
    assert set(results["expert_load"]) == {"together", "arithmetic", "command"}
    with_files = evaluate(release, released.with_local_copies(local_data), ["validation", "gsm8k_test"])
    assert [(result["data"], result["dataset"]) for result in with_files.values()] == [
        ("train.jsonl", None),
        ("test.jsonl", None),
    ]


@pytest.fixture(scope="module")
def looped_dense(tmp_path_factory):
    """A looped model without experts, whose tokenizer is another's: one special token begins, ends and pads texts."""
    folder = tmp_path_factory.mktemp("looped") / "dense"
    tokenizer = like_gpt2()
    torch.manual_seed(1)
    config = AxionConfig(
        attention="gqa",
        **{key: TINY[key] for key in ("hidden_size", "num_attention_heads", "intermediate_size")},
        **{"num_hidden_layers": 3, "first_k_dense_replace": 3, "num_shared_layers": 1, "num_loops": 2},
        **{"vocab_size": len(tokenizer), "max_position_embeddings": 128},
        **model_ids(tokenizer),
    )
    model = AxionForCausalLM(config)
    model.generation_config = generation_config(config, tokenizer)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return open_release(folder)


def test_a_dense_looped_model_of_text_has_figures_for_the_loops_asked_for(looped_dense, tmp_path, few_prompts):
    (tmp_path / "stories.txt").write_text("<|endoftext|>".join(f"Story {n} of two words." for n in range(60)))
    data = DataRecipe(sources=(Text(files=str(tmp_path / "stories.txt")),), val_fraction=0.3)
    results = {
        loops: evaluate(looped_dense.with_loops(loops), data, list_inapplicable=True, arguments=["x", "--loops", "1"])
        for loops in (0, 1)
    }
    for loops, found in {0: 2, 1: 1}.items():
        tasks = results[loops]
        assert {task: result["skipped"] for task, result in tasks.items() if "skipped" in result} == {
            "arithmetic": "the model was not trained on problems, so it is not asked for sums",
            "arithmetic_reasoning": "the model was not trained on problems, so it is not asked for sums",
            "gsm8k_test": "the recipe has no source of kind gsm8k",
            "expert_load": "the model has no experts: every token passes through all of its weights",
            "experts": "the model has no experts: every token passes through all of its weights",
        }
        assert tasks["validation"]["num_loops"] == tasks["speed"]["num_loops"] == found
        assert tasks["validation"]["command"] == "python -m axion eval x --loops 1 --tasks validation"
        rows = [row for row in result_rows(tasks) if row.task != "loops"]
        assert {row.note.rpartition("; ")[2] for row in rows} == {"1 loop" if found == 1 else f"{found} loops"}
        scores = {score["loops"]: score for score in tasks["loops"]["scores"]}
        assert list(scores) == [1, 2, 4, 8] and all(score["tokens_per_second"] > 0 for score in scores.values())
        for figure in ("nats_per_token", "bits_per_byte"):
            assert scores[found][figure] == tasks["validation"][figure]
    ours, default = results[1], results[0]
    assert ours["validation"]["nats_per_token"] != default["validation"]["nats_per_token"]
    assert ours["speed"]["cache_bytes_per_token"] == default["speed"]["cache_bytes_per_token"] * 3 // 4
    known = {task: result for task, result in results[0].items() if "skipped" not in result}
    assert set(evaluate(looped_dense, data, known=known)) == {"validation", "loops", "speed"}


def test_what_loops_gain_in_problems_of_several_steps_is_paired(looped_dense, few_prompts, monkeypatch):
    asked = {}

    def better_with_more(release, problems, max_tokens, reasoning, *_):
        assert reasoning is True
        loops = release.config.num_loops
        asked[loops] = [problem.question for problem in problems]
        return [problem.answer if place < 2 * loops else "" for place, problem in enumerate(problems)]

    monkeypatch.setattr(loops_module, "answer", better_with_more)
    result = evaluate(looped_dense, SYNTHETIC, ["loops"])["loops"]
    assert len(asked[1]) == 8 and asked[1] == asked[2] == asked[4]  # one of each number of steps above one, language
    scores = {each["loops"]: each["problems"] for each in result["scores"]}
    assert [scores[count]["correct"] for count in (1, 2, 4, 8)] == [2, 4, 8, 8]
    assert "gain" not in scores[1] and scores[4]["gain"] == 0.75
    low, high = scores[4]["gain_interval"]
    assert 0.25 < low < 0.75 < high <= 1


def test_the_kernels_are_compiled_before_the_loops_are_timed(monkeypatch):
    done = []
    monkeypatch.setattr(loops_module, "pick_backend", lambda model: done.append("compiled"))
    monkeypatch.setattr(
        loops_module, "document_losses", lambda model, _: done.append(model) or [DocumentLoss(1.0, 2, 3)]
    )
    looped = SimpleNamespace(
        config=SimpleNamespace(num_shared_layers=1, num_loops=2),
        model=None,
        with_loops=lambda count: SimpleNamespace(model=count),
    )
    data = SimpleNamespace(has_problems=False)
    loops_module.measure_loops(SimpleNamespace(release=looped, data=data, validation=[None]))
    assert done == ["compiled", 1, 2, 4, 8]


def test_problems_are_asked_with_anothers_tokenizer(looped_dense, few_prompts):
    results = evaluate(looped_dense, SYNTHETIC, ["validation", "arithmetic"])
    assert results["arithmetic"]["scores"][0]["total"] == 6


def test_known_results_are_not_measured_again(release, monkeypatch):
    known = {"arithmetic": {"scores": [], "command": "some command"}}
    monkeypatch.setattr(answers, "complete", None)  # calling it would fail
    results = evaluate(release, SYNTHETIC, ["arithmetic", "expert_load"], known=known)
    assert results["arithmetic"] == known["arithmetic"] and "together" in results["expert_load"]


def test_a_requested_task_is_never_skipped(release):
    with pytest.raises(AxionError, match="has no source of kind gsm8k"):
        evaluate(release, SYNTHETIC, ["gsm8k_test"])


def test_a_local_file_that_is_missing_is_an_error(release):
    with pytest.raises(AxionError, match=r"nowhere\.jsonl"):
        evaluate(release, DataRecipe(sources=(Gsm8k(test_files=["nowhere.jsonl"]),)), ["gsm8k_test"])


def test_an_unreachable_hub_skips(release, few_prompts, monkeypatch):
    def unreachable(*_):
        raise AxionError("cannot load openai/gsm8k from the Hub")

    monkeypatch.setattr(Gsm8k, "problems", unreachable)
    monkeypatch.setattr(Gsm8k, "num_bytes", unreachable)
    assert evaluate(release, DataRecipe())["gsm8k_test"] == {"skipped": "cannot load openai/gsm8k from the Hub"}


def test_an_unknown_task_lists_the_known(release):
    with pytest.raises(AxionError, match=f"no task 'mmlu'; known: {', '.join([*SETS, *TASKS])}"):
        evaluate(release, SYNTHETIC, ["arithmetic", "mmlu"])


def test_a_greedy_continuation_is_the_one_of_transformers(release):
    prompts = [prompt(f"Quanto é {'1' * n} + 2?") for n in (1, 9, 3, 20)]
    for text, expected in zip(prompts, complete(release, prompts, 10), strict=True):
        inputs = release.tokenizer(text, return_tensors="pt")
        alone = release.model.generate(**inputs, do_sample=False, max_new_tokens=10)
        assert release.tokenizer.decode(alone[0, inputs.input_ids.shape[1] :], skip_special_tokens=True) == expected


def test_results_say_which_weights_the_model_was_read_with(release, few_prompts):
    rounded = evaluate(release.with_weights("bf16"), SYNTHETIC, ["arithmetic"], arguments=["x", "--weights", "bf16"])
    assert rounded["arithmetic"]["weights"] == "bf16"
    assert rounded["arithmetic"]["command"] == "python -m axion eval x --weights bf16 --tasks arithmetic"
    assert "weights" not in evaluate(release, SYNTHETIC, ["arithmetic"])["arithmetic"]


def test_samples_depend_on_their_prompt_number_and_seed_alone(release):
    asked, prompts = Subject(release, SYNTHETIC), [prompt(f"Quanto é {n} + 2?") for n in (1, 9, 30)]
    texts = asked.answers(prompts, 12, samples=4, temperature=1.0, seed=7)
    assert [len(set(given)) for given in texts] == [4, 4, 4]
    assert asked.answers(prompts[1:2], 12, samples=2, temperature=1.0, seed=7) == [texts[1][:2]]
    assert asked.answers(prompts, 12, samples=4, temperature=1.0, seed=8) != texts
    as_ids = [encode_document(release.tokenizer, text)[:-1] for text in prompts]
    assert asked.answers(as_ids, 12, samples=4, temperature=1.0, seed=7) == texts
    greedy = complete(release, prompts, 12)
    assert asked.answers(prompts, 12, samples=3) == [[text] * 3 for text in greedy]


def test_reasoning_without_an_answer_scores_nothing(release, monkeypatch):
    problems = [Problem("?", "7", "so"), Problem("?", "1,200", "so")]
    texts = ["7\nand so on", "so\n--\n# Resposta:\n1200"]
    monkeypatch.setattr(Gsm8k, "problems", lambda *_: problems)
    monkeypatch.setattr(answers, "complete", lambda *_: texts)
    assert evaluate(release, DataRecipe(), ["gsm8k_test"])["gsm8k_test"]["correct"] == 1


def test_a_model_that_knows_every_answer_scores_all(release, monkeypatch, few_prompts):
    def knows(release, prompts, *_):
        sums = [text.split("\n")[1].rstrip("?").split()[-3:] for text in prompts]
        return [str(int(a) + int(b) if sign == "+" else int(a) - int(b)) for a, sign, b in sums]

    monkeypatch.setattr(answers, "complete", knows)
    scores = evaluate(release, SYNTHETIC, ["arithmetic"])["arithmetic"]["scores"]
    assert [s["accuracy"] for s in scores] == [1.0] * 4


@pytest.fixture
def copies(tmp_path):
    """A folder with a few of the local copies."""
    folder = tmp_path / "copies"
    for name, text in {
        "eval/singleop.jsonl": '{"input": "Two and 2?", "target": 4.0}\n{"input": "Half of 2.5?", "target": 1.25}\n'
        '{"input": "A million and 234567.5?", "target": 1234567.5}\n',
        "text_en/tinystories_sample.txt": "<|endoftext|>".join(f"Story {n} of a few words." for n in range(40)),
        "text_pt/african_storybook_pt.txt": "A Cabra comeu.<|endoftext|>O Cão correu.",
        "gsm8k/test.jsonl": "".join(json.dumps(row) + "\n" for row in QUESTIONS),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


DESCRIBED = ("typing", "operation", "digits", "kind", "steps", "language")
ASKING = ("phrasings", "stories", "events", "singleop")


def test_problems_are_asked_in_both_ways_and_scored_by_their_description(release, copies, few_prompts, monkeypatch):
    known = {
        "Two and 2?": "4",
        "Half of 2.5?": "1.25",
        "A million and 234567.5?": "1234567.5",
        **{
            problem.question: problem.answer
            for language in ("pt", "en")
            for problem in [
                *stories_tests(language, 20, questions.SEED),
                *(problem for sign in "+-*/" for problem in phrasings_tests(language, sign, 2, 2, questions.SEED)),
                *(story.problem for story in events_tests(language, 1, questions.SEED, steps=3)),
            ]
        },
    }

    def knows(release, prompts, *_):
        """Answers what it knows; when it is asked for its reasoning, it has an answer for 4 alone."""
        replies = []
        for text in prompts:
            reply = known.get(text.split("\n")[1], "?")
            has_answer = text.endswith(ANSWER) or reply == "4"
            replies.append(f"so{ANSWER}{reply}" if has_answer else reply)
        return replies

    answer_with(monkeypatch, knows)
    results = evaluate(release, SYNTHETIC, ASKING, folder=copies)
    json.dumps(results, allow_nan=False)
    assert list(results) == list(ASKING)
    for result in results.values():
        assert [score["reasoning"] for score in result["scores"]] == [False, True] * (len(result["scores"]) // 2)
        assert all(score["interval"][0] <= score["accuracy"] <= score["interval"][1] for score in result["scores"])
    right = {
        task: {
            tuple(score.get(name) for name in DESCRIBED): score["accuracy"]
            for score in result["scores"]
            if not score["reasoning"]
        }
        for task, result in results.items()
    }
    for (typing, _, digits, *_), share in right["phrasings"].items():
        assert share == (digits == 2) if typing == "clean" else share < 1  # few questions look the same
    assert len(right["phrasings"]) == 4 * 3 * 2 * 2
    assert set(right["stories"].values()) == {1.0} and {key[-1] for key in right["stories"]} == {"pt", "en"}
    assert {key[4:]: share for key, share in right["events"].items()} == {
        (steps, language): float(steps == 3) for steps in range(1, 6) for language in ("pt", "en")
    }
    commands = {task: result["command"].partition("axion-tiny ")[2] for task, result in results.items()}
    assert commands == {task: f"--tasks {task}" for task in ASKING} | {"singleop": "--data DIR --tasks singleop"}
    direct, reasoned = results["singleop"]["scores"]
    assert (direct["correct"], reasoned["correct"], direct["total"]) == (3, 1, 3)
    ways = results["phrasings"]["by_template"]
    assert {way["language"] for way in ways} == {"pt", "en"} and all("{" in way["template"] for way in ways)
    assert sum(way["total"] for way in ways) == sum(score["total"] for score in results["phrasings"]["scores"])
    labels = [row.label for row in result_rows(results)]
    assert len(set(labels)) == len(labels) == sum(len(result["scores"]) for result in results.values())


def test_long_sums_have_two_to_ten_digits_and_pairs_that_training_holds_out(release, monkeypatch):
    monkeypatch.setattr(questions, "LONG_PROMPTS", 2)
    asked, solved = [], {"+"}

    def reckon(_, problems, *rest):
        asked.extend(problems)
        return [problem.answer if problem.steps[0].sign in solved else "" for problem in problems]

    monkeypatch.setattr(questions, "answer", reckon)
    result = evaluate(release, SYNTHETIC, ["long_sums"])["long_sums"]
    assert {max(len(str(each.steps[0].left)), len(str(each.steps[0].right))) for each in asked} == {*range(2, 11)}
    for problem in asked:
        assert is_reserved(problem.steps[0].left, problem.steps[0].right, SYNTHETIC.holdout_fraction)
        assert Template(problem.template).is_held_out
    shares = {(score["operation"], score["accuracy"], score["total"]) for score in result["scores"]}
    assert shares == {("+", 1.0, 18), ("-", 0.0, 18)}
    assert [each["digits"] for each in result["by_digits"][:18]] == [digits for digits in range(2, 11) for _ in "ab"]
    assert all(each["total"] == 4 for each in result["by_digits"])


def test_held_out_ways_of_asking_and_pairs_alone_are_asked(release, few_prompts, monkeypatch):
    asked = []
    answer_with(monkeypatch, lambda release, prompts, *_: [""] * len(prompts))
    monkeypatch.setattr(questions, "answer", lambda _, problems, *rest: asked.extend(problems) or [""] * len(problems))
    evaluate(release, SYNTHETIC, ["phrasings", "stories"])
    assert all(Template(problem.template).is_held_out for problem in asked)
    for problem in asked:
        left, right = problem.steps[0].left, problem.steps[0].right
        assert not 9 < max(left, right) < 100 or is_held_out(left, right, SYNTHETIC.holdout_fraction)


def test_prose_is_measured_over_whole_documents_up_to_a_cap(release, copies, monkeypatch):
    monkeypatch.setattr(prose, "CAP_BYTES", 100)
    result = evaluate(release, SYNTHETIC, ["prose"], folder=copies)["prose"]
    assert result["cap_bytes"] == 100 and [reason.split()[-1] for reason in result["missing"]] == [
        "text_en/grimm_household_tales.txt",
        "text_en/african_storybook_en.txt",
        "text_pt/machado_contos_part.txt",
        "text_pt/machado_romances.txt",
        "text_pt/ptwiki_valid.txt",
    ]
    stories, tales = result["scores"]
    assert (stories["data"], stories["language"], stories["name"]) == ("TinyStories", "en", "tinystories_sample.txt")
    assert (stories["documents"], stories["bytes"]) == (4, 4 * len("Story 1 of a few words."))
    assert (tales["documents"], tales["bytes"]) == (2, len("A Cabra comeu.O Cão correu.".encode()))
    assert stories["interval"][0] <= stories["bits_per_byte"] <= stories["interval"][1]
    assert not stories["trained_on"] and result == evaluate(release, SYNTHETIC, ["prose"], folder=copies)["prose"]
    monkeypatch.setattr(prose, "CAP_BYTES", 1)
    own = DataRecipe(sources=(Text(files=str(copies / "text_en" / "tinystories_sample.txt")),))
    stories, tales = evaluate(release, own, ["prose"], folder=copies)["prose"]["scores"]
    assert (stories["documents"], stories["trained_on"], tales["trained_on"]) == (1, True, False)
    assert (tales["documents"], tales["interval"]) == (1, None)  # one document says nothing of how others differ


def test_books_are_cut_at_chapters_and_the_blanks_of_encyclopedias_undone(release, copies, monkeypatch):
    book = "Contos\n\nEra uma vez.\n\nCAPÍTULO II\n\nO CAPÍTULO acabou.\n<|endoftext|>\nOutro livro."
    article = "A `` 'Unidade N.º 4 '' ' ( RAAF ) foi , em 1942 , `` boa '' : sim . Custou 3 , 5 % . == Fim ==\n"
    for name, text in (("machado_contos_part", book), ("ptwiki_valid", 2 * article)):
        (copies / "text_pt" / f"{name}.txt").write_text(text, encoding="utf-8")
    read = []
    usual = prose.encode_documents
    monkeypatch.setattr(prose, "encode_documents", lambda _, texts: read.append(texts) or usual(_, texts))
    scores = evaluate(release, SYNTHETIC, ["prose"], folder=copies)["prose"]["scores"]
    assert [score["data"] for score in scores[2:]] == ["Machado de Assis, tales", "Wikipedia"]
    assert read[2:] == [
        ["Contos\n\nEra uma vez.", "CAPÍTULO II\n\nO CAPÍTULO acabou.", "Outro livro."],
        2 * ["A Unidade N.º 4 (RAAF) foi, em 1942, boa: sim. Custou 3, 5%. == Fim =="],
    ]


def test_a_set_skips_what_has_no_data_and_a_name_does_not(release, copies, few_prompts, monkeypatch):
    answer_with(monkeypatch, lambda release, prompts, *_: [""] * len(prompts))
    results = evaluate(release, DataRecipe(sources=(Arithmetic(count=400),)), ["quick"])
    assert list(results) == [task for task in TASKS if task in SETS["quick"] and task != "dialogues"]
    assert {task: result["skipped"] for task, result in results.items() if "skipped" in result} == {
        "prose": "it reads text_en/tinystories_sample.txt; give the folder that has it with --data",
        "singleop": "it reads eval/singleop.jsonl; give the folder that has it with --data",
        "blimp": "it reads eval/BLiMP.zip; give the folder that has it with --data",
        "arc_easy": "it reads eval/arc_easy.jsonl; give the folder that has it with --data",
    }
    with pytest.raises(AxionError, match=r"it reads eval/singleop\.jsonl; give the folder that has it with --data"):
        evaluate(
            release, SYNTHETIC, ["quick", "singleop"], known={task: {} for task in SETS["quick"] if task != "singleop"}
        )
    for target in ("true", '"4"', "null"):
        (copies / "eval" / "singleop.jsonl").write_text(f'{{"input": "Two and 2?", "target": {target}}}\n')
        with pytest.raises(AxionError, match=r"line 1: target is .*; it must be a number"):
            evaluate(release, SYNTHETIC, ["singleop"], folder=copies)
    (copies / "eval" / "singleop.jsonl").write_text('{"input": "Two and 2?"}\n')
    with pytest.raises(AxionError, match=r"line 1: target is None; it must be a number"):
        evaluate(release, SYNTHETIC, ["singleop"], folder=copies)
    (copies / "eval" / "singleop.jsonl").unlink()
    with pytest.raises(AxionError, match=r"copies has no eval/singleop\.jsonl"):
        evaluate(release, SYNTHETIC, ["singleop"], folder=copies)
    with pytest.raises(AxionError, match=r"none of the files that --help lists, such as gsm8k/test\.jsonl"):
        evaluate(release, SYNTHETIC, ["singleop"], folder=copies / "eval")
    open_pairs = SYNTHETIC.model_copy(update={"holdout_fraction": 0.0})
    skipped = evaluate(release, open_pairs, ["card"], known={"speed": {}})["arithmetic"]["skipped"]
    assert skipped == "data.holdout_fraction is 0: no pair of operands was held out to ask for"


def test_gsm8k_is_read_from_the_copies_unless_other_files_are_given(copies, local_data):
    source = with_copies(DataRecipe(), copies).find(Gsm8k)
    assert source.files is None and source.test_files == [str(copies / "gsm8k" / "test.jsonl")]
    (copies / "gsm8k" / "train.jsonl").write_text("")
    assert with_copies(DataRecipe(), copies).find(Gsm8k).files == [str(copies / "gsm8k" / "train.jsonl")]
    assert with_copies(local_data, copies) == local_data
    of_own_files = DataRecipe.model_validate(local_data.released())
    assert with_copies(of_own_files, copies).find(Gsm8k).files is None


def test_the_help_lists_every_copy(monkeypatch):
    described = get_type_hints(cli_evaluate, include_extras=True)["data"].__metadata__[0].help
    assert [name.strip(" .") for name in described.partition(": ")[2].split(",")] == list(COPIES)


def test_score_compares_the_written_answers():
    problems = [Problem("", "12"), Problem("", "5"), Problem("", "-3")]
    assert score(problems, ["12", "6", "-3"])["correct"] == 2


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    # Wilson's formula with z = 1.96, as in Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_interval(correct, total, low, high):
    assert wilson_interval(correct, total) == pytest.approx([low, high], abs=5e-5)


def test_a_bootstrap_interval_covers_the_ratio_of_sums():
    rng = np.random.default_rng(3)
    covered, widths = 0, []
    for _ in range(40):
        sizes = rng.integers(50, 500, 60)
        bits = sizes * rng.normal(1.5, 0.4, 60)  # of a document, 0.4 bits per byte more or less than another
        low, high = bootstrap_interval(bits.tolist(), sizes.tolist())
        covered += low <= 1.5 <= high
        widths.append(high - low)
    assert covered >= 34  # of 40, where 95% are expected
    error = 0.4 * np.sqrt(np.mean(sizes.astype(float) ** 2) / 60) / sizes.mean()
    assert np.mean(widths) == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert bootstrap_interval([1.0, 2.0], [1, 1]) == bootstrap_interval([1.0, 2.0], [1, 1])
    assert bootstrap_interval([1.0], [1]) is None


def test_the_held_out_documents_do_not_depend_on_the_model(release, local_data, tiny_release, tmp_path):
    twin = open_release(shutil.copytree(tiny_release, tmp_path / "twin"))
    task = ["validation"]
    first, second = (evaluate(each, local_data, task)["validation"] for each in (release, twin))
    assert first | {"command": ""} == second | {"command": ""}


# --- Speed and memory -------------------------------------------------------------------------------------------------


def test_speed_is_measured_with_one_thread_and_with_all(release, few_prompts):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        result = speed.measure(release)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert [run["threads"] for run in result["by_threads"]] == [1, 2]
    for run in result["by_threads"]:
        assert 0 < run["first_token_seconds"] < 5 and run["decode_tokens_per_second"] > 1
        assert run["prefill_tokens_per_second"] > 1
    assert result["window"] == 128 and result["new_tokens"] == 10 < 128 - result["prompt_tokens"]
    assert result["cache_bytes_per_token"] == report("tiny", release.config)["cache"]["bytes_per_token"]
    assert result["machine"]["processor"] and set(result["libraries"]) == {"torch", "transformers"}


def test_the_text_does_not_end_before_all_tokens_are_drawn(release, monkeypatch):
    drawn = []
    usual = speed.stream
    monkeypatch.setattr(speed, "stream", lambda *arguments: drawn.append(list(usual(*arguments))) or drawn[-1])
    speed._generate(release)
    assert len([step for step in drawn[0] if not step.is_prompt]) == speed._new_tokens(release)


def test_memory_is_measured_while_a_release_generates(release, monkeypatch, capsys):
    def run(command, **_):
        assert command[1:3] == ["-m", speed.__name__]
        speed._main(*command[3:])
        return SimpleNamespace(stdout=capsys.readouterr().out)

    peaks = iter([50e6, 60e6])
    monkeypatch.setattr(speed, "peak_bytes", lambda: next(peaks))
    monkeypatch.setattr(speed, "subprocess", SimpleNamespace(run=run, SubprocessError=subprocess.SubprocessError))
    assert speed.measure_memory(release.folder) == {"libraries_bytes": 50e6, "peak_bytes": 60e6}


def test_the_peak_of_a_process_does_not_include_its_parent():
    command = [sys.executable, "-c", "from axion.machine import peak_bytes; print(peak_bytes())"]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 5e6 < int(child.stdout) < 100e6 < peak_bytes()  # this process has loaded torch


def test_a_process_that_fails_is_one_line(tmp_path, monkeypatch):
    fails = tmp_path / "python"
    fails.write_text("#!/bin/sh\necho Traceback >&2\necho 'AxionError: x is not a complete release' >&2\nexit 1\n")
    fails.chmod(0o755)
    monkeypatch.setattr(speed.sys, "executable", str(fails))
    with pytest.raises(AxionError, match=r"could not be measured: AxionError: x is not a complete release") as caught:
        speed.measure_memory(tmp_path)
    assert "\n" not in str(caught.value)
