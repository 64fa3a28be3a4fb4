"""The tasks that lm-eval-harness can repeat: its configuration files, and the documents that they read.

`lm_eval --model hf` with these files gives the same figures as `axion eval`: the texts and tokens are the same. Where
`<bos>` belongs to a text it is written out, because lm-eval's own would count as predicted at the start of a document.
Of GSM8K's questions that leave no room for the whole reasoning, lm-eval drops the beginning.

lm-eval: https://github.com/EleutherAI/lm-evaluation-harness, version 0.4.13.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from axion.data.format import prompt
from axion.errors import AxionError
from axion.evaluation.choices import ARC_FILE, BLIMP_FILE, QUICK_PAIRS, Question, arc_questions, blimp_questions
from axion.evaluation.questions import REASONING_TOKENS, gsm8k_problems
from axion.evaluation.subject import NotAvailable, Subject
from axion.files import new_folder
from axion.labels import IGNORED
from axion.tokenizer import bos_and_eos, encode_texts

CONFIGURATIONS = Path(__file__).parent / "lm_eval"
FUNCTIONS = "axion_tasks.py"


def _blimp(subject: Subject) -> list[dict[str, Any]]:
    questions = blimp_questions(subject.copy(BLIMP_FILE), QUICK_PAIRS)
    return [_choices(question, question.text) for question in questions]


def _arc_easy(subject: Subject) -> list[dict[str, Any]]:
    begin = subject.release.tokenizer.bos_token
    return [_choices(question, f"{begin}{question.text}") for question in arc_questions(subject.copy(ARC_FILE))]


def _choices(question: Question, text: str) -> dict[str, Any]:
    return {"text": text, "choices": [*question.choices], "right": question.right}


def _gsm8k_test(subject: Subject) -> list[dict[str, Any]]:
    begin, (_, problems) = str(subject.release.tokenizer.bos_token), subject.once(gsm8k_problems)
    return [{"text": begin + prompt(each.question, reasoning=True), "answer": each.answer} for each in problems]


def _validation(subject: Subject) -> list[dict[str, Any]]:
    """The held-out documents all of whose tokens carry loss, and whose text has these tokens."""
    tokenizer, documents = subject.release.tokenizer, []
    _, eos = bos_and_eos(tokenizer)
    for document in subject.validation:
        ids = document.ids.tolist()
        if (document.labels[1:] == IGNORED).any() or ids[-1] != eos:
            continue
        text = str(tokenizer.decode(ids[1:-1], clean_up_tokenization_spaces=False))
        if encode_texts(tokenizer, [text]) == [ids[1:-1]]:
            documents.append({"text": text + str(tokenizer.eos_token), "bytes": document.num_bytes})
    if not documents:
        raise NotAvailable("no held-out document carries loss as a whole, as lm-eval reads it")
    return documents


TASKS: MappingProxyType[str, Callable[[Subject], list[dict[str, Any]]]] = MappingProxyType(
    {"validation": _validation, "gsm8k_test": _gsm8k_test, "blimp": _blimp, "arc_easy": _arc_easy}
)
"""Task of `axion.evaluation.tasks` → its documents for lm-eval. BLiMP is the sample of the set `quick`."""


def write_tasks(subject: Subject, tasks: Sequence[str], folder: Path) -> str:
    """Writes configuration and documents of tasks into a new folder; returns the command that runs them.

    The context is given one token short: lm-eval puts `<bos>` before a document in addition to a whole window, Axion
    counts it as part of the window.

    Raises:
        AxionError: lm-eval has no such task, the data of one is not available, or the folder exists.
    """
    if folder.exists():
        raise AxionError(f"{folder} exists; give a new folder for the files of lm-eval")
    if unknown := sorted(set(tasks) - set(TASKS)):
        raise AxionError(f"lm-eval cannot repeat {unknown[0]!r}; it can repeat {', '.join(TASKS)}")
    documents = {task: TASKS[task](subject) for task in TASKS if task in tasks}
    release = subject.release
    with new_folder(folder, folder.exists) as staged:
        shutil.copyfile(CONFIGURATIONS / FUNCTIONS, staged / FUNCTIONS)
        for task, lines in documents.items():
            file = f"{task}.jsonl"
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (staged / file).write_text(text, encoding="utf-8")
            more: dict[str, Any] = {"dataset_kwargs": {"data_files": {"test": str(folder.absolute() / file)}}}
            if task == "gsm8k_test":
                length = {"until": [str(release.tokenizer.eos_token)], "max_gen_toks": REASONING_TOKENS}
                more["generation_kwargs"] = {"do_sample": False, "temperature": 0.0, **length}
            ours = (CONFIGURATIONS / f"{task}.yaml").read_text(encoding="utf-8")
            (staged / f"{task}.yaml").write_text(ours + yaml.safe_dump(more), encoding="utf-8")
    context = release.config.max_position_embeddings - 1
    model = f"pretrained={release.folder},trust_remote_code=True,add_bos_token=False,max_length={context}"
    command = ["lm_eval", "--model", "hf", "--model_args", model, "--include_path", str(folder)]
    return shlex.join([*command, "--tasks", ",".join(f"axion_{task}" for task in documents)])
