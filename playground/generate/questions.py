"""What a visitor typed, and the prompt that a model reads: a question in the form that it was taught, or raw text."""

from axion.data.format import in_english_form, question_in
from axion.errors import AxionError
from axion.release import Release
from playground.locales import LANGUAGES, Language


def is_question_of(release: Release, question: object, prompt: str) -> bool:
    """Whether the prompt is what this question becomes on the page, in any of its languages."""
    if not isinstance(question, str) or not question.strip() or not release.knows_questions:
        return False
    try:
        return any(release.prompt_for(question, language) == prompt for language in LANGUAGES)
    except AxionError:  # its chat template rejects the question
        return False


def to_type(release: Release, prompt: str, language: Language) -> tuple[str, bool]:
    """What a visitor would type to give the model this prompt, and whether as raw text.

    A question stands alone where its form follows from it; else English readers see English headings.
    """
    shorter = [question_in(prompt), in_english_form(prompt) if language == "en" else prompt]
    text = next((each for each in shorter if is_question_of(release, each, prompt)), prompt)
    return text, not is_question_of(release, text, prompt)
