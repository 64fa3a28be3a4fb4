"""Tokenizers of others: tiktoken's encodings to the token, and that of any model, with what they lack filled in."""

import json
import random
import shutil
from pathlib import Path

import pytest
import tiktoken
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from axion.data.prepare import prepare
from axion.data.recipe import TokenizerRecipe
from axion.errors import AxionError
from axion.pretrained_tokenizer import (
    ENCODINGS,
    check_round_trip,
    hub_tokenizer,
    model_ids,
    tiktoken_tokenizer,
    vocabulary_size,
)
from axion.recipe import load_recipe
from axion.tokenizer import encode_documents, encode_texts, has_own_form, save_tokenizer
from tests.conftest import REAL_DATA

RANKS = REAL_DATA / "tokenizers"
RANDOM = "aé中😀ſK'sS 'll 12345\t\n\r\u00a0\u3000\u0301\u200d<|endoftext|>_-{}\x1f\u2028ǅΩ½٣"


def real_texts(count: int) -> list[str]:
    """Pieces of real English and Portuguese text, and random ones of difficult characters."""
    rng = random.Random(0)
    names = ("text_en/grimm_household_tales.txt", "text_pt/machado_contos_part.txt", "text_en/wikitext2_test.txt")
    books = [(REAL_DATA / name).read_text(encoding="utf-8") for name in names]
    starts = [(book, rng.randrange(len(book))) for book in books for _ in range(count // 6)]
    pieces = [book[start : start + rng.randrange(400)] for book, start in starts]
    drawn = ["".join(rng.choices(RANDOM, k=rng.randrange(60))) for _ in range(count // 4)]
    anything = ["".join(chr(rng.choice([rng.randrange(0x800), rng.randrange(0x3000)])) for _ in range(30))
                for _ in range(count - len(pieces) - len(drawn))]  # fmt: skip
    return [*pieces, *drawn, *anything]


@pytest.fixture(scope="module", params=["gpt2", pytest.param("cl100k_base", marks=pytest.mark.slow)])
def encoding(request):
    """Its name, the tokenizer, and tiktoken's own, from the same file of ranks."""
    file = RANKS / f"{ENCODINGS[request.param].ranks}.tiktoken"
    if not file.is_file():
        pytest.skip("tiktoken's files of ranks are not at ../shared/data/tokenizers beside this clone")
    from tiktoken import load
    from tiktoken_ext import openai_public

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda url, expected_hash: load.load_tiktoken_bpe(str(file)))
        described = getattr(openai_public, ENCODINGS[request.param].ranks)()
    return request.param, tiktoken_tokenizer(request.param, str(file)), tiktoken.Encoding(**described)


def test_tokens_are_tiktokens(encoding, tmp_path):
    name, tokenizer, theirs = encoding
    assert vocabulary_size(tokenizer) == len(tokenizer) == theirs.n_vocab == {"gpt2": 50_257}.get(name, 100_277)
    save_tokenizer(tokenizer, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    texts = real_texts(2000)
    assert len(texts) == 2000
    for ours in (tokenizer, loaded):
        for text, ids in zip(texts, encode_texts(ours, texts), strict=True):
            assert ids == theirs.encode_ordinary(text), repr(text)
            assert ours.decode(ids) == text
    ids = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert ids == {theirs.eot_token} == {{"gpt2": 50_256}.get(name, 100_257)}
    special = "".join(sorted(theirs.special_tokens_set))
    assert loaded(special, add_special_tokens=False).input_ids == theirs.encode(special, allowed_special="all")


def test_spaces_that_end_a_text_stay_together():
    """As in tiktoken from 0.8 on: they are one piece, whatever line ends are among them."""
    pattern = pre_tokenizers.Split(Regex(ENCODINGS["cl100k_base"].pattern), behavior="isolated")
    for text, expected in {
        "a\n ": ["a", "\n "],
        "a \n\t\u3000": ["a", " \n\t\u3000"],
        "a.\n ": ["a", ".\n", " "],
        "a\n\n b": ["a", "\n\n", " b"],
        "a  b": ["a", " ", " b"],
    }.items():
        assert [piece for piece, _ in pattern.pre_tokenize_str(text)] == expected


def test_the_one_special_token_begins_ends_and_pads(encoding):
    name, tokenizer, theirs = encoding
    assert tokenizer.bos_token == tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer("a").input_ids == [theirs.eot_token, *theirs.encode("a")]
    assert encode_documents(tokenizer, ["a"]) == [[theirs.eot_token, *theirs.encode("a"), theirs.eot_token]]
    ids = {"bos_token_id": theirs.eot_token, "eos_token_id": theirs.eot_token, "pad_token_id": None}
    assert model_ids(tokenizer) == TokenizerRecipe(kind="tiktoken", encoding=name).special_ids == ids


def test_another_file_of_ranks_is_refused(tmp_path):
    (tmp_path / "a.tiktoken").write_text("IQ== 0\n")
    with pytest.raises(AxionError, match=r"a\.tiktoken is not r50k_base\.tiktoken, the ranks of gpt2"):
        tiktoken_tokenizer("gpt2", str(tmp_path / "a.tiktoken"))
    with pytest.raises(AxionError, match=r"tokenizer\.file: .*absent cannot be read"):
        tiktoken_tokenizer("gpt2", str(tmp_path / "absent"))


# --- The tokenizer of another model -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A tokenizer of bytes with a token that ends a text, and no others."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: index for index, letter in enumerate([*letters, "</s>"])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    folder = tmp_path_factory.mktemp("models") / "bare"
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>").save_pretrained(folder)
    return folder


def test_what_a_tokenizer_lacks_is_its_end_of_text(bare):
    tokenizer = hub_tokenizer(str(bare))
    assert tokenizer.bos_token == tokenizer.eos_token == tokenizer.pad_token == "</s>"
    assert tokenizer("é").input_ids[0] == tokenizer.eos_token_id == 256 and len(tokenizer("é").input_ids) == 3
    assert model_ids(tokenizer) == {"bos_token_id": 256, "eos_token_id": 256, "pad_token_id": None}


def test_the_tokenizer_of_a_release_stays_what_it_is(tiny_release):
    tokenizer, before = hub_tokenizer(str(tiny_release)), AutoTokenizer.from_pretrained(tiny_release)
    assert json.loads(tokenizer.backend_tokenizer.to_str()) == json.loads(before.backend_tokenizer.to_str())
    assert model_ids(tokenizer) == {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    assert has_own_form(json.loads(tokenizer.backend_tokenizer.to_str()))


def test_a_tokenizer_that_cannot_be_used_is_one_line(bare, tmp_path):
    with pytest.raises(AxionError, match=r"the tokenizer of .*absent cannot be loaded") as caught:
        hub_tokenizer(str(tmp_path / "absent"))
    assert "\n" not in str(caught.value)
    endless = tmp_path / "endless"
    PreTrainedTokenizerFast(tokenizer_object=hub_tokenizer(str(bare)).backend_tokenizer).save_pretrained(endless)
    with pytest.raises(AxionError, match=r"has no token that ends a text \(eos_token\)"):
        hub_tokenizer(str(endless))


def changed(bare: Path, folder: Path, normalizer: normalizers.Normalizer) -> Path:
    """A copy of `bare` that normalizes texts."""
    shutil.copytree(bare, folder)
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.normalizer = normalizer
    backend.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize(
    ("normalizer", "text", "message"),
    [
        (normalizers.Lowercase(), "There was a Fox", "'There was a Fox' comes back as 'there was a fox'"),
        (normalizers.Replace("\n", ""), "A\n\nfox", r"'A\\n\\nfox' comes back as 'Afox'"),
        (normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]), "a é", "'a é' comes back as 'a e'"),
    ],
    ids=["lower case", "line breaks", "accents"],
)
def test_a_tokenizer_that_loses_text_is_refused(bare, tmp_path, normalizer, text, message):
    name = str(changed(bare, tmp_path / "lossy", normalizer))
    with pytest.raises(AxionError, match=f"the tokenizer of .*lossy does not keep the text: {message}") as caught:
        check_round_trip(name, hub_tokenizer(name), ["plain", text])
    assert "\n" not in str(caught.value)


def test_what_unicode_calls_the_same_text_is_kept(bare, tmp_path):
    name = str(changed(bare, tmp_path / "nfc", normalizers.NFC()))
    check_round_trip(name, hub_tokenizer(name), ["e\u0301 é 中 😀\r\n\t x  y <|end|>"])
    letters = tmp_path / "letters"
    backend = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1, "</s>": 2}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="[UNK]").save_pretrained(letters)
    with pytest.raises(AxionError, match=r"'b' comes back as '\[UNK\]'"):
        check_round_trip("letters", hub_tokenizer(str(letters)), ["a", "b"])


def test_data_is_not_prepared_with_a_tokenizer_that_loses_text(bare, tmp_path):
    (tmp_path / "a.txt").write_text("<|endoftext|>".join(f"Story {n}" for n in range(60)), encoding="utf-8")
    folder = changed(bare, tmp_path / "lossy", normalizers.Lowercase())
    source = f"data.sources=[{{kind: text, files: {tmp_path / 'a.txt'}}}]"
    lossy = recipe(source, "tokenizer.kind=hub", f"tokenizer.id={folder}")
    with pytest.raises(AxionError, match="'Story 0' comes back as 'story 0'"):
        prepare(lossy, tmp_path / "data", progress=False)
    assert not any((tmp_path / "data").glob("[!.]*"))


# --- In a recipe ------------------------------------------------------------------------------------------------------


def recipe(*overrides):
    return load_recipe("axion1-v0.1", ["tokenizer.vocab_size=null", *overrides])


def test_the_size_and_the_special_tokens_are_the_tokenizers(bare):
    config = recipe("tokenizer.kind=tiktoken", "tokenizer.encoding=gpt2").build_config()
    assert (config.vocab_size, config.bos_token_id, config.eos_token_id, config.pad_token_id) == (
        50257,
        50256,
        50256,
        None,
    )
    assert load_recipe("nano-deepseek-v3").build_config().vocab_size == 50_257
    config = load_recipe("axiom-dense-380m").build_config()
    assert (config.vocab_size, config.bos_token_id, config.eos_token_id) == (100_277, 100_257, 100_257)
    config = recipe("tokenizer.kind=hub", f"tokenizer.id={bare}").build_config()
    assert (config.vocab_size, config.eos_token_id) == (257, 256)
    config = recipe().build_config()
    assert (config.vocab_size, config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1024, 1, 2, 0)


def test_another_kind_leaves_the_settings_of_the_recipes_own_behind(bare):
    section = load_recipe("axion1-v0.1", ["tokenizer.encoding=gpt2", "tokenizer.kind=tiktoken"]).tokenizer
    assert section == TokenizerRecipe(kind="tiktoken", encoding="gpt2") and section.num_tokens == 50_257
    assert load_recipe("axion1-v0.1", ["tokenizer.kind=hub", f"tokenizer.id={bare}"]).build_config().vocab_size == 257
    assert load_recipe("axion1-v0.1", ["tokenizer.kind=bpe"]).tokenizer.vocab_size == 1024


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tokenizer.kind=tiktoken"], "tokenizer.encoding is missing; kind tiktoken needs it"),
        (["tokenizer.kind=hub"], "tokenizer.id is missing; kind hub needs it"),
        (["tokenizer.encoding=gpt2"], "tokenizer.encoding does not go with kind bpe"),
        (
            ["tokenizer.kind=tiktoken", "tokenizer.encoding=gpt2", "tokenizer.vocab_size=50304"],
            "tokenizer.vocab_size is 50304; gpt2 has 50257 entries: leave vocab_size out",
        ),
        (
            ["tokenizer.kind=tiktoken", "tokenizer.encoding=gpt2", "architecture.eos_token_id=2"],
            "architecture.eos_token_id is 2; it is the tokenizer's",
        ),
        (["architecture.eos_token_id=3"], "architecture.eos_token_id is 3; it must be 2, the tokenizer's <eos>"),
    ],
)
def test_settings_that_do_not_fit_each_other(overrides, message):
    with pytest.raises(AxionError, match=message):
        recipe(*overrides)


def test_another_size_than_the_model_has_is_refused(bare):
    with pytest.raises(AxionError, match=r"tokenizer\.vocab_size is 300; that of .*bare has 257 entries"):
        recipe("tokenizer.kind=hub", f"tokenizer.id={bare}", "tokenizer.vocab_size=300").build_config()


def test_another_end_of_text_is_another_tokenizer(bare, tmp_path):
    section = TokenizerRecipe(kind="hub", id=str(shutil.copytree(bare, tmp_path / "bare")))
    before = section.identity()
    assert before["sha256"] == TokenizerRecipe(kind="hub", id=str(bare)).identity()["sha256"]
    (tmp_path / "bare" / "tokenizer_config.json").write_text(json.dumps({"eos_token": "a"}))
    assert section.identity() != before


def test_a_folder_without_tokenizer_json_is_known_by_what_it_makes(tmp_path):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*letters, "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    section = TokenizerRecipe(kind="hub", id=str(tmp_path))
    assert section.num_tokens == 257 and len(section.identity()["sha256"]) == 64


def test_a_local_path_is_recorded_by_name_and_content(bare):
    section = TokenizerRecipe(kind="hub", id=str(bare))
    recorded = section.released()
    assert (recorded["kind"], recorded["id"], len(recorded["sha256"])) == ("hub", "bare", 64)
    assert section.pinned() == section and section.identity() == recorded


def test_a_recorded_folder_is_asked_for_again(bare, tmp_path):
    recorded = TokenizerRecipe(**TokenizerRecipe(kind="hub", id=str(bare)).released())
    with pytest.raises(AxionError, match=r"that of the local folder bare; give it as --set tokenizer\.id=FOLDER"):
        recorded.pinned()
    found = recorded.model_copy(update={"id": str(bare)})
    assert found.num_tokens == 257 and found.released() == recorded.model_dump(exclude_none=True)
    other = changed(bare, tmp_path / "bare", normalizers.NFC())
    with pytest.raises(AxionError, match=r"is not the recorded tokenizer, whose sha256 is"):
        recorded.model_copy(update={"id": str(other)}).make(())


def test_tiktokens_file_of_ranks_is_not_recorded():
    assert TokenizerRecipe(kind="tiktoken", encoding="gpt2", file="/x").released() == {
        "kind": "tiktoken",
        "encoding": "gpt2",
    }
    assert TokenizerRecipe().identity() == {"vocab_size": 1024}
