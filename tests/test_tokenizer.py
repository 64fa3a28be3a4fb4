"""The tokenizer: lossless, readable by llama.cpp and transformers v4 and v5, and identical in its plain files."""

import hashlib
import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from axion.data.sources.arithmetic import arithmetic
from axion.data.sources.word_problems import word_problems
from axion.errors import AxionError
from axion.split_patterns import QWEN2
from axion.tokenizer import (
    SPECIAL_TOKENS,
    encode_document,
    encode_documents,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
    write_legacy_tokenizer,
)

ASSETS = Path(__file__).resolve().parent.parent / "publish" / "release" / "assets"
VOCAB_SIZE = 1024

any_text = st.text() | st.lists(st.sampled_from([*SPECIAL_TOKENS, " ", "\n", "a", "9", "é", "'s"])).map("".join)


def training_texts() -> list[str]:
    problems = [*arithmetic(400, 0, 0.05), *word_problems(400, 0, 0.05)]
    return [problem.document() for problem in problems]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(training_texts(), VOCAB_SIZE)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    """A folder with the tokenizer in both forms, and the release's tokenizer.py."""
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(tokenizer, folder)
    write_legacy_tokenizer(tokenizer, folder)
    (folder / "tokenizer.py").write_bytes((ASSETS / "tokenizer.py").read_bytes())
    return folder


@pytest.fixture(scope="module")
def legacy(folder):
    spec = importlib.util.spec_from_file_location("release_tokenizer", folder / "tokenizer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.SPLIT_REGEX == QWEN2
    return module.BPETokenizer.load(folder / "model.vocab", folder / "model.model")


def test_vocabulary(tokenizer):
    assert len(tokenizer) == VOCAB_SIZE
    assert tokenizer.convert_ids_to_tokens(range(len(SPECIAL_TOKENS))) == list(SPECIAL_TOKENS)
    one_byte = [tokenizer.decode([index]) for index in range(len(SPECIAL_TOKENS), len(SPECIAL_TOKENS) + 256)]
    assert set(map(chr, range(128))) <= set(one_byte)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<bos>", "<eos>")
    assert (tokenizer.pad_token, tokenizer.unk_token) == ("<pad>", "<unk>")


def test_the_pre_tokenizer_is_qwen2s():
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    assert QWEN2 == PRETOKENIZE_REGEX


def test_digits_are_single_tokens(tokenizer):
    ids = tokenizer.encode("12345", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids) == list("12345")
    assert not any(sum(letter.isdigit() for letter in token) > 1 for token in tokenizer.get_vocab())


def test_bos_comes_first_by_default(tokenizer):
    assert tokenizer.encode("a") == [tokenizer.bos_token_id, *tokenizer.encode("a", add_special_tokens=False)]


def test_training_is_repeatable(tokenizer):
    again = train_tokenizer(training_texts(), VOCAB_SIZE)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_ties_are_broken_alike_in_every_process():
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(3, 9))) for _ in range(4000)]  # many pairs of equal counts
    trained = train_tokenizer([" ".join(words)], VOCAB_SIZE).backend_tokenizer.to_str()
    assert hashlib.sha256(trained.encode()).hexdigest().startswith("daf8fa7c4d05acec")


@given(text=any_text)
def test_any_text_survives_a_round_trip(tokenizer, text):
    """Including the names of special tokens, encoded as special tokens or as plain text."""
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    document = encode_document(tokenizer, text)
    assert tokenizer.decode(document) == f"<bos>{text}<eos>"
    assert tokenizer.decode(document, skip_special_tokens=True) == text
    assert not set(document[1:-1]) & set(range(len(SPECIAL_TOKENS)))


def test_documents_in_a_batch(tokenizer):
    texts = ["um", "two <eos>", ""]
    assert encode_documents(tokenizer, texts) == [encode_document(tokenizer, text) for text in texts]
    assert tokenizer.encode("<eos>", add_special_tokens=False) == [2]  # the option only affects that call


@given(text=any_text)
def test_saved_and_plain_files_give_the_same_ids(tokenizer, saved, legacy, text):
    ids = tokenizer.encode(text)
    assert saved.encode(text) == ids
    assert legacy.encode(text, add_bos=True, add_eos=False) == ids
    assert legacy.encode(text, add_eos=True) == [*ids[1:], legacy.token2id["<eos>"]]
    assert legacy.decode(ids[1:], skip_special_tokens=False) == text


@pytest.fixture(scope="module")
def saved(folder):
    return AutoTokenizer.from_pretrained(folder)


def test_saved_files_are_for_v4_too(folder, saved, tokenizer):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["clean_up_tokenization_spaces"] is False
    assert saved.get_vocab() == tokenizer.get_vocab() == load_tokenizer(folder).get_vocab()
    backend = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert backend["normalizer"] is None
    assert sorted(path.name for path in folder.glob("tokenizer*")) == [
        *("tokenizer.json", "tokenizer.py", "tokenizer_config.json")
    ]


def test_plain_files_read_as_described(folder, tokenizer, legacy):
    vocab = json.loads((folder / "model.vocab").read_text(encoding="utf-8"))
    assert vocab == tokenizer.get_vocab() == legacy.token2id
    merges = (folder / "model.model").read_text(encoding="utf-8").splitlines()
    assert len(merges) == VOCAB_SIZE - 256 - len(SPECIAL_TOKENS)
    assert all("".join(merge.split(" ")) in vocab for merge in merges)
    prompt = "# Pergunta:\nQuanto é 5 + 3?\n--\n# Resposta:\n"
    assert legacy.decode(legacy.encode(prompt, add_bos=True, add_eos=True)) == prompt


def test_plain_files_do_not_need_the_project(folder):
    code = (
        "from tokenizer import BPETokenizer\n"
        "tok = BPETokenizer.load('model.vocab', 'model.model')\n"
        "print(tok.encode('Olá 12', add_bos=True, add_eos=False), tok.token2id['<eos>'], tok.token2id['<pad>'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.split("]")[1].split() == ["2", "0"] and done.stdout.startswith("[1, ")


def test_errors_are_reported_in_one_line(tmp_path):
    with pytest.raises(AxionError, match="267 or more"):
        train_tokenizer(["text"], 200)
    with pytest.raises(AxionError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
