"""The output of `prepare`, when it is regenerated, and what is held out of how much data."""

import itertools
import json
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from axion.data import encoding, mixture
from axion.data import prepare as module
from axion.data.encoding import DocumentEncoder
from axion.data.mixture import Mixture
from axion.data.prepare import prepare, validation_documents
from axion.data.recipe import DataRecipe, TokenizerRecipe
from axion.data.sources import Arithmetic, FileSource, Text, WordProblems, hub
from axion.errors import AxionError
from axion.labels import IGNORED
from axion.tokenizer import encode_document, encode_texts
from tests.data.conftest import contents, problems, texts, write_jsonl


@pytest.fixture(scope="module")
def made(small_recipe, tmp_path_factory):
    """A recipe of three sources, its prepared data, and the file with its problems."""
    folder = tmp_path_factory.mktemp("made")
    source = write_jsonl(folder / "mine.jsonl", [*problems(200), *LEAKY])
    recipe = small_recipe(f"data.files={source}", "data.direct_fraction=1.0", "data.val_fraction=0.2")
    return recipe, prepare(recipe, folder / "data", progress=False)


LEAKY = [
    {"question": f"Bob {n} has 21 coins - 1 coin. How many?", "answer": "It is 21-1 = <<21-1=20>>20.\n#### 20"}
    for n in range(5)
]


@pytest.fixture
def copy(made, tmp_path) -> Path:
    """A root folder with a copy of the prepared data of `made`."""
    shutil.copytree(made[1].folder.parent, tmp_path / "data")
    return tmp_path / "data"


def test_prepared_files_agree_with_each_other(made):
    _, prepared = made
    folder, tokenizer = prepared.folder, prepared.tokenizer
    train, validation = texts(folder, "train.txt"), texts(folder, "validation.txt")
    assert [encode_document(tokenizer, text) for text in train] == [each.ids.tolist() for each in prepared.train]
    for text, document in zip(validation, prepared.held_out, strict=True):
        assert document.ids.tolist() == document.labels().tolist() == encode_document(tokenizer, text)
        assert document.num_bytes == len(text.encode())
    assert set(prepared.held_out.sources) == {0, 1, 2}
    measured = [text for text in validation if "Ana number" in text or "has 21 coins" in text]
    assert [tokenizer.decode(each.ids) for each in prepared.validation] == [f"<bos>{text}<eos>" for text in measured]
    assert {document.source for document in prepared.validation} == {"gsm8k"}
    anew = validation_documents(prepared.data, tokenizer)
    assert [each.ids.tolist() for each in anew] == [each.ids.tolist() for each in prepared.validation]

    summary = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    assert summary == prepared.summary
    assert folder.name == f"axion1-v0.1-{summary['fingerprint'][:12]}"
    assert summary["train"]["documents"] == len(train)
    assert summary["train"]["bytes"] == sum(len(text.encode()) for text in train)
    assert summary["train"]["tokens"] == prepared.train.lengths.sum()
    assert summary["validation"]["tokens"] == prepared.held_out.lengths.sum()
    for table in ("by_source", "by_language"):
        assert sum(row["documents"] for row in summary["train"][table].values()) == len(train)
    assert set(summary["train"]["by_language"]) == {"en", "pt"}
    assert [file["name"] for file in summary["files"]] == ["mine.jsonl"]
    assert str(folder.parent.parent) not in (folder / "data.json").read_text(encoding="utf-8")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("data.json", "tokenizer.json", "tokenizer_config.json"),
        *("train-00000.documents.npy", "train-00000.tokens.npy", "train.txt"),
        *("validation-00000.documents.npy", "validation-00000.tokens.npy", "validation.txt"),
    ]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # no temporary folder is left


def test_the_split_is_by_text_and_no_problem_is_on_both_sides(made):
    train, validation = (texts(made[1].folder, f"{side}.txt") for side in ("train", "validation"))
    assert not set(train) & set(validation)
    asked = [{text.split("\n")[1] for text in side if "Ana number" in text} for side in (train, validation)]
    assert len(asked[0]) + len(asked[1]) == 200 and not asked[0] & asked[1]
    assert 20 < len(asked[1]) < 60
    forms = Counter("Raciocínio" in text for text in train if "Ana number" in text)
    assert forms[True] == forms[False] == len(asked[0])
    assert all("Raciocínio" in text for text in validation if "Ana number" in text)
    # problems with a held-out pair are never trained on; one-digit sums always are
    assert made[1].summary["dropped_for_held_out_pairs"] == 5 - sum("has 21 coins" in text for text in validation) > 0
    assert not any("has 21 coins" in text for text in train)
    for a in range(10):
        for b in range(10):
            assert f"# Pergunta:\nQuanto é {a} + {b}?\n--\n# Resposta:\n{a + b}" in train


def test_the_tokenizer_is_trained_on_training_text_alone(made):
    recipe, prepared = made
    seen = list(mixture.Mixture(recipe.data).tokenizer_texts())
    train = texts(prepared.folder, "train.txt")
    real = sum("Ana number" in text for text in train)
    assert set(seen) <= set(train) and len(seen) == real + -(-(len(train) - real) // mixture.TOKENIZER_SAMPLE)


# --- Regeneration -----------------------------------------------------------------------------------------------------


def test_prepared_data_is_reused_until_something_changes(made, copy, monkeypatch):
    recipe, first = made
    monkeypatch.setattr(module, "Mixture", lambda *_: pytest.fail("made again"))
    again = prepare(recipe, copy, progress=False)
    assert again.summary == first.summary
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(again.train, first.train, strict=True))
    assert [each.ids.tolist() for each in again.validation] == [each.ids.tolist() for each in first.validation]
    monkeypatch.undo()
    (copy / first.folder.name / "train-00000.tokens.npy").unlink()
    assert prepare(recipe, copy, progress=False).summary == first.summary
    assert [path.name for path in copy.iterdir()] == [first.folder.name]


@pytest.mark.parametrize("content", ["{}", "[]", "", '{"fingerprint": 1}', "\xff"])
def test_a_damaged_folder_is_made_again(made, copy, content):
    recipe, first = made
    (copy / first.folder.name / "data.json").write_text(content, encoding="latin-1")
    again = prepare(recipe, copy, progress=False)
    assert again.summary == first.summary and list(copy.iterdir()) == [copy / first.folder.name]


def test_two_recipes_of_one_name_are_kept_side_by_side(small_recipe, tmp_path):
    recipes = [small_recipe(f"data.seed={seed}", "data.arithmetic=50", "data.val_fraction=0.3") for seed in (1, 2)]
    first, second = (prepare(recipe, tmp_path, progress=False) for recipe in recipes)
    assert first.folder != second.folder and first.folder.is_dir()
    assert texts(first.folder, "train.txt") != texts(second.folder, "train.txt")


def test_the_same_recipe_makes_the_same_documents(made, tmp_path):
    recipe, first = made
    again = prepare(recipe, tmp_path, progress=False).folder
    for name in ("train.txt", "validation.txt", "tokenizer_config.json"):
        assert (first.folder / name).read_bytes() == (again / name).read_bytes(), name


def test_the_fingerprint_is_of_settings_files_and_versions_not_of_code(made, small_recipe, tmp_path, monkeypatch):
    recipe, first = made
    (path,) = recipe.data.local_paths()

    def fingerprint(of=recipe) -> str:
        return module._fingerprint(of, of.data)

    def with_data(**changes):
        return recipe.model_copy(update={"data": recipe.data.model_copy(update=changes)})

    assert fingerprint() == first.summary["fingerprint"]
    code = tmp_path / "arithmetic.py"  # the code is at another path, with an added comment
    code.write_text(Path(module.__file__).read_text(encoding="utf-8") + "# a comment\n", encoding="utf-8")
    monkeypatch.setattr(module, "__file__", str(code))
    elsewhere = shutil.copy(path, tmp_path)
    moved = recipe.data.sources[0].model_copy(update={"files": [elsewhere], "test_files": ["other.jsonl"]})
    assert fingerprint(with_data(sources=(moved, *recipe.data.sources[1:]))) == fingerprint()

    changed = {fingerprint(), fingerprint(with_data(seed=2)), fingerprint(with_data(sources=recipe.data.sources[::-1]))}
    changed.add(fingerprint(small_recipe(f"data.files={path}", "tokenizer.vocab_size=401")))
    Path(elsewhere).write_text("{}\n", encoding="utf-8")
    changed.add(fingerprint(with_data(sources=(moved, *recipe.data.sources[1:]))))
    monkeypatch.setattr(Arithmetic, "version", Arithmetic.version + 1)
    changed.add(fingerprint())
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    changed.add(fingerprint())
    assert len(changed) == 7


# --- Amounts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [2, 57, 250])
def test_max_documents_caps_the_total(small_recipe, tmp_path, limit):
    summary = prepare(small_recipe(f"data.max_documents={limit}"), tmp_path, progress=False).summary
    assert summary["train"]["documents"] + summary["validation"]["documents"] == limit
    assert summary["validation"]["documents"] >= 1


@pytest.mark.parametrize("maximum", [1, 300, 1500, 10**6])
def test_max_validation_bytes_is_equivalent_to_a_smaller_share(made, tmp_path, monkeypatch, maximum):
    """Where the amount of text is not known before it is read."""
    monkeypatch.setattr(FileSource, "num_bytes", lambda _: None)
    recipe, all_of_it = made
    data = recipe.data.model_copy(update={"max_validation_bytes": maximum})
    prepared = prepare(recipe.model_copy(update={"data": data}), tmp_path, progress=False)
    asked = texts(all_of_it.folder, "validation.txt")
    chosen = texts(prepared.folder, "validation.txt")
    for kind in range(3):
        of_kind = [text for text, source in zip(asked, all_of_it.held_out.sources, strict=True) if source == kind]
        ranked = sorted(of_kind, key=data.split.rank)
        fitting = next(
            (count for count in range(1, len(ranked)) if len("".join(ranked[: count + 1]).encode()) > maximum),
            len(ranked),
        )
        assert [text for text in chosen if text in of_kind] == [text for text in of_kind if text in ranked[:fitting]]
    assert prepared.summary["not_measured"] == len(asked) - len(chosen)
    assert texts(prepared.folder, "train.txt") == texts(all_of_it.folder, "train.txt")
    anew = validation_documents(data, prepared.tokenizer)
    assert [each.ids.tolist() for each in anew] == [each.ids.tolist() for each in prepared.validation]


@pytest.fixture
def stories(small_recipe, tmp_path):
    """A function: the recipe of a file of so many stories, 56 bytes each."""

    def make(count: int, *overrides: str):
        path = tmp_path / f"{count}.txt"
        path.write_text("".join(f"Story {n:6} of a goat that ate grass.\n<|endoftext|>\n" for n in range(count)))
        return small_recipe(f"data.sources=[{{kind: text, files: {path}}}]", "tokenizer.vocab_size=300", *overrides)

    return make


def test_a_smaller_share_of_large_text_is_held_out_and_everything_else_trains(stories, tmp_path):
    recipe = stories(4000, "data.max_validation_bytes=2800")
    prepared = prepare(recipe, tmp_path / "data", progress=False)
    summary = prepared.summary
    assert 2800 / 2 < summary["validation"]["bytes"] <= 2800 and summary["not_measured"] < 20
    assert sum(summary[side]["documents"] for side in ("train", "validation")) == 4000 - summary["not_measured"]
    anew = validation_documents(prepared.data, prepared.tokenizer)
    assert [each.ids.tolist() for each in anew] == [each.ids.tolist() for each in prepared.validation]
    # the same documents as of all those that a larger share would hold out
    all_of_it = Mixture(recipe.data.model_copy(update={"max_validation_bytes": 2**20}))
    documents = list(all_of_it.documents())
    ranked = sorted((document.text for document in [*documents, *all_of_it.validation()]), key=recipe.data.split.rank)
    held_out = texts(prepared.folder, "validation.txt")
    assert set(held_out) == set(ranked[: len(held_out)])


def test_of_a_part_of_one_source_the_beginning_is_held_out(stories, tmp_path, monkeypatch):
    monkeypatch.setattr(mixture, "TOKENIZER_BYTES", 5000)
    several = ["data.max_tokens=30000", "data.shard_tokens=4000", "data.max_validation_bytes=150"]
    recipe = stories(4000, *several)
    prepared = prepare(recipe, tmp_path / "data", progress=False)
    summary, held_out = prepared.summary, texts(prepared.folder, "validation.txt")
    train = texts(prepared.folder, "train.txt")
    assert 2 <= len(held_out) == len(prepared.validation) and summary["validation"]["bytes"] <= 150
    assert max(map(_number, held_out)) < 5000 / 35 < len(train)
    # all others train, also those that a hash would hold out of later text
    assert sorted(map(_number, [*train, *held_out])) == list(range(len(train) + len(held_out)))
    anew = validation_documents(prepared.data, prepared.tokenizer)
    assert [each.ids.tolist() for each in anew] == [each.ids.tolist() for each in prepared.validation]
    assert summary["shards"]["train"]["shards"] > 5 and summary["not_measured"] == 0

    documents = Text.documents

    def lost(source, split, seed):
        yield from islice(documents(source, split, seed), 1000)
        raise AxionError("no connection")

    monkeypatch.setattr(Text, "documents", lost)
    monkeypatch.setattr(encoding, "BATCH_DOCUMENTS", 50)
    monkeypatch.setattr(TokenizerRecipe, "make", lambda *_: prepared.tokenizer)
    with pytest.raises(AxionError, match="no connection"):
        prepare(recipe, tmp_path / "again", progress=False)
    (partial,) = (tmp_path / "again").iterdir()
    validation = (partial / "validation-00000.tokens.npy").stat()
    monkeypatch.setattr(Text, "documents", documents)
    monkeypatch.setattr(Mixture, "settle", lambda _: pytest.fail("settled again"))
    again = prepare(recipe, tmp_path / "again", progress=False).folder
    assert contents(again) == contents(prepared.folder)
    assert (again / "validation-00000.tokens.npy").stat().st_mtime_ns == validation.st_mtime_ns  # a run may read it


@pytest.mark.parametrize("lost_at", [30, 200])
def test_of_a_part_of_several_sources_the_beginning_of_each_is_held_out(stories, tmp_path, monkeypatch, lost_at):
    monkeypatch.setattr(mixture, "TOKENIZER_BYTES", 5000)
    several = ["data.max_tokens=20000", "data.shard_tokens=4000", "data.val_fraction=0.3"]
    recipe = stories(2000, *several, "data.max_validation_bytes=1000")
    sources = (WordProblems(count=20), *recipe.data.sources)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"sources": sources})})
    prepared = prepare(recipe, tmp_path / "data", progress=False)
    begins = prepared.last_source_begins
    assert begins and prepared.train.sources.tolist() == [0] * begins + [1] * (len(prepared.train) - begins)
    assert prepared.summary["last_source_begins"] == begins and prepared.reaches_last_source
    assert {kind: (prepared.held_out.sources == kind).sum() > 1 for kind in (0, 1)} == {0: True, 1: True}
    trained = {document.ids.tobytes() for document in prepared.train}
    assert not trained & {document.ids.tobytes() for document in prepared.held_out}

    documents, count = DocumentEncoder.encode, itertools.count()

    def lost(encoder, pairs):
        for encoded in documents(encoder, pairs):
            if next(count) == lost_at:
                raise AxionError("no connection")
            yield encoded

    monkeypatch.setattr(DocumentEncoder, "encode", lost)
    with pytest.raises(AxionError, match="no connection"):
        prepare(recipe, tmp_path / "again", progress=False)
    assert contents(prepare(recipe, tmp_path / "again", progress=False).folder) == contents(prepared.folder)


def _number(story: str) -> int:
    return int(story.split()[1])


def test_the_beginning_of_a_short_text_holds_out_one_document(stories, tmp_path):
    recipe = stories(12, "data.max_tokens=30000", "data.shard_tokens=20000", "data.val_fraction=1e-9")
    prepared = prepare(recipe, tmp_path / "data", progress=False)
    (held_out,) = texts(prepared.folder, "validation.txt")
    documents = [*texts(prepared.folder, "train.txt"), held_out]
    assert len(documents) == 12 and held_out == min(documents, key=recipe.data.split.rank)


@pytest.mark.parametrize("fraction", ["0.05", "1e-9"])
def test_of_a_short_text_the_document_of_the_lowest_rank_is_held_out(stories, tmp_path, fraction):
    recipe = stories(12, f"data.val_fraction={fraction}")
    prepared = prepare(recipe, tmp_path / "data", progress=False)
    (held_out,) = texts(prepared.folder, "validation.txt")
    documents = [*texts(prepared.folder, "train.txt"), held_out]
    assert len(documents) == 12 and held_out == min(documents, key=recipe.data.split.rank)
    (anew,) = validation_documents(prepared.data, prepared.tokenizer)
    assert anew.ids.tolist() == prepared.validation[0].ids.tolist()
    with pytest.raises(AxionError, match="no validation documents; give the sources more data"):
        prepare(stories(1), tmp_path / "data", progress=False)


def test_a_source_that_only_trains_is_not_read_for_every_document(small_recipe, monkeypatch):
    data = small_recipe("data.arithmetic=300", "data.word_problems=0").data
    calls = []
    read = Arithmetic.documents
    monkeypatch.setattr(Arithmetic, "documents", lambda *arguments: calls.append(1) or read(*arguments))
    assert mixture.splits_of(data) == [data.split]  # sums of one digit are never held out
    assert len(calls) == 2


def test_the_rank_of_a_second_form_decides_nothing(small_recipe, tmp_path):
    for count in range(2, 7):
        source = write_jsonl(tmp_path / "mine.jsonl", problems(count))
        only = [f"data.sources=[{{kind: gsm8k, files: {source}, direct_fraction: 1.0}}]", "tokenizer.vocab_size=300"]
        summary = prepare(small_recipe(*only, "data.val_fraction=1e-9"), tmp_path / str(count), progress=False).summary
        assert (summary["train"]["documents"], summary["validation"]["documents"]) == (2 * count - 2, 1)


def test_without_held_out_real_text_the_loss_is_measured_on_everything_held_out(small_recipe, tmp_path):
    source = write_jsonl(tmp_path / "mine.jsonl", problems(3))
    prepared = prepare(small_recipe(f"data.files={source}", "data.val_fraction=0.02"), tmp_path, progress=False)
    assert "gsm8k" in prepared.summary["train"]["by_source"]
    assert {document.source for document in prepared.validation} == {"arithmetic", "word_problems"}
    assert len(prepared.validation) == len(prepared.held_out)
    anew = validation_documents(prepared.data, prepared.tokenizer)
    assert [each.ids.tolist() for each in anew] == [each.ids.tolist() for each in prepared.validation]


def test_too_little_data(small_recipe, tmp_path):
    for overrides, message in (
        (["data.word_problems=1", "data.arithmetic=0"], "no (training|validation) documents"),
        (["data.max_documents=1"], r"data\.max_documents is 1"),
        (["data.arithmetic=0", "data.word_problems=0"], r"data\.sources is empty"),
    ):
        with pytest.raises(AxionError, match=message):
            prepare(small_recipe(*overrides), tmp_path, progress=False)


def test_progress_is_shown_only_when_asked_for(small_recipe, tmp_path, capsys):
    small = small_recipe("data.arithmetic=40")
    prepare(small, tmp_path / "a", progress=False)
    assert capsys.readouterr().err == ""
    prepare(small, tmp_path / "b", progress=True)
    assert "data" in capsys.readouterr().err


# --- Masked documents -------------------------------------------------------------------------------------------------


def test_only_the_assistants_tokens_carry_loss(small_recipe, tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": f"Say {n}?"}, {"role": "assistant", "content": f"Só {n} <|end|>!"}]}
        for n in range(40)
    ]
    file = write_jsonl(tmp_path / "chat.jsonl", rows)
    sources = f"data.sources=[{{kind: chat, files: {file}, language: pt}}, {{kind: arithmetic, count: 400}}]"
    prepared = prepare(small_recipe(sources, "data.val_fraction=0.3"), tmp_path / "data", progress=False)
    tokenizer, special = prepared.tokenizer, set(prepared.tokenizer.all_special_ids)
    assert prepared.train.is_masked and (prepared.folder / "train-00000.loss.npy").is_file()
    chats = [document for document in prepared.validation if document.source == "chat"]
    for text, document in zip(texts(prepared.folder, "validation.txt"), chats, strict=False):
        assert tokenizer.decode(document.ids) == f"<bos>{text}<eos>"
        learned = document.labels[document.labels != IGNORED]
        answer = text.split("<|assistant|>")[1]
        assert tokenizer.decode(learned) == answer
        assert learned[-1] == tokenizer.convert_tokens_to_ids("<|end|>") and not special & set(learned[:-1].tolist())
        assert document.num_bytes == len(answer.removesuffix("<|end|>").encode())
    assert len(chats) > 4
    contents = [message["content"] for row in rows for message in row["messages"]]
    tokens = sum(map(len, encode_texts(tokenizer, contents)))  # special tokens and their text don't count
    expected = round(len("".join(contents).encode()) / tokens, 4)
    assert prepared.summary["bytes_per_token"]["chat"] == expected
    sums = [document for document in prepared.held_out if document.source == 1]
    assert sums and all((document.labels() == document.ids).all() for document in sums)


# --- Pinned revisions -------------------------------------------------------------------------------------------------


def test_the_revision_is_resolved_recorded_and_part_of_the_fingerprint(made, tmp_path, monkeypatch):
    commits = iter(["a" * 40, "b" * 40])
    monkeypatch.setattr("axion.data.sources.base.resolve_revision", lambda *asked: asked[2] or next(commits))
    monkeypatch.setattr(
        "axion.data.sources.base.read_hub",
        lambda hub_id, config, split, revision: [hub.Record(row, revision) for row in problems(40)],
    )
    monkeypatch.setattr("axion.data.sources.base.hub_bytes", lambda *_: 2000)
    data = DataRecipe.model_validate({"arithmetic": 20, "word_problems": 0, "val_fraction": 0.3})
    recipe = made[0].model_copy(update={"data": data})
    first = prepare(recipe, tmp_path, progress=False)
    assert first.summary["sources"][0]["revision"] == first.data.sources[0].revision == "a" * 40
    second = prepare(recipe, tmp_path, progress=False)
    assert second.data.sources[0].revision == "b" * 40 and second.folder != first.folder
    # a pinned recipe and a resumed run use this revision
    pinned = recipe.model_copy(update={"data": first.data})
    assert f"revision: {'a' * 40}" in pinned.to_yaml()
    assert prepare(pinned, tmp_path, progress=False).folder == first.folder
    resumed = recipe.model_copy(update={"data": recipe.data.pinned(first.data)})
    assert prepare(resumed, tmp_path, progress=False).folder == first.folder


# --- Much text --------------------------------------------------------------------------------------------------------


def test_only_the_beginning_is_written_as_text(made, tmp_path, monkeypatch):
    recipe, whole = made
    monkeypatch.setattr(module, "TEXT_BYTES", 1000)
    prepared = prepare(recipe, tmp_path, progress=False)
    for name, count in (("train.txt", len(whole.train)), ("validation.txt", len(whole.held_out))):
        shown = texts(prepared.folder, name)
        assert shown == texts(whole.folder, name)[: len(shown)] and 3 < len(shown) < count
    assert prepared.summary["train"] == whole.summary["train"]


def test_the_tokenizer_is_trained_on_the_beginning_of_every_file(small_recipe, tmp_path, monkeypatch):
    for name, size in (("a.jsonl", 40), ("b.jsonl", 400), ("c.jsonl", 4)):
        write_jsonl(tmp_path / name, [{"text": f"{name} {number} " * 10} for number in range(size)])
    files = ", ".join(str(tmp_path / name) for name in ("a.jsonl", "b.jsonl", "c.jsonl"))
    data = small_recipe(f"data.sources=[{{kind: text, files: [{files}]}}]").data
    monkeypatch.setattr(mixture, "TOKENIZER_BYTES", 10_000)
    taught = list(mixture.Mixture(data).tokenizer_texts())
    assert 10_000 < sum(map(len, taught)) < 11_000
    by_file = Counter(text.split()[0] for text in taught)
    assert 6 < by_file["a.jsonl"] < 12 and by_file["b.jsonl"] > 60 and by_file["c.jsonl"] == 1
    everything = {document.text for document in mixture.Mixture(data).documents()}
    assert set(taught) < everything
    monkeypatch.setattr(mixture, "TOKENIZER_BYTES", 10**6)
    assert list(mixture.Mixture(data).tokenizer_texts()) == [each.text for each in mixture.Mixture(data).documents()]


def test_reading_ends_when_there_are_enough_tokens(small_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "BATCH_DOCUMENTS", 10)
    whole = prepare(small_recipe("data.val_fraction=0.2"), tmp_path, progress=False)
    recipe = small_recipe("data.val_fraction=0.2", "data.max_tokens=6500")
    prepared = prepare(recipe, tmp_path, progress=False)
    tokens = int(prepared.train.lengths.sum())
    assert 6500 <= tokens < 6500 + int(prepared.train.lengths.max()) and prepared.folder != whole.folder
    assert texts(prepared.folder, "train.txt") == texts(whole.folder, "train.txt")[: len(prepared.train)]
    assert 0 < len(prepared.held_out) < len(whole.held_out)
    monkeypatch.setattr(encoding, "BATCH_DOCUMENTS", 100)  # however much is read ahead, the same is held out
    again = prepare(recipe, tmp_path / "again", progress=False)
    assert texts(again.folder, "validation.txt") == texts(prepared.folder, "validation.txt")
    anew = validation_documents(recipe.data, prepared.tokenizer)
    assert [each.ids.tolist() for each in anew] == [each.ids.tolist() for each in prepared.validation]
    assert "max_tokens" not in small_recipe().data.identity()  # so that the data of earlier recipes stays the same
