"""The tasks that lm-eval can repeat, and that it repeats them."""

import json
import os
import shlex
import subprocess
import zipfile

import pytest

from axion.data.recipe import DataRecipe
from axion.data.sources import Arithmetic, Gsm8k
from axion.errors import AxionError
from axion.evaluation import harness
from axion.evaluation.evaluate import evaluate
from axion.evaluation.harness import write_tasks
from axion.evaluation.subject import Subject
from axion.release import open_release

LM_EVAL = "lm_eval[api]==0.4.13"
BLIMP = {"good": "The {} boys {} sing.", "bad": "The {} boys {} sings."}
SCIENCE = ("Which of these is a {}?", ("a stone", "the sun that shines", "water", "grass and a {}"))


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copies")
    for name in ("eval", "gsm8k"):
        (folder / name).mkdir()
    words = ["old", "tall", "angry", "happy", "other", "quiet", "small", "three", "clever", "tired"]
    with zipfile.ZipFile(folder / "eval" / "BLiMP.zip", "w") as archive:
        pairs = [
            {f"sentence_{side}": text.format(word, other) for side, text in BLIMP.items()}
            for word in words
            for other in ("never", "often")
        ]
        lines = (json.dumps(pair | {"linguistics_term": "agreement"}) for pair in pairs)
        archive.writestr("data/agreement.jsonl", "\n".join(lines))
    query, choices = SCIENCE
    questions = [
        {"query": f"Question: {query.format(word)}", "choices": [each.format(word) for each in choices], "gold": n % 4}
        for n, word in enumerate(words)
    ]
    (folder / "eval" / "arc_easy.jsonl").write_text("".join(json.dumps(each) + "\n" for each in questions))
    for name in ("train", "test"):
        problems = [
            {
                "question": f"Ann has {n} pens and buys {n % 7} more. How many pens does she have now?",
                "answer": f"She has {n}+{n % 7}={n + n % 7} pens.\n#### {n + n % 7}",
            }
            for n in range(1, 25 if name == "test" else 60)
        ]
        (folder / "gsm8k" / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in problems))
    return folder


@pytest.fixture(scope="module")
def data(copies):
    files = {"files": [str(copies / "gsm8k/train.jsonl")], "test_files": [str(copies / "gsm8k/test.jsonl")]}
    return DataRecipe(sources=(Gsm8k(**files),), val_fraction=0.3)


def test_the_documents_have_what_the_tasks_read(tiny_release, copies, data, tmp_path):
    release = open_release(tiny_release)
    command = shlex.split(write_tasks(Subject(release, data, folder=copies), [*harness.TASKS], tmp_path / "new"))
    assert command[:3] == ["lm_eval", "--model", "hf"] and command[-2:] == [
        "--tasks",
        "axion_validation,axion_gsm8k_test,axion_blimp,axion_arc_easy",
    ]
    assert f"pretrained={release.folder},trust_remote_code=True,add_bos_token=False,max_length=127" in command

    def documents(task: str) -> list[dict]:
        return [json.loads(line) for line in (tmp_path / "new" / f"{task}.jsonl").read_text().splitlines()]

    assert documents("arc_easy")[1] == {
        "text": "<bos>Question: Which of these is a tall?\nAnswer:",
        "choices": ["a stone", "the sun that shines", "water", "grass and a tall"],
        "right": 1,
    }
    assert documents("blimp")[0]["text"] == "" and len(documents("blimp")) == 20
    assert documents("gsm8k_test")[0]["text"].startswith("<bos># Pergunta:\nAnn has 1 pens")
    for document in documents("validation"):
        ids = release.tokenizer(document["text"]).input_ids
        assert ids[-1] == release.tokenizer.eos_token_id and ids.count(release.tokenizer.eos_token_id) == 1
        assert len(document["text"].removesuffix("<eos>").encode()) == document["bytes"]
    configured = (tmp_path / "new" / "blimp.yaml").read_text()
    assert f"test: {tmp_path / 'new' / 'blimp.jsonl'}" in configured and (tmp_path / "new" / "axion_tasks.py").is_file()


def test_what_lm_eval_cannot_repeat_is_one_line_and_nothing_is_overwritten(tiny_release, copies, data, tmp_path):
    subject = Subject(open_release(tiny_release), data, folder=copies)
    with pytest.raises(AxionError, match="lm-eval cannot repeat 'stories'; it can repeat validation, gsm8k_test"):
        write_tasks(subject, ["blimp", "stories"], tmp_path / "new")
    with pytest.raises(AxionError, match="exists; give a new folder"):
        write_tasks(subject, ["blimp"], tmp_path)
    without = Subject(subject.release, DataRecipe(sources=(Arithmetic(count=100),)))
    with pytest.raises(AxionError, match=r"it reads eval/BLiMP\.zip; give the folder"):
        write_tasks(without, ["blimp"], tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_lm_eval_gives_the_same_figures(make_environment, copies, data, tmp_path):
    release = open_release("axion1-v0.1")
    ours = evaluate(release, data, [*harness.TASKS], folder=copies)
    command = shlex.split(write_tasks(Subject(release, data, folder=copies), [*harness.TASKS], tmp_path / "tasks"))
    run = [make_environment(LM_EVAL), "-m", *command, "--output_path", str(tmp_path / "results"), "--batch_size", "4"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    ran = subprocess.run(run, env=os.environ | offline, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    [file] = (tmp_path / "results").rglob("results_*.json")
    theirs = json.loads(file.read_text())["results"]
    assert ours["blimp"]["tied"] == ours["arc_easy"]["tied"] == 0  # else lm-eval takes the first
    assert theirs["axion_blimp"]["acc,none"] == ours["blimp"]["accuracy"]
    assert theirs["axion_arc_easy"]["acc,none"] == ours["arc_easy"]["accuracy"]
    assert theirs["axion_arc_easy"]["acc_norm,none"] == ours["arc_easy"]["accuracy_by_length"]
    assert theirs["axion_gsm8k_test"]["exact_match,last-answer"] == ours["gsm8k_test"]["accuracy"]
    assert ours["validation"]["documents"] == len((tmp_path / "tasks" / "validation.jsonl").read_text().splitlines())
    assert theirs["axion_validation"]["bits_per_byte,none"] == pytest.approx(
        ours["validation"]["bits_per_byte"], rel=1e-5
    )
