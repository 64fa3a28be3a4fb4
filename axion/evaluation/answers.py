"""A model's answers to questions, and how many of them are right.

Text is generated greedily or with given seeds, so a second run gives the same answers.
"""

import hashlib
from collections.abc import Callable, Sequence

from tqdm import tqdm

from axion.data.format import ANSWER_HEADING, Problem, parse_answer, prompt
from axion.evaluation.intervals import wilson_interval
from axion.evaluation.outcomes import OUTCOMES, Outcomes
from axion.inference.sampling import Sampling
from axion.inference.several import write_texts
from axion.inference.stream import end_tokens
from axion.release import Release
from axion.tokenizer import encode_documents


def answer(
    release: Release,
    problems: Sequence[Problem],
    max_tokens: int,
    reasoning: bool | None = False,
    label: str = "",
    progress: bool = False,
) -> list[str]:
    """The model's answer to each problem; "" where it gives none.

    Args:
        release: the model and its tokenizer.
        problems: their questions are asked.
        max_tokens: the most tokens that are generated for one.
        reasoning: whether to ask for the reasoning first; None leaves it to the model.
        label: what the progress bar is called.
        progress: whether to show one on standard error.
    """
    prompts = [prompt(problem.question, reasoning) for problem in problems]
    with tqdm(total=len(prompts), desc=label, unit="prompt", disable=not progress, leave=False) as bar:
        texts = complete(release, prompts, max_tokens, bar.update)
    if reasoning is not False:  # without an answer section, the text's first line is no answer
        texts = [text if ANSWER_HEADING in text else "" for text in texts]
    return [parse_answer(text) for text in texts]


def complete(
    release: Release, prompts: Sequence[str], max_tokens: int, done: Callable[[int], object] = lambda count: None
) -> list[str]:
    """The model's greedy continuation of each prompt, up to the token that ends a text."""
    return [texts[0] for texts in complete_often(release, prompts, max_tokens, done=done)]


def complete_often(
    release: Release,
    prompts: Sequence[str | Sequence[int]],
    max_tokens: int,
    samples: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    done: Callable[[int], object] = lambda count: None,
) -> list[list[str]]:
    """The model's continuations of each prompt, `samples` of them, up to the token that ends a text.

    A continuation depends on the prompt, its number among the samples and the seed, not on the other prompts. Prompts
    that fill the context have empty ones.

    Args:
        release: the model and its tokenizer.
        prompts: texts without special tokens, or token ids from `<bos>` on.
        max_tokens: the most tokens of a continuation.
        samples: with temperature 0 they are all the same.
        temperature: 0 for the likeliest tokens.
        seed: of all draws.
        done: called, from any thread, with the number of continuations that were finished since its last call.
    """
    tokenizer, model = release.tokenizer, release.model
    documents = iter(encode_documents(tokenizer, [prompt for prompt in prompts if isinstance(prompt, str)]))
    ids = [next(documents)[:-1] if isinstance(prompt, str) else [*prompt] for prompt in prompts]  # without <eos>
    numbers = range(samples if temperature else 1)
    written = write_texts(
        model,
        [prompt_ids for prompt_ids in ids for _ in numbers],
        Sampling(temperature=temperature, max_new_tokens=max_tokens),
        end_tokens(model, tokenizer),
        [_seed_of(seed, prompt_ids, number) for prompt_ids in ids for number in numbers],
        done=done,
    )
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    each = [texts[start : start + len(numbers)] for start in range(0, len(texts), len(numbers))]
    return each if temperature else [given * samples for given in each]


def _seed_of(seed: int, ids: Sequence[int], number: int) -> int:
    """The seed of the sample with this number, from 0, of a prompt."""
    digest = hashlib.sha256(f"{seed} {number} {[*ids]}".encode()).digest()
    return int.from_bytes(digest[:6])


def score(problems: Sequence[Problem], answers: Sequence[str]) -> dict:
    """The number of exact matches and their share, with its 95% interval, and the outcomes."""
    right = [parse_answer(problem.answer) == given for problem, given in zip(problems, answers, strict=True)]
    outcomes = Outcomes.of_answers([problem.question for problem in problems], right)
    return accuracy(sum(right), len(right)) | {OUTCOMES: [outcomes]}


def accuracy(correct: int, total: int) -> dict:
    """How many of all answers are right, and their share, with its 95% interval."""
    return {
        "correct": correct,
        "total": total,
        "accuracy": correct / total,
        "interval": wilson_interval(correct, total),
    }
