"""Existing tokenizers: tiktoken's encodings, and that of any model on the Hub or in a folder.

Each becomes a `PreTrainedTokenizerFast` that puts its token for the beginning of a text before what it encodes. A
tokenizer without tokens for the beginning of a text or for padding takes the one for the end.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from tokenizers import Tokenizer, processors

from axion import split_patterns
from axion.errors import AxionError, one_line
from axion.tokenizer import SPECIAL_IDS, encode_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"

CHECKED_TEXTS, CHECKED_CHARACTERS = 256, 4096
"""How many texts are decoded again after encoding, and how much of each."""


@dataclass(frozen=True)
class Encoding:
    """One of tiktoken's encodings; the values are those of `tiktoken_ext.openai_public`."""

    ranks: str
    """The encoding whose file of ranks it is."""
    sha256: str
    """Of that file."""
    pattern: str
    """Splits a text, in the syntax of `tokenizers`."""
    special_tokens: dict[str, int]
    size: int
    """Entries of the vocabulary, unused ones included."""

    @property
    def end_of_text(self) -> int:
        """The id that begins, ends and pads texts."""
        return self.special_tokens[END_OF_TEXT]


ENCODINGS: Mapping[str, Encoding] = MappingProxyType(
    {
        "gpt2": Encoding(
            "r50k_base",
            "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
            split_patterns.GPT2,
            {END_OF_TEXT: 50_256},
            50_257,
        ),
        "cl100k_base": Encoding(
            "cl100k_base",
            "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
            split_patterns.CL100K_BASE,
            {
                END_OF_TEXT: 100_257,
                "<|fim_prefix|>": 100_258,
                "<|fim_middle|>": 100_259,
                "<|fim_suffix|>": 100_260,
                "<|endofprompt|>": 100_276,
            },
            100_277,
        ),
    }
)


def tiktoken_tokenizer(name: str, file: str | None = None) -> PreTrainedTokenizerFast:
    """One of ENCODINGS, with exactly its ids.

    Args:
        name: of the encoding.
        file: its file of ranks, such as `cl100k_base.tiktoken`; by default tiktoken fetches it, and caches it in the
            folder that TIKTOKEN_CACHE_DIR names.

    Raises:
        AxionError: the file cannot be read or is another one, or cannot be fetched.
    """
    from transformers.convert_slow_tokenizer import TikTokenConverter

    encoding = ENCODINGS[name]

    class Converter(TikTokenConverter):
        """Takes the ranks themselves, and adds the entries of the vocabulary that have none."""

        def extract_vocab_merges_from_model(self, tiktoken_url):
            vocabulary, merges = super().extract_vocab_merges_from_model(tiktoken_url)
            # Names that no split of a text can give: they hold letters and signs together.
            unused = set(range(encoding.size)) - {*vocabulary.values(), *encoding.special_tokens.values()}
            return vocabulary | encoding.special_tokens | {f"<|unused_{rank}|>": rank for rank in unused}, merges

        @staticmethod
        def load_tiktoken_bpe(tiktoken_url):
            return tiktoken_url

    ranks = _fetch_ranks(encoding) if file is None else _read_ranks(name, encoding, file)
    converter = Converter(ranks, encoding.pattern, extra_special_tokens=list(encoding.special_tokens))
    return _fast(converter.converted(), END_OF_TEXT, END_OF_TEXT, END_OF_TEXT)


def _read_ranks(name: str, encoding: Encoding, file: str) -> dict[bytes, int]:
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise AxionError(f"tokenizer.file: {file} cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != encoding.sha256:
        raise AxionError(f"tokenizer.file: {file} is not {encoding.ranks}.tiktoken, the ranks of {name}")
    rows = (line.split() for line in content.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in rows}


def _fetch_ranks(encoding: Encoding) -> dict[bytes, int]:
    import tiktoken

    try:
        return tiktoken.get_encoding(encoding.ranks)._mergeable_ranks
    except Exception as error:  # of requests and of the network; ValueError where the file is another one
        raise AxionError(
            f"the ranks of {encoding.ranks} cannot be fetched: {one_line(error, 120)}; "
            f"give the path of {encoding.ranks}.tiktoken as tokenizer.file"
        ) from None


def hub_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer of a model on the Hub or in a local folder.

    Raises:
        AxionError: there is none, it cannot be fetched, it has no fast form, or no token that ends a text.
    """
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)  # None asks
    except Exception as error:  # transformers, tokenizers and the Hub's client each raise their own
        raise AxionError(f"the tokenizer of {name} cannot be loaded: {one_line(error, 160)}") from None
    backend = getattr(loaded, "backend_tokenizer", None)
    if backend is None:
        raise AxionError(f"the tokenizer of {name} has no fast form (tokenizer.json); choose another")
    end = loaded.eos_token
    if end is None:
        raise AxionError(f"the tokenizer of {name} has no token that ends a text (eos_token); choose another")
    own = Tokenizer.from_str(backend.to_str())
    own.no_padding()
    own.no_truncation()
    return _fast(own, loaded.bos_token or end, end, loaded.pad_token or end, loaded.unk_token)


def check_round_trip(name: str, tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> None:
    """Checks on the beginnings of some texts that decoding returns what was encoded.

    A tokenizer that lower-cases or drops characters leaves less to predict, so that bits per byte would be too low.
    Texts with the same Unicode normal form NFC count as equal.

    Args:
        name: of the tokenizer, for messages.
        tokenizer: what is checked.
        texts: the first 256 are read.

    Raises:
        AxionError: a text comes back changed.
    """
    for text in islice(texts, CHECKED_TEXTS):
        original = unicodedata.normalize("NFC", text[:CHECKED_CHARACTERS].strip())
        ids = encode_texts(tokenizer, [original])[0]
        decoded = unicodedata.normalize("NFC", str(tokenizer.decode(ids, clean_up_tokenization_spaces=False)).strip())
        if decoded != original:
            pairs = enumerate(zip(original, decoded, strict=False))
            at = next((place for place, (ours, theirs) in pairs if ours != theirs), min(len(original), len(decoded)))
            start = max(at - 10, 0)
            raise AxionError(
                f"the tokenizer of {name} does not keep the text: {original[start : at + 20]!r} comes back as "
                f"{decoded[start : at + 20]!r}; choose one that keeps every character, or train one "
                "(tokenizer.kind=bpe)"
            )


@cache
def hub_facts(name: str, revision: str | None) -> tuple[int, dict[str, int | None]]:
    """Size of the vocabulary of `hub_tokenizer`, and its special ids as a model's config has them."""
    tokenizer = hub_tokenizer(name, revision)
    return vocabulary_size(tokenizer), model_ids(tokenizer)


def vocabulary_size(tokenizer: PreTrainedTokenizerFast) -> int:
    """Rows that a table of embeddings needs: one more than the largest id."""
    return 1 + max(tokenizer.get_vocab().values())


def model_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    """bos_token_id, eos_token_id and pad_token_id as a model's config has them.

    Where a text's end also pads, the config has no padding: the embedding of a padding token is never trained.
    """
    bos, eos, pad = (cast("int | None", getattr(tokenizer, name)) for name in SPECIAL_IDS)
    return {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": None if pad in (bos, eos) else pad}


def resolve_tokenizer(name: str, revision: str | None) -> str | None:
    """The commit of a model's tokenizer on the Hub; None for a folder.

    Raises:
        AxionError: it cannot be found, or there is neither a connection nor a cached copy.
    """
    if Path(name).is_dir():
        return None
    from huggingface_hub import hf_hub_download

    problem: Exception | None = None
    for file in ("tokenizer_config.json", "tokenizer.json"):
        try:
            return Path(hf_hub_download(name, file, revision=revision)).parent.name
        except Exception as error:
            problem = error
    raise AxionError(f"the tokenizer of {name} cannot be loaded: {one_line(problem, 160)}")


def folder_digest(name: str) -> str:
    """A hash of the tokenizer in a local folder, whichever files it is made of.

    Raises:
        AxionError: as `hub_tokenizer`.
    """
    tokenizer = hub_tokenizer(name)
    content = f"{tokenizer.backend_tokenizer.to_str()}\n{tokenizer.special_tokens_map}"
    return hashlib.sha256(content.encode()).hexdigest()


def _fast(backend: Tokenizer, bos: str, eos: str, pad: str, unk: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer that puts `bos` before what it encodes."""
    from transformers import PreTrainedTokenizerFast

    backend.post_processor = processors.TemplateProcessing(
        single=[bos_piece := f"{bos}:0", "$A:0"],
        pair=[bos_piece, "$A:0", f"{bos}:1", "$B:1"],
        special_tokens=[(bos, backend.token_to_id(bos))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        **({"unk_token": unk} if unk else {}),
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
