"""lm-eval's `local-completions` gives the same results through the API as computed from the model directly.

All options but the address, the model's name, the tokenizer and the tasks have their defaults.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from axion.inference.sampling import Sampling
from axion.inference.stream import stream
from axion.release import Release

pytestmark = pytest.mark.slow

LM_EVAL = "lm_eval[api]==0.4.13"
CHOICES = ("7", "12", " 9 and more", "x")
QUESTIONS = [f"# Pergunta:\nQuanto é {a} + {b}?\n--\n# Resposta:\n" for a, b in ((2, 5), (9, 3), (4, 4), (1, 8))]
TASKS = {
    "choose": {
        "output_type": "multiple_choice",
        "doc_to_choice": list(CHOICES),
        "doc_to_target": "{{label}}",
        "metric_list": [{"metric": "acc"}],
    },
    "write": {
        "output_type": "generate_until",
        "doc_to_target": "{{label}}",
        "generation_kwargs": {"until": ["\n", "Q:", "--", "#"]},
        "metric_list": [{"metric": "exact_match"}],
    },
    "read": {
        "output_type": "loglikelihood_rolling",
        "doc_to_target": "{{question}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    },
}


@pytest.fixture(scope="module")
def samples(make_environment, catalogue, address, tmp_path_factory) -> dict[str, list[dict]]:
    """lm-eval's logged samples: task → one entry for each document."""
    folder = tmp_path_factory.mktemp("lm-eval")
    documents = [{"question": question, "label": number} for number, question in enumerate(QUESTIONS)]
    (folder / "documents.json").write_text(json.dumps(documents), encoding="utf-8")
    for name, task in TASKS.items():
        files = {"test": str(folder / "documents.json")}
        data = {"dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test"}
        described = {"task": name, "doc_to_text": "{{question}}", "target_delimiter": "", **data, **task}
        (folder / f"{name}.yaml").write_text(json.dumps(described), encoding="utf-8")
    release = catalogue.open("plain").release
    (folder / "tokenizer").mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(release.folder / file, folder / "tokenizer")
    command = [make_environment(LM_EVAL), "-m", "lm_eval", "run", "--model", "local-completions"]
    command += ["--model_args", f"model=plain,base_url={address}/completions,tokenizer={folder / 'tokenizer'}"]
    command += ["--tasks", ",".join(TASKS), "--include_path", str(folder)]
    command += ["--output_path", str(folder / "results"), "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    ran = subprocess.run(command, env=os.environ | offline, cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return {name: read_samples(folder / "results", name) for name in TASKS}


def read_samples(folder: Path, task: str) -> list[dict]:
    [path] = folder.rglob(f"samples_{task}_*.jsonl")
    logged = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted(logged, key=lambda sample: sample["doc_id"])


@pytest.fixture(scope="module")
def release(catalogue) -> Release:
    return catalogue.open("plain").release


def likelihood(release: Release, context: list[int], ids: list[int]) -> tuple[float, bool]:
    """The log probability of the ids after the context, and whether each one is the most likely token."""
    logits_TV = release.model(torch.tensor([context + ids])).logits[0, len(context) - 1 : -1].detach()
    logprobs_TV = logits_TV.double().log_softmax(-1)
    return logprobs_TV[range(len(ids)), ids].sum().item(), logprobs_TV.argmax(-1).tolist() == ids


def encode(release: Release, text: str) -> list[int]:
    return release.tokenizer(text, add_special_tokens=False).input_ids


def test_choices_are_scored_with_the_models_likelihoods(samples, release):
    for question, sample in zip(QUESTIONS, samples["choose"], strict=True):
        for choice, [(logged, greedy)] in zip(CHOICES, sample["resps"], strict=True):
            # lm-eval scores the white space between question and choice together with the choice.
            context = encode(release, question.rstrip())
            ids = encode(release, question + choice)[len(context) :]
            expected = likelihood(release, context, ids)
            assert float(logged) == pytest.approx(expected[0], abs=1e-4)
            assert str(greedy) == str(expected[1])


def test_generated_texts_match_the_models(samples, release):
    for question, sample in zip(QUESTIONS, samples["write"], strict=True):
        ids = encode(release, question)
        steps = stream(release.model, release.tokenizer, ids, Sampling(max_new_tokens=256))
        text = "".join(step.text for step in steps if not step.is_prompt)
        for stop in ("\n", "Q:", "--", "#"):
            text = text.partition(stop)[0]
        assert sample["resps"] == [[text]]


def test_whole_documents_are_scored_with_the_models_likelihood(samples, release):
    for question, sample in zip(QUESTIONS, samples["read"], strict=True):
        prefix = [release.tokenizer.bos_token_id]
        expected, _ = likelihood(release, prefix, encode(release, question))
        [[logged]] = sample["resps"]
        logged = logged[0] if isinstance(logged, list) else logged
        assert float(logged) == pytest.approx(expected, abs=1e-3)
