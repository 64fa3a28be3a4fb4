"""Preparing data when it is interrupted, when the disk is full or the connection lost, and by several at once."""

import errno
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from axion.data import encoding
from axion.data import prepare as module
from axion.data.encoding import DocumentEncoder
from axion.data.mixture import Mixture
from axion.data.prepare import prepare
from axion.data.progress import Progress, Written, read_progress, write_progress
from axion.data.recipe import TokenizerRecipe
from axion.data.shards import ShardWriter
from axion.data.sources import Arithmetic
from axion.errors import AxionError
from axion.files import read_json
from tests.data.conftest import contents, texts


def test_an_interrupted_preparation_leaves_nothing(small_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "save_tokenizer", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare(small_recipe(), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_leftovers_of_a_killed_preparation_are_deleted(small_recipe, tmp_path):
    if (child := os.fork()) == 0:
        module.save_tokenizer = lambda *_: os._exit(0)  # as if killed: no cleanup code runs
        prepare(small_recipe(), tmp_path, progress=False)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1
    prepared = prepare(small_recipe(), tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == [prepared.folder]


@pytest.fixture(scope="module")
def many_shards(small_recipe, tmp_path_factory):
    """A recipe whose training side has several shards, and what was prepared without an interruption."""
    recipe = small_recipe("data.val_fraction=0.2", "data.shard_tokens=2000")
    return recipe, prepare(recipe, tmp_path_factory.mktemp("whole"), progress=False)


def test_a_full_disk_is_one_line_and_the_next_start_goes_on(many_shards, tmp_path, monkeypatch):
    recipe, whole = many_shards
    root, flush = tmp_path / "data", ShardWriter._flush

    def full(writer):
        if writer.counts.shards == 3:
            (root / f".{whole.folder.name}.partial" / "train-00003.tokens.npy").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(writer)

    monkeypatch.setattr(ShardWriter, "_flush", full)
    monkeypatch.setattr(TokenizerRecipe, "make", lambda *_: whole.tokenizer)
    with pytest.raises(AxionError) as error:
        prepare(recipe, root, progress=False)
    assert str(error.value) == (f"{root / whole.folder.name} cannot be written: No space left on device; {module.KEPT}")
    monkeypatch.setattr(ShardWriter, "_flush", flush)
    monkeypatch.setattr(TokenizerRecipe, "make", lambda *_: pytest.fail("trained again"))
    encoded, encode = [], DocumentEncoder.encode

    def counted(encoder, documents):
        for document, tokens in encode(encoder, documents):
            encoded.append(tokens is not None)
            yield document, tokens

    monkeypatch.setattr(DocumentEncoder, "encode", counted)
    again = prepare(recipe, root, progress=False)
    assert contents(again.folder) == contents(whole.folder) and whole.train.counts.shards > 4
    assert sum(encoded) == len(whole.train) + len(whole.held_out) - sum(
        len(np.load(whole.folder / f"train-0000{shard}.documents.npy")) for shard in range(3)
    )
    assert list(root.iterdir()) == [again.folder]


def test_what_a_lost_connection_left_is_used_again(many_shards, tmp_path, monkeypatch):
    recipe, whole = many_shards
    root = tmp_path / "data"
    documents = Arithmetic.documents

    def lost(source, split, seed):
        yield from islice(documents(source, split, seed), 350)
        raise AxionError("cannot load some/data from the Hub: no connection")

    monkeypatch.setattr(Arithmetic, "documents", lost)
    monkeypatch.setattr(Mixture, "tokenizer_texts", lambda _: iter(()))
    monkeypatch.setattr(encoding, "BATCH_DOCUMENTS", 50)
    monkeypatch.setattr(TokenizerRecipe, "make", lambda *_: whole.tokenizer)
    with pytest.raises(AxionError, match="no connection"):
        prepare(recipe, root, progress=False)
    (partial,) = root.iterdir()
    assert read_json(partial / "progress.json")["train"]["counts"]["documents"] > 100
    monkeypatch.setattr(Arithmetic, "documents", documents)
    monkeypatch.setattr(TokenizerRecipe, "make", lambda *_: pytest.fail("trained again"))
    assert contents(prepare(recipe, root, progress=False).folder) == contents(whole.folder)


@pytest.mark.parametrize("damage", ["{}", "[]", '{"fingerprint": 1}', "train-00001.tokens.npy", "tokenizer.json"])
def test_damaged_progress_is_made_again(many_shards, tmp_path, monkeypatch, damage):
    recipe, whole = many_shards
    partial = tmp_path / "data" / f".{whole.folder.name}.partial"
    shutil.copytree(whole.folder, partial)
    progress = Progress(whole.summary["fingerprint"], Written(whole.train.counts))
    write_progress(partial, progress)
    assert read_progress(partial, whole.summary["fingerprint"]) == progress
    assert read_progress(partial, "another") is None
    if (partial / damage).is_file():
        (partial / damage).unlink()
    else:
        (partial / "progress.json").write_text(damage, encoding="utf-8")
    monkeypatch.setattr(TokenizerRecipe, "make", lambda *_: whole.tokenizer)
    assert contents(prepare(recipe, tmp_path / "data", progress=False).folder) == contents(whole.folder)


def test_interrupted_data_of_other_settings_is_deleted(small_recipe, tmp_path):
    others = [tmp_path / f".axion1-v0.1-{'0' * 12}.partial", tmp_path / f".axion1-v0.1-b-{'0' * 12}.partial"]
    for folder in others:
        folder.mkdir()
    prepared = prepare(small_recipe("data.arithmetic=50", "data.val_fraction=0.3"), tmp_path, progress=False)
    assert sorted(tmp_path.iterdir()) == [others[1], prepared.folder]  # the other one is of another recipe


# --- Several at once --------------------------------------------------------------------------------------------------


def _prepare_often(recipes, root: Path, seed: int) -> list[str]:
    """Errors in the results of `prepare`, for many calls in a random order."""
    wrong = []
    for _ in range(20):
        recipe = recipes[(seed := seed * 69_069 % 2**32) % len(recipes)]
        prepared = prepare(recipe, root, progress=False)
        expected = module._fingerprint(recipe, recipe.data)
        read = texts(prepared.folder, "train.txt")[0]
        if (
            prepared.summary["fingerprint"] != expected
            or prepared.tokenizer.decode(prepared.train[0].ids[1:-1]) != read
        ):
            wrong.append(f"{prepared.folder}: {read!r}")
    return wrong


def test_recipes_of_one_name_that_are_prepared_at_once_never_mix(small_recipe, tmp_path):
    """In threads and processes, while one of them damages what another has just written."""
    recipes = [
        small_recipe(f"data.seed={seed}", "data.arithmetic=40", "data.word_problems=20", "data.val_fraction=0.3")
        for seed in (1, 2, 3)
    ]
    first = prepare(recipes[0], tmp_path, progress=False).folder
    children = []
    for seed in (3, 5):
        if (child := os.fork()) == 0:
            os._exit(len(_prepare_often(recipes, tmp_path, seed)))
        children.append(child)
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(_prepare_often, recipes, tmp_path, seed) for seed in (7, 11, 13)]
        for _ in range(5):
            (first / "validation-00000.tokens.npy").unlink(missing_ok=True)
            time.sleep(0.02)
        assert [each.result() for each in running] == [[]] * 3
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 3
