"""The generations that a release records for the page to show first, one in each language of its questions."""

from collections.abc import Mapping
from typing import Any

from axion.data.format import prompt
from axion.inference.chat import can_chat
from axion.inference.sampling import Sampling
from axion.inference.stream import make_trace
from axion.release import Release
from publish.release.measure import TEXT_SAMPLING

ASKED = {
    "en": "Tom has 12 apples. He buys 15 more. How many apples does Tom have now?",
    "pt": "Ana tem 12 maçãs. Ela compra mais 15. Quantas maçãs Ana tem agora?",
}
"""Language → a problem. Its reasoning is asked for, unless the model chooses, since an answer alone is too short."""
QUESTIONS = {"en": "What is your name?", "pt": "Quem é você?"}
"""The same for a model that was taught to chat."""
EXAMPLE_SAMPLING = Sampling()
"""The defaults of the page and of the command line."""
PARTS = ("language", "prompt", "sampling", "steps")


def example_prompts(release: Release) -> dict[str | None, str]:
    """Language → prompt of each example; of a model of text None → the first of its openings."""
    if not release.knows_questions:
        return {None: release.openings[0]}
    if can_chat(release.tokenizer) and not release.thinks:
        return {language: release.prompt_for(question, language) for language, question in QUESTIONS.items()}
    return {language: prompt(asked, None if release.thinks else True) for language, asked in ASKED.items()}


def record_examples(release: Release, name: str) -> dict[str, Any]:
    """The contents of trace.json without favourites: the first example, and the others as "others"."""
    sampling = EXAMPLE_SAMPLING if release.knows_questions else TEXT_SAMPLING
    traces = [
        {**make_trace(name, release.model, release.tokenizer, asked, sampling), "language": language}
        for language, asked in example_prompts(release).items()
    ]
    first, *others = traces
    return first | {"others": [{part: trace[part] for part in PARTS} for trace in others]}


def with_todays_examples(trace: Mapping[str, Any], release: Release, name: str) -> dict[str, Any]:
    """A recorded trace, made again where its examples are not those that are recorded today. Favourites are kept."""
    recorded = {each.get("language"): each["prompt"] for each in (trace, *trace.get("others", ()))}
    if recorded == example_prompts(release):
        return dict(trace)
    return record_examples(release, name) | {"favourites": trace.get("favourites", [])}
