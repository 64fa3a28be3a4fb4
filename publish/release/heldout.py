"""heldout.jsonl: some of the documents over which a release's loss was measured, for readers.

A line is one JSON object with the `text`, which for conversations includes the special tokens, and the kind of its
`source`. Documents of local files may be private: they are written only where the recipe says `release_heldout: true`.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from axion.data.prepare import ValidationDocument
from axion.recipe import Recipe
from axion.tokenizer import bos_and_eos
from publish.manifest import HELD_OUT

NUM_DOCUMENTS = 200


def held_out_texts(documents: Sequence[ValidationDocument], tokenizer: PreTrainedTokenizerFast) -> list[dict[str, str]]:
    """At most 200 of the documents, spread over all of them: "text" and "source" of each."""
    count = min(NUM_DOCUMENTS, len(documents))
    chosen = [documents[len(documents) * place // count] for place in range(count)]
    return [{"text": _text(document, tokenizer), "source": document.source} for document in chosen]


def _text(document: ValidationDocument, tokenizer: PreTrainedTokenizerFast) -> str:
    bos, eos = bos_and_eos(tokenizer)
    ids = document.ids.tolist()
    ids = ids[ids[0] == bos : len(ids) - (ids[-1] == eos)]
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def are_released(recipe: Recipe) -> bool:
    """Whether a release of this recipe has heldout.jsonl."""
    chosen = recipe.release_heldout
    return not recipe.data.has_local_text if chosen is None else chosen


def describe(recipe: Recipe, texts: Sequence[dict[str, str]]) -> str:
    """What a release shows of the held-out documents, for the person who publishes it."""
    names = ", ".join(dict.fromkeys(source.data_name for source in recipe.data.headline_sources))
    if are_released(recipe):
        off = "; --set release_heldout=false leaves it out" if recipe.data.has_local_text else ""
        return f"{HELD_OUT} shows {len(texts)} held-out documents of {names}{off}"
    private = ", which are read from local files" if recipe.data.has_local_text else ""
    return f"no held-out documents of {names}{private}; --set release_heldout=true adds {HELD_OUT}"


def write_held_out(recipe: Recipe, texts: Sequence[dict[str, str]], folder: Path) -> int:
    """Writes the file where the release has one. Returns the number of documents in it."""
    if not texts or not are_released(recipe):
        return 0
    lines = (json.dumps(each, ensure_ascii=False) for each in texts)
    (folder / HELD_OUT).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(texts)
