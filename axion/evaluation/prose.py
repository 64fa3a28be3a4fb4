"""Bits per byte on prose that does not depend on what a model was trained on, from local copies."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import accumulate
from typing import NamedTuple

from axion.checksums import identify
from axion.data.recipe import DataRecipe
from axion.data.sources import Text
from axion.data.sources.text import DEFAULT_SEPARATOR
from axion.evaluation.intervals import bits_interval
from axion.evaluation.outcomes import OUTCOMES, Outcomes
from axion.evaluation.subject import NotAvailable, Subject
from axion.tokenizer import encode_documents
from axion.training.validation import document_losses, total_loss

CAP_BYTES = 256 * 1024
"""The most bytes of a file that are read, in whole documents, but at least one document."""


_CHAPTER = re.compile(r"^(?=CAPÍTULO )", re.MULTILINE)
_MARKUP = re.compile(r"(?<![^ ])[`']+|[`']{2,}(?![^ ])")
_BEFORE_MARK = re.compile(r" +(?=[,.;:!?)\]%](?![^ \n,.;:!?)\]]))|(?<=[(\[]) +")


def chapters(book: str) -> list[str]:
    """A book in pieces that begin with a line such as `CAPÍTULO II`; one without chapters is whole."""
    return [text for part in _CHAPTER.split(book) if (text := part.strip())]


def as_written(article: str) -> list[str]:
    """A text that has a blank around every word and mark, as it was written, but without quotation marks.

    They are left out because those of the wiki's bold type cannot be told from others.
    """
    text = re.sub(" +", " ", _MARKUP.sub("", article))
    return [_BEFORE_MARK.sub("", text).strip()]


def _whole(text: str) -> list[str]:
    return [text]


class Prose(NamedTuple):
    """A text over which the loss is measured."""

    file: str
    """One of `axion.evaluation.subject.COPIES`."""
    data: str
    """Its name in tables."""
    language: str
    hub_id: str | None = None
    """The data set on the Hub from whose train split it was cut."""
    separator: str = DEFAULT_SEPARATOR
    """What stands between two documents."""
    documents: Callable[[str], list[str]] = _whole
    """The documents of what stands between two separators."""


TEXTS = (
    Prose("text_en/tinystories_sample.txt", "TinyStories", "en", "roneneldan/TinyStories"),
    Prose("text_en/grimm_household_tales.txt", "Grimms' tales", "en"),
    Prose("text_en/african_storybook_en.txt", "African Storybook", "en"),
    Prose("text_pt/african_storybook_pt.txt", "African Storybook", "pt"),
    Prose("text_pt/machado_contos_part.txt", "Machado de Assis, tales", "pt", documents=chapters),
    Prose("text_pt/machado_romances.txt", "Machado de Assis, novels", "pt", documents=chapters),
    Prose("text_pt/ptwiki_valid.txt", "Wikipedia", "pt", separator="\n", documents=as_written),
)
"""Stories for children and folk tales; tales and novels of the 19th century; articles of an encyclopedia."""


class Held(NamedTuple):
    """A whole document, all of which carries loss."""

    ids: Sequence[int]
    labels: Sequence[int]
    num_bytes: int


def measure_prose(subject: Subject) -> dict:
    """The loss on the first documents of each text, whole, and whether the model was trained on them."""
    found, missing = [], []
    for text in TEXTS:
        try:
            found.append((text, subject.copy(text.file)))
        except NotAvailable as reason:
            missing.append(reason)
    if not found:
        raise missing[0]
    scores = [_measure(subject, text, path) for text, path in found]
    return {"cap_bytes": CAP_BYTES, "missing": [str(reason) for reason in missing], "scores": scores}


def _measure(subject: Subject, text: Prose, path: str) -> dict:
    data = DataRecipe(sources=(Text(files=[path], language=text.language, separator=text.separator),))
    read = data.sources[0].documents(data.split, data.seed)
    texts = [part for document in read for part in text.documents(document.text)]
    sizes = [len(each.encode()) for each in texts]
    count = max(1, sum(total <= CAP_BYTES for total in accumulate(sizes)))
    ids = encode_documents(subject.release.tokenizer, texts[:count])
    losses = document_losses(subject.release.model, map(Held, ids, ids, sizes))
    [file] = identify([path])
    return {
        "data": text.data,
        "language": text.language,
        **file,
        "trained_on": _was_trained_on(subject.data, text, file["sha256"]),
        "documents": count,
        **asdict(total_loss(losses)),
        "interval": bits_interval(losses),
        OUTCOMES: [Outcomes.of_losses(texts[:count], losses)],
    }


def _was_trained_on(data: DataRecipe, text: Prose, sha256: str) -> bool:
    """Whether a recipe reads the same file, or the data set from which it was cut."""
    read = {file.sha256 for source in data.file_sources for file in source.local_files or ()}
    read |= {file["sha256"] for file in identify(data.local_paths())}
    return sha256 in read or text.hub_id in data.hub_ids
