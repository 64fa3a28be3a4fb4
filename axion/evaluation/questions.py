"""Tasks that ask a model questions and count its right answers.

Each problem is asked in the direct form, and where both ways are measured also with its reasoning first. A model that
was taught to choose between the two is asked once, and chooses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from axion.data.format import Problem
from axion.data.sources import Gsm8k
from axion.data.sources.events import STEPS, events_tests
from axion.data.sources.files import Record, read_records
from axion.data.sources.one_step_stories import stories_tests
from axion.data.sources.phrasings import OPERATIONS, phrasings_tests
from axion.data.templates import LANGUAGES, read_templates
from axion.errors import AxionError
from axion.evaluation.answers import answer, score
from axion.evaluation.subject import NotApplicable, NotAvailable, Subject, available

ANSWER_TOKENS = 12
"""Enough for the answer to a sum and its `<eos>`."""
SUM_REASONING_TOKENS = 96
"""Enough for a sum's working, column by column, and its answer."""
REASONING_TOKENS = 256
"""Enough for the reasoning and the answer of nearly all problems in GSM8K."""
THINKING_TOKENS = 384
"""Enough for the working of a product of two numbers with three digits, and of a problem with five steps."""

PHRASED_DIGITS = (1, 2, 3)
PHRASED_PROMPTS = 50
"""Problems per operation, number of digits and language."""
STORY_PROMPTS = 250
"""Stories per language."""
EVENT_PROMPTS = 50
"""Problems per number of steps and language."""
SINGLE_STEP_FILE = "eval/singleop.jsonl"
SEED = 0


def measure_arithmetic(subject: Subject) -> dict:
    """Exact answers to sums and differences; those with two digits have operand pairs unseen in training."""
    return _sums(subject, ANSWER_TOKENS, reasoning=False)


def measure_arithmetic_reasoning(subject: Subject) -> dict:
    """Exact answers to the same sums and differences when the model is asked for its reasoning first."""
    return _sums(subject, SUM_REASONING_TOKENS, reasoning=True)


def _sums(subject: Subject, max_tokens: int, reasoning: bool) -> dict:
    scores = []
    for (digits, language), problems in subject.arithmetic.items():
        label = f"{digits}-digit sums ({language})"
        answers = answer(subject.release, problems, max_tokens, reasoning, label, subject.progress)
        scores.append({"digits": digits, "language": language, **score(problems, answers)})
    return {"scores": scores}


def measure_phrasings(subject: Subject) -> dict:
    """Exact answers to arithmetic in ways of asking that training holds out; also by each way of asking."""
    subject.needs_problems()
    holdout = subject.data.holdout_fraction
    asked = [
        ({"operation": sign, "digits": digits, "language": language}, problem)
        for sign in OPERATIONS
        for digits in PHRASED_DIGITS
        for language in LANGUAGES
        for problem in phrasings_tests(language, sign, digits, PHRASED_PROMPTS, SEED, holdout)
    ]
    answers = _ask_both_ways(subject, [problem for _, problem in asked], SUM_REASONING_TOKENS, "arithmetic as asked")
    ways = [({"language": problem.language, "template": problem.template}, problem) for _, problem in asked]
    return {"scores": _scores(asked, answers), "by_template": _scores(ways, answers)}


def measure_stories(subject: Subject) -> dict:
    """Exact answers to one-step stories from templates that training holds out."""
    subject.needs_problems()
    asked = []
    for language in LANGUAGES:
        kinds = {template.text: template.group for template in read_templates("stories", language)}
        problems = stories_tests(language, STORY_PROMPTS, SEED, subject.data.holdout_fraction)
        found = [({"kind": kinds[problem.template], "language": language}, problem) for problem in problems]
        order = [*dict.fromkeys(kinds.values())]
        asked += sorted(found, key=lambda each: order.index(each[0]["kind"]))
    answers = _ask_both_ways(subject, [problem for _, problem in asked], SUM_REASONING_TOKENS, "stories")
    return {"scores": _scores(asked, answers)}


def measure_events(subject: Subject) -> dict:
    """Exact answers to problems of one to five steps from sentences that training holds out."""
    subject.needs_problems()
    asked = [
        ({"steps": steps, "language": language}, story.problem)
        for steps in range(STEPS[0], STEPS[1] + 1)
        for language in LANGUAGES
        for story in events_tests(language, EVENT_PROMPTS, SEED, subject.data.holdout_fraction, steps)
    ]
    answers = _ask_both_ways(subject, [problem for _, problem in asked], REASONING_TOKENS, "problems of several steps")
    return {"scores": _scores(asked, answers)}


def measure_singleop(subject: Subject) -> dict:
    """Exact answers to English problems of one step that people wrote, MAWPS' SingleOp."""
    subject.needs_problems()
    records = read_records([subject.copy(SINGLE_STEP_FILE)], ("input", "target"))
    asked = [({"language": "en"}, _written(record)) for record in records]
    answers = _ask_both_ways(subject, [problem for _, problem in asked], SUM_REASONING_TOKENS, "written problems")
    return {"data": "MAWPS SingleOp", "dataset": None, "scores": _scores(asked, answers)}


def measure_gsm8k_test(subject: Subject) -> dict:
    """Exact answers to test problems in GSM8K's form, after the model's own reasoning."""
    source = subject.data.find(Gsm8k)
    if source is None:
        reason = "the recipe has no source of kind gsm8k"
        raise NotAvailable(reason) if subject.data.has_problems else NotApplicable(reason)
    with available(source.test_files or ()):
        problems = list(source.problems("test"))
    answers = answer(subject.release, problems, REASONING_TOKENS, True, "test problems", subject.progress)
    dataset = source.hub_id if source.test_is_from_hub else None
    return {"data": source.test_name, "dataset": dataset, **score(problems, answers)}


def _written(record: Record) -> Problem:
    """A problem of `SINGLE_STEP_FILE`; its answer is written without a fraction where that is zero."""
    target = record.fields["target"]
    if not isinstance(target, int | float):
        raise AxionError(f"{record.where}: target is {target!r}; it must be a number")
    return Problem(record.text("input", "input").strip(), f"{target:g}")


def _ask_both_ways(
    subject: Subject, problems: Sequence[Problem], tokens: int, label: str
) -> dict[bool | None, list[str]]:
    """Whether the reasoning came first → the answers; `tokens` is the most that it may take. None: the model chose."""
    ways = ((None, THINKING_TOKENS),) if subject.release.thinks else ((False, ANSWER_TOKENS), (True, tokens))
    return {
        reasoning: answer(subject.release, problems, most, reasoning, label, subject.progress)
        for reasoning, most in ways
    }


def _scores(asked: Sequence[tuple[dict[str, Any], Problem]], answers: dict[bool | None, list[str]]) -> list[dict]:
    """A score for each description of problems, in the order of their first problem, and each way of asking."""
    groups: dict[tuple, list[int]] = {}
    for index, (described, _) in enumerate(asked):
        groups.setdefault(tuple(described.items()), []).append(index)
    return [
        {**dict(described), "reasoning": reasoning, **_score_of(indices, asked, given)}
        for described, indices in groups.items()
        for reasoning, given in answers.items()
    ]


def _score_of(indices: Iterable[int], asked: Sequence[tuple[dict, Problem]], given: Sequence[str]) -> dict:
    indices = list(indices)
    return score([asked[index][1] for index in indices], [given[index] for index in indices])
