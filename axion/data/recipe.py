"""The data and tokenizer sections of a recipe: a list of sources, how their documents are split and tokenized."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from axion.data.shards import SHARD_TOKENS
from axion.data.sources import AnySource, Arithmetic, FileSource, Gsm8k, Source, Text, WordProblems, named_sources
from axion.data.split import Split
from axion.errors import AxionError
from axion.pretrained_tokenizer import (
    ENCODINGS,
    folder_digest,
    hub_facts,
    hub_tokenizer,
    resolve_tokenizer,
    tiktoken_tokenizer,
)
from axion.settings import Positive, Section, Seed, Share
from axion.tokenizer import SPECIAL_TOKENS, train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Kind = TypeVar("Kind", bound=Source)

DEFAULT_VOCAB_SIZE = 1024

DEFAULT_SOURCES = (Gsm8k(), Arithmetic(), WordProblems())

_GSM8K_KEYS = {
    *("hub_id", "hub_config", "files", "test_files", "local_files"),
    *("question_field", "answer_field", "direct_fraction"),
}
_COUNT_KEYS = ("arithmetic", "word_problems")


class TokenizerRecipe(Section):
    """The tokenizer: trained on the recipe's own text, or another's."""

    kind: Literal["bpe", "tiktoken", "hub", "start"] = "bpe"
    """bpe: trained on the recipe's text; tiktoken: one of OpenAI's encodings; hub: that of another model; start: that
    of the release from which the run starts."""
    vocab_size: Positive | None = None
    """Tokens in the vocabulary, the special ones and the 256 bytes included: 1,024 by default for bpe. The others have
    a fixed size, which may be left out."""
    encoding: Literal["gpt2", "cl100k_base"] | None = None
    """tiktoken: the name of the encoding."""
    file: str | None = None
    """tiktoken: its file of ranks, such as cl100k_base.tiktoken; it is fetched by default."""
    id: str | None = None
    """hub: a model on the Hub, or a folder with a tokenizer.json."""
    revision: str | None = None
    """hub: commit, branch or tag; a run records the commit here."""
    sha256: str | None = None
    """start: SHA-256 of its tokenizer.json; hub: of the tokenizer in a folder, which a run records here."""

    @model_validator(mode="after")
    def _has_its_own_keys(self):
        needed = {"bpe": None, "tiktoken": "encoding", "hub": "id", "start": "sha256"}
        allowed = {"bpe": set(), "tiktoken": {"encoding", "file"}, "start": {"sha256"}}
        allowed |= {"hub": {"id", "revision", "sha256"}}
        if (name := needed[self.kind]) and getattr(self, name) is None:
            raise ValueError(f"tokenizer.{name} is missing; kind {self.kind} needs it")
        for other in ("encoding", "file", "id", "revision", "sha256"):
            if getattr(self, other) is not None and other not in allowed[self.kind]:
                raise ValueError(f"tokenizer.{other} does not go with kind {self.kind}")
        if self.encoding and self.vocab_size not in (None, size := ENCODINGS[self.encoding].size):
            raise ValueError(
                f"tokenizer.vocab_size is {self.vocab_size}; {self.encoding} has {size} entries: leave vocab_size out"
            )
        return self

    @property
    def num_tokens(self) -> int:
        """Entries of the vocabulary. Raises AxionError where the tokenizer of a model on the Hub cannot be loaded."""
        if self.kind in ("bpe", "start"):
            return self.vocab_size or DEFAULT_VOCAB_SIZE
        if self.encoding:
            return ENCODINGS[self.encoding].size
        size, _ = hub_facts(self._place(), self.revision)
        if self.vocab_size not in (None, size):
            raise AxionError(
                f"tokenizer.vocab_size is {self.vocab_size}; that of {self.id} has {size} entries: leave vocab_size out"
            )
        return size

    @property
    def special_ids(self) -> Mapping[str, int | None]:
        """bos_token_id, eos_token_id and pad_token_id of the model. Raises AxionError as `num_tokens`."""
        if self.kind in ("bpe", "start"):
            return {f"{name}_token_id": SPECIAL_TOKENS.index(f"<{name}>") for name in ("pad", "bos", "eos")}
        if self.encoding:
            end = ENCODINGS[self.encoding].end_of_text
            return {"pad_token_id": None, "bos_token_id": end, "eos_token_id": end}
        return hub_facts(self._place(), self.revision)[1]

    def make(self, texts: Iterable[str]) -> "PreTrainedTokenizerFast":
        """The tokenizer; `texts` are read for bpe alone. Raises AxionError where it cannot be made."""
        if self.kind == "bpe":
            return train_tokenizer(texts, self.num_tokens)
        if self.kind == "start":
            raise AxionError("the tokenizer is that of the release that the run starts from, which is not given")
        if self.encoding:
            return tiktoken_tokenizer(self.encoding, self.file)
        return hub_tokenizer(self._place(), self.revision)

    @property
    def _is_folder(self) -> bool:
        return self.kind == "hub" and Path(str(self.id)).is_dir()

    def _place(self) -> str:
        """The model or folder of kind hub. Raises AxionError where it is not the folder that a run recorded."""
        place = str(self.id)
        if self.sha256 is None:
            return place
        if not self._is_folder:
            raise AxionError(f"the tokenizer is that of the local folder {place}; give it as --set tokenizer.id=FOLDER")
        if folder_digest(place) != self.sha256:
            raise AxionError(f"{place} is not the recorded tokenizer, whose sha256 is {self.sha256[:12]}…")
        return place

    def pinned(self, earlier: Self | None = None) -> Self:
        """This section with the commit of a model on the Hub filled in.

        Args:
            earlier: that of a run that is resumed; if it differs in nothing but the revision, its revision is taken.
        """
        section = self if earlier is None else self.with_revision_of(earlier)
        if section.kind != "hub" or section.revision is not None:
            return section
        return section.model_copy(update={"revision": resolve_tokenizer(section._place(), None)})

    def with_revision_of(self, earlier: Self) -> Self:
        """This section with `earlier`'s revision of the same model where it pins none itself."""
        same = self.kind == earlier.kind and self.id == earlier.id and self.revision is None
        return self.model_copy(update={"revision": earlier.revision}) if same else self

    def identity(self) -> dict[str, Any]:
        """All that the tokens depend on besides the text, as JSON. Raises AxionError as `released`."""
        return self.released()

    def released(self) -> dict[str, Any]:
        """The section as a release records it, as JSON: a folder by its name and sha256, never by path.

        Raises:
            AxionError: the folder's tokenizer cannot be loaded.
        """
        content = self.model_dump(mode="json", exclude={"file"}, exclude_none=True)
        if self.kind == "bpe":
            return {"vocab_size": self.num_tokens}
        if self._is_folder:
            content |= {"id": Path(str(self.id)).resolve().name, "sha256": folder_digest(str(self.id))}
        return content


class DataRecipe(Section):
    """Where the text comes from and how it is split. The order of `sources` is that of the documents on disk."""

    sources: tuple[AnySource, ...] = DEFAULT_SOURCES
    """The sources, each a `kind` with the settings of that kind; see `axion/data/sources/`."""
    max_documents: Positive | None = None
    """At most this many documents in total, for quick trials."""
    max_tokens: Annotated[int, Field(ge=1, le=10**15)] | None = None
    """Stop reading the sources, in their order, when the training data has this many tokens."""
    shard_tokens: Positive = SHARD_TOKENS
    """Tokens of a shard. Where `max_tokens` asks for more than one, training begins when all sources but the last and
    the first shard of that are ready: its first epoch shuffles the documents of each shard, among them a part of the
    earlier sources' documents, and reads one shard after the other."""
    seed: Seed = 1
    """Seed of the generated sources."""
    val_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Share of documents held out for validation, by a hash of their text."""
    max_validation_bytes: Positive = 2**20
    """The most text of each source, in bytes, that is held out: measuring the loss of a run stays cheap."""
    split_seed: Seed = 0
    """Seed of the hash that holds documents out."""
    holdout_fraction: Share = 0.05
    """Share of operand pairs that no training document contains, so that arithmetic is tested on unseen pairs."""

    @model_validator(mode="before")
    @classmethod
    def _read_earlier_form(cls, content: Any) -> Any:
        return with_sources(content) if isinstance(content, dict) else content

    @model_validator(mode="after")
    def _tell_sources_their_numbers(self):
        counts = Counter(source.kind for source in self.sources)
        if max(counts.values(), default=0) > 1:
            sources = tuple(
                source.at_key(str(number)) if isinstance(source, FileSource) and counts[source.kind] > 1 else source
                for number, source in enumerate(self.sources)
            )
            object.__setattr__(self, "sources", sources)  # the section is frozen
        return self

    @property
    def split(self) -> Split:
        return Split(self.val_fraction, self.split_seed, self.holdout_fraction, self.max_validation_bytes)

    @property
    def validates_on_beginning(self) -> bool:
        """Whether the held-out documents are those of the beginning of every source: the end may be far away.

        So it is where training takes more than a shard of the sources, or all of a stream.
        """
        if self.max_documents:
            return False
        if self.max_tokens is None:
            return any(source.is_streamed for source in self.sources)
        return self.max_tokens > self.shard_tokens

    @property
    def trains_by_shard(self) -> bool:
        """Whether training may read the first shards while later ones are not ready."""
        return self.validates_on_beginning and self.max_tokens is not None

    @property
    def kinds(self) -> list[str]:
        """The kinds of the sources, each once, in their order."""
        return list(dict.fromkeys(source.kind for source in self.sources))

    @property
    def headline_sources(self) -> list[Source]:
        """The sources whose held-out loss stands for the model: those of real text, or else all."""
        return [source for source in self.sources if source.is_real] or list(self.sources)

    @property
    def headline_kinds(self) -> set[str]:
        """The kinds of the headline sources."""
        return {source.kind for source in self.headline_sources}

    @property
    def has_problems(self) -> bool:
        """Whether some documents have the form of `axion.data.format`, in which a model can be asked."""
        return any(source.form == "problem" for source in self.sources)

    @property
    def teaches_thinking(self) -> bool:
        """Whether some documents teach to choose between answering at once and thinking first."""
        return any(getattr(source, "thinking", False) for source in self.sources)

    @property
    def has_chats(self) -> bool:
        """Whether some documents are conversations."""
        return any(source.form == "chat" for source in self.sources)

    def find(self, kind: type[Kind]) -> Kind | None:
        """The first source of a kind."""
        return next((source for source in self.sources if isinstance(source, kind)), None)

    def hub_source(self) -> FileSource | None:
        """The first source whose documents are those of a data set on the Hub."""
        return next((source for source in self.file_sources if source.is_from_hub), None)

    @property
    def file_sources(self) -> list[FileSource]:
        """The sources that read files or data sets on the Hub."""
        return [source for source in self.sources if isinstance(source, FileSource)]

    @property
    def hub_ids(self) -> list[str]:
        """The data sets on the Hub whose documents these are, each once."""
        return list(dict.fromkeys(str(source.hub_id) for source in self.file_sources if source.is_from_hub))

    @property
    def has_local_text(self) -> bool:
        """Whether some documents are read from local files that are no known copy of a data set on the Hub."""
        return any((source.files or source.local_files) and not source.is_from_hub for source in self.file_sources)

    def generated(self) -> Self:
        """This section with the generated sources alone. Raises AxionError where it has none."""
        sources = [source for source in self.sources if not source.is_real]
        if not sources:
            raise AxionError("the recipe has no generated data; leave out --synthetic")
        return self._with(sources)

    def without(self, kind: type[Source]) -> Self:
        """This section without the sources of a kind; none may be left."""
        return self._with(source for source in self.sources if not isinstance(source, kind))

    def pinned(self, earlier: Self | None = None) -> Self:
        """This section with the commit of every Hub data set filled in.

        Args:
            earlier: the pinned section of a run that is resumed; sources that differ from its own in nothing but the
                revision take that.

        Raises:
            AxionError: a data set cannot be found, or there is neither a connection nor a cached copy.
        """
        before = earlier.sources if earlier else ()
        return self._with(_revision_of(source, before).pinned() for source in self.sources)

    def with_revisions_of(self, earlier: Self) -> Self:
        """This section with `earlier`'s revisions of the same data sets where it pins none itself."""
        return self._with(_revision_of(source, earlier.sources) for source in self.sources)

    def with_local_copies(self, other: Self) -> Self:
        """This section with the local files that `other` names for its sources, the n-th of a kind for the n-th."""
        sources = []
        others = {kind: iter([source for source in other.sources if source.kind == kind]) for kind in other.kinds}
        for source in self.sources:
            same = next(others.get(source.kind, iter(())), None)
            names = {name for name in ("files", "test_files") if name in type(source).model_fields}
            sources.append(source.model_copy(update={name: getattr(same, name) for name in names}) if same else source)
        return self._with(sources)

    def files_passed_over(self) -> dict[str, list[str]]:
        """Folder of local files → the names of those in it that are not read because of their suffix."""
        return {folder: names for source in self.file_sources for folder, names in source.files_passed_over().items()}

    def other_files(self) -> list[str]:
        """A sentence for each source whose local files are not those that the recipe of a release recorded."""
        return [note for source in self.file_sources if (note := source.other_files())]

    def file_options(self) -> list[str]:
        """The options of a command that name the local files, which a release knows by name alone."""
        return [part for source in self.file_sources for option in source.file_options() for part in ("--set", option)]

    def local_paths(self) -> list[str]:
        """All local files that the documents come from."""
        return [path for source in self.sources for path in source.local_paths()]

    def test_paths(self) -> list[str]:
        """All local files that only an evaluation reads."""
        return [path for source in self.sources for path in source.test_paths()]

    def settings(self) -> dict[str, Any]:
        """The section without local paths, as JSON."""
        return self._dump("settings")

    def identity(self) -> dict[str, Any]:
        """All that the documents depend on, as JSON. Raises AxionError where a local file is missing."""
        content = self._dump("identity") | ({"validation": "beginning"} if self.validates_on_beginning else {})
        unused = {"max_tokens": None, "shard_tokens": SHARD_TOKENS}  # so that earlier data stays the same
        return {key: value for key, value in content.items() if key not in unused or value != unused[key]}

    def released(self) -> dict[str, Any]:
        """The section as a release records it, as JSON: local files by name and sha256, never by path."""
        return self._dump("released")

    def _dump(self, method: str) -> dict[str, Any]:
        content = self.model_dump(mode="json", exclude={"sources"})
        return {"sources": [getattr(source, method)() for source in self.sources], **content}

    def _with(self, sources: Iterable[Source]) -> Self:
        return self.model_copy(update={"sources": tuple(sources)})


def _revision_of(source: Source, earlier: Sequence[Source]) -> Source:
    if not isinstance(source, FileSource) or source.revision is not None:
        return source
    same = (before for before in earlier if isinstance(before, FileSource) and _unpinned(before) == _unpinned(source))
    found = next(same, None)
    return source.model_copy(update={"revision": found.revision}) if found else source


def _unpinned(source: FileSource) -> dict[str, Any]:
    return source.settings() | {"revision": None}


def with_sources(content: dict[str, Any]) -> dict[str, Any]:
    """The data section of a recipe in the current form, with everything about the text in `sources`.

    Recipes up to v0.1 had one data set and two generators in fixed keys, and `--set` still takes these keys:

    - `hub_id`, `hub_config`, `files`, `test_files`, `local_files`, `question_field`, `answer_field` and
      `direct_fraction` are those of the gsm8k source. `hub_id` or `files` add one where there is none. It is removed
      when neither `hub_id` nor files are left, as in `hub_id: null`.
    - `arithmetic: N` and `word_problems: N` are the `count` of these sources, added where there are none; 0 removes
      them.

    A section without `sources` and these keys has the sources of v0.1.

    Raises:
        ValueError: a key could mean several sources, or no source is left.
    """
    listed = content.get("sources", [{"kind": source.kind} for source in DEFAULT_SOURCES])
    if not isinstance(listed, list | tuple) or not all(isinstance(source, dict) for source in listed):
        return content  # for pydantic to refuse, or built already
    sources = [dict(source) for source in listed]
    gsm8k = {key: value for key, value in content.items() if key in _GSM8K_KEYS}
    names_data = gsm8k.get("hub_id") or gsm8k.get("files")
    if gsm8k and not names_data and all(source.get("kind") != "gsm8k" for source in sources):
        if unused := [key for key, value in gsm8k.items() if value is not None]:
            raise ValueError(f"data.{unused[0]} is a setting of a gsm8k source, and the recipe has none")
    elif gsm8k:
        source = _only(sources, "gsm8k", next(iter(gsm8k)), position=0)
        source |= gsm8k
        default = Gsm8k.model_fields["hub_id"].default
        if not (source.get("hub_id", default) or source.get("files") or source.get("local_files")):
            sources.remove(source)
    for kind in _COUNT_KEYS:
        if kind in content:
            source = _only(sources, kind, kind, position=len(sources))
            source["count"] = content[kind]
            if content[kind] == 0:
                sources.remove(source)
    if not sources:
        raise ValueError("data.sources is empty; list at least one source, such as {kind: arithmetic}")
    rest = {key: value for key, value in content.items() if key not in {*_GSM8K_KEYS, *_COUNT_KEYS, "sources"}}
    return {"sources": sources, **rest}


def with_text(content: dict[str, Any], named: Sequence[str], language: str | None = None) -> dict[str, Any]:
    """The data section of a recipe with text in place of its sources.

    No operand pairs are held out: a model of text is not asked for sums.

    Args:
        content: the section, in any of its forms.
        named: files, folders and data sets on the Hub, see `axion.data.sources.named_sources`.
        language: that of all the text, a code of ISO 639-1.

    Raises:
        AxionError: nothing has one of these names.
    """
    kept = {key: value for key, value in content.items() if key in DataRecipe.model_fields}
    sources = [source | {"language": language} for source in named_sources(Text, named)]
    return kept | {"sources": sources, "holdout_fraction": 0.0}


def _only(sources: list[dict[str, Any]], kind: str, key: str, position: int) -> dict[str, Any]:
    """The source of a kind, added at `position` if there is none."""
    found = [source for source in sources if source.get("kind") == kind]
    if len(found) > 1:
        raise ValueError(f"data.{key} is ambiguous: there are {len(found)} {kind} sources; write data.sources.0.{key}")
    if not found:
        sources.insert(position, {"kind": kind})
    return found[0] if found else sources[position]
