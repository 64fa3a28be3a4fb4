"""Loading, splitting, tokenizing: what `prepare` makes, and how it says what is wrong."""

import json
from collections import Counter

import numpy as np
import pytest

from axion.data import prepare as sources
from axion.data.prepare import is_validation, load_problems, prepare
from axion.errors import AxionError
from axion.recipe import load_recipe
from axion.tokenizer import encode_document


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def real_rows(count):
    """GSM8K-like rows whose numbers no holdout touches (one-digit pairs)."""
    return [
        {
            "question": f"Ana number {index} has 5 apples and buys 3. How many?",
            "answer": f"Ana {index} has 5 + 3 = <<5+3=8>>8.\n#### 8",
        }
        for index in range(count)
    ]


def texts(folder, name):
    return (folder / name).read_text(encoding="utf-8").split("\n<eos>\n")[:-1]


def local(recipe_for, path, *overrides):
    return recipe_for(f"data.files={path}", *overrides).data


def test_local_problems(small_recipe, tmp_path):
    first, second = write_jsonl(tmp_path / "a.jsonl", real_rows(3)), write_jsonl(tmp_path / "b.jsonl", real_rows(2))
    problems = load_problems(local(small_recipe, f"[{first}, {second}]"))
    assert len(problems) == 5
    assert problems[0].reasoning == "Ana 0 has 5 + 3 = 8." and problems[0].answer == "8"


def test_fields_may_have_other_names(small_recipe, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"q": "1 + 1?", "a": "2"}])
    (problem,) = load_problems(local(small_recipe, path, "data.question_field=q", "data.answer_field=a"))
    assert (problem.question, problem.answer, problem.reasoning) == ("1 + 1?", "2", None)


def test_a_changed_file_is_read_again(small_recipe, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", real_rows(2))
    assert len(load_problems(local(small_recipe, path))) == 2
    write_jsonl(path, real_rows(4))
    assert len(load_problems(local(small_recipe, path))) == 4


GOOD = '{"question": "1 + 1?", "answer": "2"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.jsonl is empty"),
        ("\n  \n", "a.jsonl is empty"),
        (GOOD + GOOD + '{"question": "1 +', r"a\.jsonl, line 3: not JSON"),
        (GOOD + "\n" + "[1, 2]\n", r"a\.jsonl, line 3: must be a JSON object"),
        ('{"question": "1 + 1?", "solution": "2"}\n', "no field 'answer'; it has: question, solution"),
        (GOOD + '{"question": "1 + 1?"}\n', "row 2: field 'answer' is None"),
        ('{"question": 7, "answer": "2"}\n', "row 1: field 'question' is 7; it must be a text"),
        (GOOD + '{"question": " ", "answer": "2"}\n', "row 2: field 'question'"),
        (GOOD + '{"question": {"a": 1}, "answer": "2"}\n', "row 2: field 'question' is {'a': 1}"),
    ],
)
def test_what_is_wrong_with_a_file(small_recipe, tmp_path, content, message):
    path = tmp_path / "a.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(AxionError, match=message) as caught:
        load_problems(local(small_recipe, path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text(small_recipe, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD.encode() + b'{"question": "\xff"}\n')
    with pytest.raises(AxionError, match=r"line 2: not UTF-8"):
        load_problems(local(small_recipe, path))


def test_a_missing_file(small_recipe, tmp_path):
    recipe = small_recipe(f"data.files={tmp_path / 'absent.jsonl'}")
    for attempt in (lambda: load_problems(recipe.data), lambda: prepare(recipe, tmp_path / "out", progress=False)):
        with pytest.raises(AxionError, match=r"no file .*absent\.jsonl"):
            attempt()


def test_the_hub_is_the_default_and_says_how_to_do_without(monkeypatch):
    import datasets

    asked = []

    def load_dataset(*args, **kwargs):
        asked.append((args, kwargs))
        if len(asked) > 1:
            raise ConnectionError("Couldn't reach\n'openai/gsm8k' on the Hub")
        return datasets.Dataset.from_list(real_rows(3))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data = load_recipe("axion1-v0.1").data
    assert len(load_problems(data)) == 3
    assert asked == [(("openai/gsm8k", "main"), {"split": "train"})]
    with pytest.raises(AxionError, match=r"openai/gsm8k from the Hub: .*--set data\.files=") as caught:
        load_problems(data)
    assert "\n" not in str(caught.value)


def test_prepared_files_agree_with_each_other(small_recipe, tmp_path):
    source = write_jsonl(tmp_path / "mine.jsonl", real_rows(200))
    recipe = small_recipe(f"data.files={source}", "data.direct_fraction=0.5")
    folder = tmp_path / "out"
    prepared = prepare(recipe, folder, progress=False)

    train, validation = texts(folder, "train.txt"), texts(folder, "validation.txt")
    assert [encode_document(prepared.tokenizer, text) for text in train] == [ids.tolist() for ids in prepared.train]
    assert len(validation) == len(prepared.validation)
    for text, document in zip(validation, prepared.validation, strict=True):
        assert prepared.tokenizer.decode(document.ids[1:-1]) == text
        assert document.num_bytes == len(text.encode())
        assert (
            document.ids[0] == prepared.tokenizer.bos_token_id and document.ids[-1] == prepared.tokenizer.eos_token_id
        )
    assert {document.source for document in prepared.validation} == {"gsm8k", "arithmetic", "word_problems"}

    summary = json.loads((folder / "data.json").read_text())
    assert summary == prepared.summary
    assert summary["train"]["documents"] == len(train)
    assert summary["train"]["bytes"] == sum(len(text.encode()) for text in train)
    assert summary["train"]["tokens"] == len(prepared.train.flat)
    assert summary["validation"]["tokens"] == sum(len(document.ids) for document in prepared.validation)
    assert [file["name"] for file in summary["files"]] == ["mine.jsonl"]
    assert str(tmp_path) not in (folder / "data.json").read_text()
    assert sorted(path.name for path in folder.iterdir()) == [
        *("data.json", "tokenizer.json", "tokenizer_config.json", "tokens.npz", "train.txt", "validation.txt")
    ]


def test_the_split_is_by_text_and_no_problem_stands_on_both_sides(small_recipe, tmp_path):
    source = write_jsonl(tmp_path / "mine.jsonl", real_rows(200))
    recipe = small_recipe(f"data.files={source}", "data.direct_fraction=1.0", "data.val_fraction=0.2")
    folder = tmp_path / "out"
    prepare(recipe, folder, progress=False)
    train, validation = texts(folder, "train.txt"), texts(folder, "validation.txt")
    assert not set(train) & set(validation)
    asked = [{text.split("\n")[1] for text in side if "Ana number" in text} for side in (train, validation)]
    assert len(asked[0]) + len(asked[1]) == 200 and not asked[0] & asked[1]
    assert 20 < len(asked[1]) < 60
    forms = Counter("Raciocínio" in text for text in train if "Ana number" in text)
    assert forms[True] == forms[False] == len(asked[0])
    assert all("Raciocínio" in text for text in validation if "Ana number" in text)
    assert is_validation("a text", 0.5, 1) == is_validation("a text", 0.5, 1)


def test_one_digit_sums_all_stay_in_training(small_recipe, tmp_path):
    prepare(small_recipe("data.val_fraction=0.4"), tmp_path, progress=False)
    for a in range(10):
        for b in range(10):
            assert f"# Pergunta:\nQuanto é {a} + {b}?\n--\n# Resposta:\n{a + b}" in texts(tmp_path, "train.txt")


def test_documents_with_held_out_pairs_are_dropped_from_training(small_recipe, tmp_path):
    rows = real_rows(50)
    leaky = {"question": "Bob has 21 coins - 1 coin. How many?", "answer": "It is 21-1 = <<21-1=20>>20.\n#### 20"}
    source = write_jsonl(tmp_path / "mine.jsonl", [*rows, leaky])
    prepared = prepare(small_recipe(f"data.files={source}"), tmp_path / "out", progress=False)
    assert prepared.summary["dropped_for_held_out_pairs"] == 1
    assert not any("Bob has 21" in text for text in texts(tmp_path / "out", "train.txt"))


def test_prepared_data_are_reused_until_something_changes(small_recipe, tmp_path, monkeypatch):
    first = prepare(small_recipe(), tmp_path, progress=False)
    monkeypatch.setattr(sources, "_collect", lambda data: pytest.fail("made again"))
    again = prepare(small_recipe(), tmp_path, progress=False)
    assert again.summary == first.summary
    assert np.array_equal(again.train.flat, first.train.flat)
    assert [document.ids.tolist() for document in again.validation] == [d.ids.tolist() for d in first.validation]
    monkeypatch.undo()
    other = prepare(small_recipe("data.seed=2"), tmp_path, progress=False)
    assert other.summary["fingerprint"] != first.summary["fingerprint"]
    assert not np.array_equal(other.train.flat, first.train.flat)


def test_the_same_recipe_makes_the_same_data(small_recipe, tmp_path):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        prepare(small_recipe(), folder, progress=False)
    for name in ("train.txt", "validation.txt", "tokenizer.json", "tokenizer_config.json", "data.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


def test_an_interrupted_preparation_is_made_again(small_recipe, tmp_path, monkeypatch):
    def broken(*args):
        raise KeyboardInterrupt

    prepare(small_recipe(), tmp_path, progress=False)
    monkeypatch.setattr(sources, "save_tokenizer", broken)
    with pytest.raises(KeyboardInterrupt):
        prepare(small_recipe("data.seed=2"), tmp_path, progress=False)
    monkeypatch.undo()
    assert not (tmp_path / "data.json").exists()
    assert prepare(small_recipe("data.seed=2"), tmp_path, progress=False).summary["train"]["documents"] > 0


@pytest.mark.parametrize("limit", [2, 57, 300])
def test_max_documents_caps_the_total(small_recipe, tmp_path, limit):
    summary = prepare(small_recipe(f"data.max_documents={limit}"), tmp_path, progress=False).summary
    assert summary["train"]["documents"] + summary["validation"]["documents"] == limit
    assert summary["validation"]["documents"] >= 1


def test_too_little_data(small_recipe, tmp_path):
    nothing = ("data.arithmetic=0", "data.word_problems=0")
    with pytest.raises(AxionError, match="no training documents"):
        prepare(small_recipe(*nothing), tmp_path, progress=False)
    with pytest.raises(AxionError, match=r"data\.max_documents is 1"):
        prepare(small_recipe("data.max_documents=1"), tmp_path, progress=False)


def test_tokenizer_learns_from_training_text_alone(small_recipe, tmp_path, monkeypatch):
    seen = []
    real = sources.train_tokenizer
    monkeypatch.setattr(sources, "train_tokenizer", lambda texts, size: real(seen.extend(texts) or seen, size))
    prepare(small_recipe(), tmp_path, progress=False)
    assert set(seen) <= set(texts(tmp_path, "train.txt"))


def test_real_gsm8k(real_corpus):
    recipe, _, prepared = real_corpus
    summary = prepared.summary
    real = {split: summary[split]["by_source"]["gsm8k"]["documents"] for split in ("train", "validation")}
    direct = sum(real.values()) + summary["dropped_for_held_out_pairs"] - 7473  # what stands there in both forms
    assert direct == pytest.approx(recipe.data.direct_fraction * (real["train"] - direct), rel=0.15)
    assert real["validation"] == pytest.approx(7473 * recipe.data.val_fraction, rel=0.15)
    assert len(prepared.tokenizer) == recipe.tokenizer.vocab_size
    assert 2.3 < summary["bytes_per_token"]["gsm8k"] < 2.8


def test_progress_is_shown_only_when_asked_for(small_recipe, tmp_path, capsys):
    prepare(small_recipe(), tmp_path / "a", progress=False)
    assert capsys.readouterr().err == ""
    prepare(small_recipe(), tmp_path / "b", progress=True)
    assert "data" in capsys.readouterr().err
