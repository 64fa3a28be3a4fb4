"""The openings of held-out texts: what a model of text is given to continue, on its card and on its page."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast

from axion.data.prepare import Prepared, ValidationDocument
from axion.data.sources import SOURCES

NUM_OPENINGS = 4
CHARACTERS = 90


def openings(data: Prepared, count: int = NUM_OPENINGS) -> list[str]:
    """The openings of `count` held-out texts, spread over all of them; none where a model can be asked problems.

    They depend on the data alone, so they are chosen before the model has written anything.
    """
    if data.data.has_problems:
        return []
    texts = [document for document in data.validation if SOURCES[document.source].form == "text"]
    found = (opening(_text(each, data.tokenizer)) for each in _spread(texts, count))
    return [text for text in dict.fromkeys(found) if text]


def opening(text: str) -> str:
    """The first words of a text: at most 90 characters and half of it, but at least one character."""
    limit = max(min(CHARACTERS, len(text) // 2), 1)
    words = text[: limit + 1].rsplit(maxsplit=1)
    return words[0].rstrip() if len(words) == 2 else text[:limit].strip()


def _spread(documents: Sequence[ValidationDocument], count: int) -> list[ValidationDocument]:
    return [documents[len(documents) * place // count] for place in range(min(count, len(documents)))]


def _text(document: ValidationDocument, tokenizer: PreTrainedTokenizerFast) -> str:
    text = tokenizer.decode(document.ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text)
