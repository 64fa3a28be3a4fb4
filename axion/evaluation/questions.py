"""Tasks that ask a model questions and count its right answers.

Each problem is asked in the direct form, and where both ways are measured also with its reasoning first. A model that
was taught to choose between the two is asked once, and chooses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple

from axion.data.format import ANSWER_HEADING, Problem, parse_answer, prompt
from axion.data.sources import Gsm8k
from axion.data.sources.events import STEPS, events_tests
from axion.data.sources.files import Record, read_records
from axion.data.sources.one_step_stories import stories_tests
from axion.data.sources.phrasings import OPERATIONS, phrasings_tests
from axion.data.templates import LANGUAGES, read_templates
from axion.errors import AxionError
from axion.evaluation.answers import answer, score
from axion.evaluation.intervals import bootstrap_interval
from axion.evaluation.subject import NotApplicable, NotAvailable, Subject, available

ANSWER_TOKENS = 12
"""Enough for the answer to a sum and its `<eos>`."""
SUM_REASONING_TOKENS = 96
"""Enough for a sum's working, column by column, and its answer."""
REASONING_TOKENS = 256
"""Enough for the reasoning and the answer of nearly all problems in GSM8K."""
THINKING_TOKENS = 384
"""Enough for the working of a product of two numbers with three digits, and of a problem with five steps."""

PHRASED = "arithmetic as asked"
PHRASED_DIGITS = (1, 2, 3)
PHRASED_PROMPTS = 50
"""Problems per operation, number of digits, language and way of typing."""
TYPINGS = {"clean": 0.0, "careless": 1.0}
"""How questions are typed → the share of them that `axion.data.templates.careless` types."""
LONG_DIGITS = range(2, 11)
LONG_PROMPTS = 25
"""Problems per operation, number of digits and language."""
STORY_PROMPTS = 250
"""Stories per language."""
EVENT_PROMPTS = 50
"""Problems per number of steps and language."""
MAJORITY_SAMPLES, MAJORITY_TEMPERATURE = 8, 0.7
"""Of the drawn answers of which the most frequent counts."""
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


class Asked(NamedTuple):
    """A problem, and what it is."""

    described: dict[str, Any]
    problem: Problem


class DirectAnswer(NamedTuple):
    """What a model wrote when it was asked for the answer alone."""

    prompt: str
    text: str
    is_right: bool


def measure_phrasings(subject: Subject) -> dict:
    """Exact answers to arithmetic in ways of asking that training holds out; also by each way of asking."""
    asked = subject.once(phrased_questions)
    problems = [problem for _, problem in asked]
    answers = _ask_both_ways(subject, problems, SUM_REASONING_TOKENS, PHRASED, phrased_answers)
    ways = [Asked({"language": each.language, "template": each.template}, each) for each in problems]
    return {"scores": _scores(asked, answers), "by_template": _scores(ways, answers)}


def phrased_questions(subject: Subject) -> list[Asked]:
    """Arithmetic in ways of asking that training holds out."""
    subject.needs_problems()
    kinds = product(TYPINGS, OPERATIONS, PHRASED_DIGITS, LANGUAGES)
    return [
        Asked({"typing": typing, "operation": sign, "digits": digits, "language": language}, problem)
        for typing, sign, digits, language in kinds
        for problem in phrasings_tests(
            language, sign, digits, PHRASED_PROMPTS, SEED, subject.data.holdout_fraction, careless=TYPINGS[typing]
        )
    ]


def phrased_answers(subject: Subject) -> list[DirectAnswer]:
    """What the model answers directly to these questions."""
    problems = [problem for _, problem in subject.once(phrased_questions)]
    prompts = [prompt(problem.question) for problem in problems]
    texts = subject.answers(prompts, ANSWER_TOKENS, label=PHRASED)
    return [
        DirectAnswer(asked, text, parse_answer(text) == parse_answer(problem.answer))
        for asked, [text], problem in zip(prompts, texts, problems, strict=True)
    ]


def measure_long_sums(subject: Subject) -> dict:
    """Exact answers to sums and differences of two to ten digits, in ways of asking and with pairs of operands that
    training holds out; also by the number of digits.
    """
    subject.needs_problems()
    kinds = [(sign, language, digits) for sign in ("+", "-") for language in LANGUAGES for digits in LONG_DIGITS]
    asked = [
        (kind, problem)
        for kind in kinds
        for problem in phrasings_tests(
            language=kind[1],
            operation=kind[0],
            digits=kind[2],
            count=LONG_PROMPTS,
            seed=SEED,
            holdout=subject.data.holdout_fraction,
        )
    ]
    answers = _ask_both_ways(subject, [problem for _, problem in asked], THINKING_TOKENS, "long sums")
    together = [Asked({"operation": sign, "language": language}, problem) for (sign, language, _), problem in asked]
    by_digits = [Asked({"operation": sign, "digits": digits}, problem) for (sign, _, digits), problem in asked]
    return {"scores": _scores(together, answers), "by_digits": _scores(by_digits, answers)}


def measure_stories(subject: Subject) -> dict:
    """Exact answers to one-step stories from templates that training holds out."""
    subject.needs_problems()
    asked = []
    for language in LANGUAGES:
        kinds = {template.text: template.group for template in read_templates("stories", language)}
        problems = stories_tests(language, STORY_PROMPTS, SEED, subject.data.holdout_fraction)
        found = [Asked({"kind": kinds[problem.template], "language": language}, problem) for problem in problems]
        order = [*dict.fromkeys(kinds.values())]
        asked += sorted(found, key=lambda each: order.index(each.described["kind"]))
    answers = _ask_both_ways(subject, [problem for _, problem in asked], SUM_REASONING_TOKENS, "stories")
    return {"scores": _scores(asked, answers)}


def measure_events(subject: Subject) -> dict:
    """Exact answers to problems of one to five steps from sentences that training holds out."""
    asked = subject.once(event_questions)
    answers = _ask_both_ways(subject, [problem for _, problem in asked], REASONING_TOKENS, "problems of several steps")
    return {"scores": _scores(asked, answers)}


def event_questions(subject: Subject) -> list[Asked]:
    """Problems of one to five steps from sentences that training holds out."""
    subject.needs_problems()
    return [
        Asked({"steps": steps, "language": language}, story.problem)
        for steps in range(STEPS[0], STEPS[1] + 1)
        for language in LANGUAGES
        for story in events_tests(language, EVENT_PROMPTS, SEED, subject.data.holdout_fraction, steps)
    ]


def measure_singleop(subject: Subject) -> dict:
    """Exact answers to English problems of one step that people wrote, MAWPS' SingleOp."""
    subject.needs_problems()
    records = read_records([subject.copy(SINGLE_STEP_FILE)], ("input", "target"))
    asked = [Asked({"language": "en"}, _written(record)) for record in records]
    answers = _ask_both_ways(subject, [problem for _, problem in asked], SUM_REASONING_TOKENS, "written problems")
    return {"data": "MAWPS SingleOp", "dataset": None, "scores": _scores(asked, answers)}


def measure_gsm8k_test(subject: Subject) -> dict:
    """Exact answers to test problems in GSM8K's form, after the model's own reasoning."""
    source, problems = subject.once(gsm8k_problems)
    answers = answer(subject.release, problems, REASONING_TOKENS, True, "test problems", subject.progress)
    return {**_gsm8k_data(source), **score(problems, answers)}


def measure_gsm8k_majority(subject: Subject) -> dict:
    """The same with the most frequent answer of several that are drawn; of equally frequent ones, that drawn first."""
    source, problems = subject.once(gsm8k_problems)
    prompts = [prompt(problem.question, reasoning=True) for problem in problems]
    settings = {"samples": MAJORITY_SAMPLES, "temperature": MAJORITY_TEMPERATURE, "seed": SEED}
    texts = subject.answers(prompts, REASONING_TOKENS, **settings, label="test problems, drawn")
    drawn = [[parse_answer(text) for text in each if ANSWER_HEADING in text] for each in texts]
    answers = [_most_frequent(each) for each in drawn]
    right = [
        sum(answer == parse_answer(problem.answer) for answer in each)
        for problem, each in zip(problems, drawn, strict=True)
    ]
    single_interval = bootstrap_interval(right, [MAJORITY_SAMPLES] * len(right))
    single = {"single_accuracy": sum(right) / MAJORITY_SAMPLES / len(right), "single_interval": single_interval}
    return {**_gsm8k_data(source), **settings, **score(problems, answers), **single}


def _most_frequent(answers: Sequence[str]) -> str:
    """ "" where there are none."""
    counts = Counter(filter(None, answers))
    return counts.most_common(1)[0][0] if counts else ""


def gsm8k_problems(subject: Subject) -> tuple[Gsm8k, list[Problem]]:
    """The recipe's source in GSM8K's form, and its test problems. Raises NotAvailable or NotApplicable."""
    source = subject.data.find(Gsm8k)
    if source is None:
        reason = "the recipe has no source of kind gsm8k"
        raise NotAvailable(reason) if subject.data.has_problems else NotApplicable(reason)
    with available(source.test_files or ()):
        return source, list(source.problems("test"))


def _gsm8k_data(source: Gsm8k) -> dict:
    return {"data": source.test_name, "dataset": source.hub_id if source.test_is_from_hub else None}


def _written(record: Record) -> Problem:
    """A problem of `SINGLE_STEP_FILE`; its answer is written without a fraction where that is zero."""
    target = record.fields.get("target")
    if not isinstance(target, int | float) or isinstance(target, bool):
        raise AxionError(f"{record.where}: target is {target!r}; it must be a number")
    return Problem(record.text("input", "input").strip(), f"{target:.15g}")


def _ask_both_ways(
    subject: Subject,
    problems: Sequence[Problem],
    tokens: int,
    label: str,
    direct: Callable[[Subject], list[DirectAnswer]] | None = None,
) -> dict[bool | None, list[str]]:
    """Whether the reasoning came first → the answers. None: the model chose.

    Args:
        subject, problems, label: see `answer`.
        tokens: the most that the reasoning may take.
        direct: makes the direct answers of the subject once, where another task reads them too.
    """

    def ask(reasoning: bool | None, most: int) -> list[str]:
        return answer(subject.release, problems, most, reasoning, label, subject.progress)

    if subject.release.thinks:
        return {None: ask(None, THINKING_TOKENS)}
    made = [parse_answer(each.text) for each in subject.once(direct)] if direct else ask(False, ANSWER_TOKENS)
    return {False: made, True: ask(True, tokens)}


def _scores(asked: Sequence[Asked], answers: dict[bool | None, list[str]]) -> list[dict]:
    """A score for each description of problems, in the order of their first problem, and each way of asking."""
    groups: dict[tuple, list[int]] = {}
    for index, (described, _) in enumerate(asked):
        groups.setdefault(tuple(described.items()), []).append(index)
    return [
        {**dict(described), "reasoning": reasoning, **_score_of(indices, asked, given)}
        for described, indices in groups.items()
        for reasoning, given in answers.items()
    ]


def _score_of(indices: Iterable[int], asked: Sequence[Asked], given: Sequence[str]) -> dict:
    indices = list(indices)
    return score([asked[index].problem for index in indices], [given[index] for index in indices])
