"""What the page says of one release, as JSON: made when the page is built, by the code that the Gradio page uses."""

import json
from collections.abc import Sequence
from typing import Any

from axion.data import format as problems
from axion.errors import AxionError
from axion.inference.chat import ChatError, conversation_prompt
from playground.api.requests import PARAMETER_NAMES
from playground.content.documentation import chapter_markdown, read_page
from playground.content.experts import error_json, experts_json
from playground.content.markup import render
from playground.content.model import model_html
from playground.generate.catalogue import OpenModel, can_chat
from playground.generate.chat import model_text
from playground.generate.events import recorded_text
from playground.generate.presets import Typed, comparison_prompt, first_request, first_settings, presets
from playground.generate.refusal import tell
from playground.generate.request import read_typed
from playground.locales import DEFAULT, LANGUAGES, Language, texts
from playground.web.markdown import to_html


def describe_model(model: OpenModel, others: Sequence[tuple[str, dict]] = ()) -> dict[str, Any]:
    """All that the page shows of a model without running it.

    Args:
        others: names and release.json files of the page's models, which its chart of sizes compares.

    Returns:
        "pages": language → {"facts", "about": HTML, "chapters": [[anchor, HTML], …]; "example": the value of the trace;
        "opening": the prompt and settings to start with; "presets": [[name, prompt], …]; "comparison": the prompt that
        a comparison starts with}. "experts" and "chat": values of views; "conversation": see `conversation_form`.
        Prompts are what the model reads.
    """
    return {
        "pages": {language: _describe(model, language, others) for language in LANGUAGES},
        "experts": _experts(model),
        "chat": model_text(model),
        "context": model.facts.context,
        "vocabulary": model.release.config.vocab_size,
        "looped": model.facts.is_looped,
        "problems": model.release.knows_questions and not can_chat(model.release),
        "chooses": model.release.thinks,
        "of_text": not model.release.knows_questions,
        "chat_settings": dict(first_settings(model.release)),
        "conversation": conversation_form(model) if can_chat(model.release) else None,
    }


def _describe(model: OpenModel, language: Language, others: Sequence[tuple[str, dict]]) -> dict[str, Any]:
    facts = render("facts.html", language, error=False, facts=model.facts, text=texts("page", language))
    try:
        about = model_html(model, language, others)
    except AxionError as error:
        about = render("error.html", language, message=tell(error, language))
    chapters = []
    for chapter in read_page(language):
        markdown = chapter_markdown(chapter, model, language, PARAMETER_NAMES)
        chapters.append([chapter.anchor, to_html(markdown)])
    typed, settings = first_request(model.release, language)
    return {
        "facts": facts,
        "about": about,
        "chapters": chapters,
        "example": recorded_text(model, language),
        "opening": {"prompt": _prompt(model, typed, language), "settings": dict(settings)},
        "presets": [
            [name, _prompt(model, Typed(text, False), language)]
            for name, text in presets(model.release, language).items()
        ],
        "comparison": _prompt(model, comparison_prompt(model.release, language), language),
    }


def _prompt(model: OpenModel, typed: Typed, language: Language) -> str:
    """What the model reads of what is typed."""
    return read_typed(model, *typed, language)[0]


def _experts(model: OpenModel) -> str:
    try:
        return experts_json(model)
    except AxionError as error:
        return error_json(str(error))


def conversation_form(model: OpenModel) -> dict[str, Any]:
    """What a chat template writes around the messages of a conversation, for a page that cannot run the template.

    Returns:
        "before": the first question, "answer": between a question and its answer, "question": between an answer and
        the next question, "after": the last question; "special": the names that no message may contain.

    Raises:
        AxionError: the template does more than to put texts around the messages.
    """
    tokenizer = model.release.tokenizer
    first, answer, second, answer_2, third = (f"\u2060 {mark} \u2060" for mark in "abcde")

    def write(*contents: str) -> str:
        roles = ("user", "assistant") * len(contents)
        messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]
        return conversation_prompt(tokenizer, messages, model.name)

    try:
        before, _, after = write(first).partition(first)
        middle = write(first, answer, second).removeprefix(before + first).removesuffix(second + after)
        to_answer, _, to_question = middle.partition(answer)
        longest = write(first, answer, second, answer_2, third)
    except ChatError as error:
        raise AxionError(f"{model.name}: {error}") from None
    expected = [before, first, to_answer, answer, to_question, second, to_answer, answer_2, to_question, third, after]
    if longest != "".join(expected):
        raise AxionError(f"{model.name}: a page without a server cannot follow its chat template; use another template")
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special and token.content]
    return {"before": before, "answer": to_answer, "question": to_question, "after": after, "special": special}


def problem_form() -> dict[str, Any]:
    """What the page needs to put a question into the form of a problem, see `axion.data.asking.problem_prompt`."""
    return {
        "question": problems.QUESTION,
        "answer": problems.ANSWER,
        "choice": problems.CHOICE,
        "sums": dict(problems.CANONICAL),
        "headings": {english: taught for taught, english in problems.ENGLISH_HEADINGS.items()},
    }


def to_json(value: object) -> str:
    """JSON without spaces; every `<` is escaped, so that no text in it can end the script element that holds it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


__all__ = ["DEFAULT", "conversation_form", "describe_model", "problem_form", "to_json"]
