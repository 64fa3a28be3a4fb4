"""From a recipe to token files: fetch, convert, split, tokenize, count.

Real problems come from the Hub or from local JSONL, synthetic ones from their generators. What `prepare` writes can be
opened and read: train.txt and validation.txt hold the documents, data.json says what was counted.
"""

import hashlib
import json
import random
import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from axion.data.format import Problem, problem_from_gsm8k
from axion.data.holdout import shows_held_out
from axion.data.packing import TokenDocuments
from axion.data.sources.arithmetic import arithmetic
from axion.data.sources.word_problems import word_problems
from axion.errors import AxionError, one_line
from axion.files import identify, read_json, staged_folder, write_json
from axion.tokenizer import encode_documents, load_tokenizer, save_tokenizer, train_tokenizer

# The kinds of documents, in the order in which they are written; real problems first.
SOURCES = ("gsm8k", "arithmetic", "word_problems")
ENCODE_BATCH = 4096
TOKENIZER_SAMPLE = 5  # beside real text, every fifth synthetic document teaches the tokenizer


@dataclass(frozen=True)
class ValidationDocument:
    """A held-out document: `ids` with `<bos>` and `<eos>`, the bytes of its text without them, its source."""

    ids: np.ndarray
    num_bytes: int
    source: str


@dataclass(frozen=True)
class Prepared:
    """What training and evaluation need; `summary` is data.json's content."""

    tokenizer: PreTrainedTokenizerFast
    train: TokenDocuments
    validation: list[ValidationDocument]
    summary: dict


def load_problems(data, split: str = "train") -> list[Problem]:
    """The real problems that a DataRecipe names: its local files if any, else its Hub data set, else none.

    `split="test"` gives the test split instead (`test_files`, or the Hub's), for evaluation only.

    Raises:
        AxionError: a missing file, a broken line (with its number), an empty set, a wrong field, an unreachable Hub.
    """
    files = data.files if split == "train" else data.test_files
    if files:
        rows = _load_files([Path(file) for file in files])
        origin = ", ".join(Path(file).name for file in files)
    elif data.hub_id:
        rows = _load_hub(data.hub_id, data.hub_config, split)
        origin = f"{data.hub_id} ({split})"
    else:
        return []
    if len(rows) == 0:
        raise AxionError(f"{origin} is empty; it must hold at least one problem")
    for field in (data.question_field, data.answer_field):
        if field not in rows.column_names:
            present = ", ".join(rows.column_names)
            raise AxionError(f"{origin} has no field {field!r}; it has: {present} (data.question_field, answer_field)")
    questions, answers = rows[data.question_field], rows[data.answer_field]
    for number, pair in enumerate(zip(questions, answers, strict=True), start=1):
        for field, value in zip((data.question_field, data.answer_field), pair, strict=True):
            if not isinstance(value, str) or not value.strip():
                raise AxionError(f"{origin}, row {number}: field {field!r} is {value!r}; it must be a text")
    return [problem_from_gsm8k(question, answer) for question, answer in zip(questions, answers, strict=True)]


def _load_hub(hub_id: str, config: str | None, split: str):
    from datasets import load_dataset  # takes a second to import: only where it is needed

    try:
        return load_dataset(hub_id, config, split=split)
    except Exception as error:  # datasets, the Hub client and the network each raise their own
        files = "data.files=train.jsonl" if split == "train" else "data.test_files=test.jsonl"
        reason = one_line(error, 200)
        raise AxionError(f"cannot load {hub_id} from the Hub: {reason}; for a local copy give --set {files}") from None


def _load_files(files: list[Path]):
    from datasets import disable_progress_bars, enable_progress_bars, load_dataset

    for file in files:
        _check_lines(file)
    disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory() as cache:  # read afresh, and leave no copy of the user's data behind
            names = [str(file) for file in files]
            return load_dataset("json", data_files=names, split="train", cache_dir=cache, keep_in_memory=True)
    except Exception as error:
        cause = one_line(error.__cause__ or error, 200)
        names = ", ".join(file.name for file in files)
        raise AxionError(f"cannot read {names}: {cause}; each line must hold the same fields") from None
    finally:
        enable_progress_bars()


def _check_lines(file: Path) -> None:
    """Find what the loader would only call an error: say which file and which line."""
    if not file.is_file():
        raise AxionError(f"no file {file}; data.files and data.test_files must name JSONL files")
    empty = True
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            empty = False
            try:
                row = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError:
                raise AxionError(f"{file}, line {number}: not UTF-8 text") from None
            except json.JSONDecodeError as error:
                raise AxionError(f"{file}, line {number}: not JSON ({error.msg}, column {error.colno})") from None
            if not isinstance(row, dict):
                raise AxionError(f'{file}, line {number}: must be a JSON object such as {{"question": …, "answer": …}}')
    if empty:
        raise AxionError(f"{file} is empty; it must hold at least one problem")


def prepare(recipe, folder: Path, progress: bool = True) -> Prepared:
    """Make, or reuse, the data of a recipe in `folder`.

    Writes train.txt, validation.txt (one document each, ended by a line `<eos>`), tokenizer files, tokens.npz, and last
    data.json, whose fingerprint of recipe, local files and the data code decides whether the rest is reused.
    Raises what `load_problems` and `train_tokenizer` raise.
    """
    folder = Path(folder)
    fingerprint, files = _fingerprint(recipe)
    if prepared := _reuse(folder, fingerprint):
        return prepared

    with tqdm(total=4, desc="data", unit="step", disable=not progress) as bar:

        def step(name: str) -> None:
            bar.set_postfix_str(name)
            bar.update()

        bar.set_postfix_str("collecting problems")
        train, validation, dropped = _collect(recipe.data)
        step("training the tokenizer")
        tokenizer = train_tokenizer(_tokenizer_texts(train), recipe.tokenizer.vocab_size)
        step("encoding")
        encoded = {
            name: TokenDocuments(_encode(tokenizer, documents))
            for name, documents in (("train", train), ("validation", validation))
        }
        step("writing")
        splits = {
            "train": _count(train, encoded["train"]),
            "validation": _count(validation, encoded["validation"]),
        }
        summary = {
            "fingerprint": fingerprint,
            "hub_id": None if files else recipe.data.hub_id,
            "files": files,
            "dropped_for_held_out_pairs": dropped,
            "bytes_per_token": _bytes_per_token(splits),
            **splits,
        }
        _write(folder, tokenizer, train, validation, encoded, summary)
        bar.update()
    return _reuse(folder, fingerprint)


def _collect(data) -> tuple[list[tuple[str, str]], list[tuple[str, str]], int]:
    """Training and validation documents as (source, text), and how many real problems training had to do without.

    A problem's side is decided by its whole form, so that its direct form never lands on the other one. Real problems
    that show a held-out pair may stand in validation, but not in training.
    """
    rng = random.Random(f"collect {data.seed}")
    train, validation, dropped = [], [], 0
    for problem in load_problems(data):
        text = problem.document()
        if is_validation(text, data.val_fraction, data.split_seed):
            validation.append(("gsm8k", text))
        elif shows_held_out(f"{text}\n{problem.calculations}", data.holdout_fraction):
            dropped += 1
        else:
            train.append(("gsm8k", text))
            if problem.reasoning is not None and rng.random() < data.direct_fraction:
                train.append(("gsm8k", problem.document(direct=True)))

    for problem in arithmetic(data.arithmetic, data.seed, data.holdout_fraction):
        text = problem.document()
        # One-digit problems are too few to spare any: the model is to know them all.
        one_digit = not re.search(r"\d\d", problem.question)
        side = train if one_digit or not is_validation(text, data.val_fraction, data.split_seed) else validation
        side.append(("arithmetic", text))

    for problem in word_problems(data.word_problems, data.seed, data.holdout_fraction):
        text = problem.document()
        side = validation if is_validation(text, data.val_fraction, data.split_seed) else train
        side.append(("word_problems", text))

    if data.max_documents:
        train, validation = _cap(train, validation, data.max_documents, rng)
    for name, documents in (("training", train), ("validation", validation)):
        if not documents:
            raise AxionError(f"no {name} documents; give more data (data.files, data.arithmetic, data.word_problems)")
    return train, validation, dropped


def is_validation(text: str, fraction: float, split_seed: int) -> bool:
    """Whether the document belongs to the validation split: a hash of its text, the same on every machine."""
    digest = hashlib.sha256(f"{split_seed}\n{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def _cap(train: list, validation: list, limit: int, rng: random.Random) -> tuple[list, list]:
    """A random choice of `limit` documents in all, both splits in proportion, in their order."""
    if limit >= len(train) + len(validation):
        return train, validation
    if limit < 2:
        raise AxionError(f"data.max_documents is {limit}; 2 is the least, one to train on and one to validate with")
    share = round(limit * len(validation) / (len(train) + len(validation)))
    held_out = min(max(share, 1), len(validation), limit - 1)
    sizes = ((train, min(limit - held_out, len(train))), (validation, held_out))
    train, validation = ([items[i] for i in sorted(rng.sample(range(len(items)), size))] for items, size in sizes)
    return train, validation


def _tokenizer_texts(train: list[tuple[str, str]]) -> list[str]:
    """What the merges are learnt from: the real training text and, beside it, only a sample of the synthetic.

    Synthetic text repeats itself; a sample shows all of its words, and the real text gets 3% fewer tokens for it.
    """
    real = [text for source, text in train if source == "gsm8k"]
    synthetic = [text for source, text in train if source != "gsm8k"]
    return real + synthetic[::TOKENIZER_SAMPLE] if real else synthetic


def _encode(tokenizer: PreTrainedTokenizerFast, documents: list[tuple[str, str]]):
    texts = [text for _, text in documents]
    for start in range(0, len(texts), ENCODE_BATCH):
        yield from encode_documents(tokenizer, texts[start : start + ENCODE_BATCH])


def _count(documents: list[tuple[str, str]], encoded: TokenDocuments) -> dict:
    """Documents, bytes and tokens of a split, in all and by source; tokens include `<bos>` and `<eos>`."""
    number, size, tokens = Counter(), Counter(), Counter()
    for (source, text), length in zip(documents, encoded.lengths.tolist(), strict=True):
        number[source] += 1
        size[source] += len(text.encode())
        tokens[source] += length
    by_source = {
        source: {"documents": number[source], "bytes": size[source], "tokens": tokens[source]}
        for source in SOURCES
        if number[source]
    }
    return {
        "documents": number.total(),
        "bytes": size.total(),
        "tokens": tokens.total(),
        "by_source": by_source,
    }


def _bytes_per_token(splits: dict) -> dict[str, float]:
    """Mean bytes per token of each source, over both splits; `<bos>` and `<eos>` carry no bytes and do not count."""
    ratios = {}
    for source in SOURCES:
        counts = [split["by_source"][source] for split in splits.values() if source in split["by_source"]]
        if counts:
            tokens = sum(count["tokens"] - 2 * count["documents"] for count in counts)
            ratios[source] = round(sum(count["bytes"] for count in counts) / tokens, 4)
    return ratios


def _fingerprint(recipe) -> tuple[str, list[dict]]:
    """A hash of all that the data depends on, and the local files by name and sha256 (never by path)."""
    files = []
    for file in map(Path, recipe.data.files or ()):
        if not file.is_file():
            raise AxionError(f"no file {file}; data.files must name JSONL files")
        files += identify([file])
    here = Path(__file__).resolve().parent
    code = [path.read_text(encoding="utf-8") for path in (*sorted(here.rglob("*.py")), here.parent / "tokenizer.py")]
    inputs = {
        "data": recipe.data.model_dump(mode="json", exclude={"files", "test_files", "local_files"}),
        "vocab_size": recipe.tokenizer.vocab_size,
        "files": files,
        "code": hashlib.sha256("\0".join(code).encode()).hexdigest(),
        "tokenizers": tokenizers.__version__,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest(), files


def _write(folder: Path, tokenizer, train: list, validation: list, encoded: dict, summary: dict) -> None:
    """Everything under a temporary name first; data.json last, so that it vouches for the rest."""
    (folder / "data.json").unlink(missing_ok=True)
    with staged_folder(folder, last="data.json") as staging:
        for file, documents in (("train.txt", train), ("validation.txt", validation)):
            with (staging / file).open("w", encoding="utf-8", newline="\n") as out:
                out.writelines(f"{text}\n<eos>\n" for _, text in documents)
        save_tokenizer(tokenizer, staging)
        np.savez(
            staging / "tokens.npz",
            **{
                f"{split}_{part}": getattr(docs, part)
                for split, docs in encoded.items()
                for part in ("flat", "lengths")
            },
            validation_bytes=[len(text.encode()) for _, text in validation],
            validation_sources=[source for source, _ in validation],
        )
        write_json(staging / "data.json", summary)


def _reuse(folder: Path, fingerprint: str) -> Prepared | None:
    """What an earlier `prepare` wrote, if it was for the same fingerprint."""
    try:
        summary = read_json(folder / "data.json")
    except (OSError, ValueError):
        return None
    if summary.get("fingerprint") != fingerprint:
        return None
    with np.load(folder / "tokens.npz") as tokens:
        train = TokenDocuments.from_flat(tokens["train_flat"], tokens["train_lengths"])
        held_out = TokenDocuments.from_flat(tokens["validation_flat"], tokens["validation_lengths"])
        validation = [
            ValidationDocument(ids, int(num_bytes), str(source))
            for ids, num_bytes, source in zip(
                held_out, tokens["validation_bytes"], tokens["validation_sources"], strict=True
            )
        ]
    return Prepared(load_tokenizer(folder), train, validation, summary)
