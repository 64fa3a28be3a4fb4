"""A model's answers to questions, and how many of them are right.

Text is generated greedily, so a second run gives the same answers.
"""

from collections.abc import Callable, Sequence

import torch
from tqdm import tqdm

from axion.data.batches import batches_by_length
from axion.data.format import ANSWER, Problem, parse_answer, prompt
from axion.evaluation.intervals import wilson_interval
from axion.release import Release
from axion.tokenizer import encode_document

PROMPT_TOKENS_PER_BATCH = 32_768


def answer(
    release: Release,
    problems: Sequence[Problem],
    max_tokens: int,
    reasoning: bool = False,
    label: str = "",
    progress: bool = False,
) -> list[str]:
    """The model's answer to each problem; "" where it gives none.

    Args:
        release: the model and its tokenizer.
        problems: their questions are asked.
        max_tokens: the most tokens that are generated for one.
        reasoning: whether to ask for the reasoning first.
        label: what the progress bar is called.
        progress: whether to show one on standard error.
    """
    prompts = [prompt(problem.question, reasoning) for problem in problems]
    with tqdm(total=len(prompts), desc=label, unit="prompt", disable=not progress, leave=False) as bar:
        texts = complete(release, prompts, max_tokens, bar.update)
    if reasoning:  # without an answer section, the text's first line is no answer
        texts = [text if ANSWER in text else "" for text in texts]
    return [parse_answer(text) for text in texts]


@torch.inference_mode()
def complete(
    release: Release, prompts: Sequence[str], max_tokens: int, done: Callable[[int], object] = lambda count: None
) -> list[str]:
    """The model's greedy continuation of each prompt, up to `<eos>`, in batches of similar length."""
    model, tokenizer = release.model, release.tokenizer
    ids = [encode_document(tokenizer, text)[:-1] for text in prompts]  # without the document's <eos>
    texts = [""] * len(ids)
    for batch in batches_by_length(ids, PROMPT_TOKENS_PER_BATCH):
        inputs = tokenizer.pad({"input_ids": [ids[index] for index in batch]}, padding_side="left", return_tensors="pt")
        inputs = inputs.to(model.device)
        width = inputs["input_ids"].shape[1]
        outputs = model.generate(  # pyright: ignore[reportAttributeAccessIssue] (hidden by transformers' lazy imports)
            **inputs,
            do_sample=False,
            max_new_tokens=max(1, min(max_tokens, model.config.max_position_embeddings - width)),
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        continuations = tokenizer.batch_decode(outputs[:, width:], skip_special_tokens=True)
        for index, continuation in zip(batch, continuations, strict=True):
            texts[index] = continuation
        done(len(batch))
    return texts


def score(problems: Sequence[Problem], answers: Sequence[str]) -> dict:
    """The number of exact matches and their share, with its 95% interval."""
    correct = sum(parse_answer(problem.answer) == given for problem, given in zip(problems, answers, strict=True))
    total = len(problems)
    return {
        "correct": correct,
        "total": total,
        "accuracy": correct / total,
        "interval": wilson_interval(correct, total),
    }
