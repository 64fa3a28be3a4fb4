"""Tasks that choose among given texts by their likelihood."""

import json
import zipfile

import pytest
import torch

from axion.data.recipe import DataRecipe
from axion.data.sources import Arithmetic
from axion.errors import AxionError
from axion.evaluation import choices
from axion.evaluation.choices import Choice, Question, arc_questions, blimp_questions, scored, spread
from axion.evaluation.evaluate import evaluate
from axion.evaluation.likelihood import Way, encode_ways, losses
from axion.inference.readers import pick_backend
from axion.kernels.decoder import NativeDecoder
from axion.release import open_release

DATA = DataRecipe(sources=(Arithmetic(count=100),))
ENDS = (" 7", " 7 5", " nine and more", " 7", "")


@pytest.fixture(scope="module")
def release(tiny_release):
    return open_release(tiny_release)


def alone(release, way: Way) -> float:
    """The loss of a way to go on, from a pass over nothing else."""
    ids = torch.tensor([way.ids[-release.config.max_position_embeddings :]])
    start = max(1, way.start - (len(way.ids) - ids.shape[1]))
    with torch.inference_mode():
        logprobs_SV = release.model(ids[:, :-1]).logits[0].log_softmax(-1)
    return -logprobs_SV[range(start - 1, ids.shape[1] - 1), ids[0, start:]].sum().item()


def test_the_losses_are_those_of_each_text_alone(release):
    long = "# Pergunta:\n" + "Quanto é 12 + 3? " * 20
    ways = encode_ways(release.tokenizer, [("", ENDS[:3]), ("Quanto é 2 + 5?", ENDS), (long, ENDS)])
    assert len(ways[2][0].ids) > release.config.max_position_embeddings + 1
    found = losses(release.model, ways)
    assert [len(each) for each in found] == [3, 5, 5]
    for question, expected in zip(found, ways, strict=True):
        assert question == pytest.approx([alone(release, way) for way in expected], abs=2e-5)
    assert found[1][4] == 0 and found[1][0] == found[1][3]


def test_a_beginning_is_read_once(release, monkeypatch):
    if pick_backend(release.model).name != "native":
        pytest.skip("the kernels cannot be built here")
    read, usual = [], NativeDecoder.score
    monkeypatch.setattr(NativeDecoder, "score", lambda self, ids: read.append([*ids]) or usual(self, ids))
    ways = [Way([1, 20, 21, 22, 23, 31, 32], 5), Way([1, 20, 21, 22, 23, 30], 5), Way([1], 1)]
    [found] = losses(release.model, [ways])
    assert read == [[1], [1, 20, 21, 22, 23, 30], [23, 31, 32]]  # the token before what differs predicts it
    assert found == pytest.approx([alone(release, ways[0]), alone(release, ways[1]), 0], abs=2e-5)


def test_the_end_of_a_text_carries_loss_where_it_is_asked_for(release):
    [[way]], [[ended]] = (encode_ways(release.tokenizer, [("2 + 5?", ["7"])], end) for end in (False, True))
    assert ended.ids == [*way.ids, release.tokenizer.eos_token_id] and ended.start == way.start
    assert release.tokenizer.decode(way.ids[way.start :]) == "7"


def question(right: int, count: int = 4) -> Question:
    return Question("", tuple("abcde"[:count]), right)


def test_a_model_without_preference_scores_chance_exactly(release, monkeypatch):
    asked = [question(number % count, count) for count in (2, 3, 4, 5) for number in range(7)]
    figures = scored([Choice(each, [3.25] * len(each.choices)) for each in asked], by_length=True)
    assert figures["accuracy"] == figures["accuracy_by_length"] == pytest.approx(figures["chance"], abs=1e-12)
    assert figures["tied"] == figures["total"] == 28
    pairs = [Choice(Question("", ("good one", "bad one"), 0), [2.0, 2.0 + 1e-7])] * 3  # a difference of rounding
    assert (scored(pairs)["accuracy"], scored(pairs)["correct"]) == (0.5, 1.5)
    nan = torch.full_like(release.model.lm_head.weight, float("nan"))
    monkeypatch.setattr(release.model.lm_head, "weight", torch.nn.Parameter(nan))
    with pytest.raises(AxionError, match="not finite"):
        losses(release.model, encode_ways(release.tokenizer, [("", ["a", "b"])]))


def test_figures_of_known_losses():
    asked = [
        Choice(Question("", ("aa", "b"), 0), [1.0, 0.9]),  # the second by the sum, the first per character
        Choice(Question("", ("aa", "b"), 1), [1.0, 0.5]),
        Choice(Question("", ("aa", "b"), 1), [1.0, 1.0]),
    ]
    figures = scored(asked, by_length=True)
    assert (figures["correct"], figures["total"], figures["tied"]) == (1.5, 3, 1)
    assert figures["accuracy_by_length"] == pytest.approx((1 + 0.5 + 0) / 3)
    nats_to_bits = 1.4426950408889634
    assert figures["bits_per_byte"] == pytest.approx((1.0 + 0.5 + 1.0) * nats_to_bits / (3 + 2 + 2))
    assert figures["bits_per_byte_wrong"] == pytest.approx((0.9 + 1.0 + 1.0) * nats_to_bits / (2 + 3 + 3))
    low, high = figures["bits_interval"]
    assert low <= figures["bits_per_byte"] <= high


@pytest.fixture
def copies(tmp_path):
    (tmp_path / "eval").mkdir()
    with zipfile.ZipFile(tmp_path / "eval" / "BLiMP.zip", "w") as archive:
        for number, term in enumerate(("island_effects", "binding", "binding")):
            pairs = [
                {
                    "sentence_good": f"She sees {n} of us.",
                    "sentence_bad": f"She see {n} of us.",
                    "linguistics_term": term,
                }
                for n in range(5)
            ]
            archive.writestr(f"data/paradigm_{number}.jsonl", "\n".join(map(json.dumps, pairs)))
        archive.writestr("__MACOSX/data/._paradigm_0.jsonl", b"\x00\xff")
    lines = [{"query": f"Question: {n}?", "choices": ["yes", "no", "perhaps"], "gold": n % 3} for n in range(6)]
    (tmp_path / "eval" / "arc_easy.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_benchmarks_are_measured_in_full_or_on_a_fixed_sample(release, copies, monkeypatch):
    full = evaluate(release, DATA, ["blimp", "arc_easy"], folder=copies)
    blimp, arc = full["blimp"], full["arc_easy"]
    assert (blimp["total"], blimp["chance"], blimp["is_sample"], arc["total"]) == (15, 0.5, False, 6)
    assert [(part["phenomenon"], part["total"]) for part in blimp["scores"]] == [("binding", 10), ("island effects", 5)]
    assert sum(part["correct"] for part in blimp["scores"]) == blimp["correct"]
    assert blimp["command"].endswith(" --tasks blimp") and arc["accuracy_by_length"] >= 0
    monkeypatch.setattr("axion.evaluation.evaluate.SETS", {"quick": ("blimp", "arc_easy"), "card": ("blimp",)})
    sampled = {
        "blimp": lambda subject: choices.measure_blimp(subject, pairs=2),
        "arc_easy": lambda subject: choices.measure_arc_easy(subject, count=4),
    }
    monkeypatch.setattr("axion.evaluation.evaluate.SAMPLES", sampled)
    quick = evaluate(release, DATA, ["quick"], folder=copies)
    assert [(quick[task]["total"], quick[task]["is_sample"]) for task in quick] == [(6, True), (4, True)]
    assert quick["blimp"]["command"].endswith(" --tasks quick")
    both = evaluate(release, DATA, ["quick", "card"], folder=copies)
    assert (both["blimp"]["total"], both["arc_easy"]["total"]) == (15, 4)


def test_the_texts_are_those_of_lm_eval(copies):
    first = blimp_questions(str(copies / "eval" / "BLiMP.zip"))[0]
    assert (first.text, first.choices, first.right) == ("", ("She sees 0 of us.", "She see 0 of us."), 0)
    assert first.sizes == [18, 17]  # with the blank before them
    second = arc_questions(str(copies / "eval" / "arc_easy.jsonl"))[1]
    assert second == Question("Question: 1?\nAnswer:", ("yes", "no", "perhaps"), 1)
    assert spread(range(10), 4) == [0, 2, 5, 7] and spread("ab", 4) == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"query": "?", "choices": ["a"], "gold": 0}', "line 1: choices must be a list of at least two texts"),
        ('{"query": "?", "choices": ["a", ""], "gold": 0}', "choices must be a list"),
        ('{"query": "?", "gold": 0}', "choices must be a list"),
        ('{"query": "?", "choices": ["a", "b"], "gold": 2}', "gold is 2; it must be the place of a choice"),
        ('{"choices": ["a", "b"], "gold": 1}', "no field 'query'"),
    ],
)
def test_a_malformed_question_is_one_line(tmp_path, line, reason):
    (tmp_path / "arc.jsonl").write_text(line + "\n")
    with pytest.raises(AxionError, match=reason):
        arc_questions(str(tmp_path / "arc.jsonl"))


def test_what_is_not_blimp_is_one_line(tmp_path):
    (tmp_path / "x.zip").write_text("no archive")
    with pytest.raises(AxionError, match="is not BLiMP's archive: File is not a zip file"):
        blimp_questions(str(tmp_path / "x.zip"))
    for name, text, reason in (
        ("readme.txt", "", "it has no .jsonl file"),
        ("a.jsonl", '{"sentence_good": "a"}', "a.jsonl: each line must have sentence_good"),
        ("a.jsonl", '{"sentence_good": 1, "sentence_bad": "a", "linguistics_term": "b"}', "must be texts"),
    ):
        with zipfile.ZipFile(tmp_path / "y.zip", "w") as archive:
            archive.writestr(name, text)
        with pytest.raises(AxionError, match=reason):
            blimp_questions(str(tmp_path / "y.zip"))
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", '{"sentence_good": "a", "sentence_bad": "b", "linguistics_term": "c"}\n' * 9)
    whole = (tmp_path / "z.zip").read_bytes()
    (tmp_path / "z.zip").write_bytes(whole[:37] + b"\xff" * 9 + whole[46:])  # behind the header and the name
    with pytest.raises(AxionError, match="is not BLiMP's archive: "):
        blimp_questions(str(tmp_path / "z.zip"))


def test_a_line_of_blimp_may_have_any_character_and_end_like_windows(tmp_path):
    line = '{"sentence_good": "a\u2028b", "sentence_bad": "b", "linguistics_term": "c"}\r\n'
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.jsonl", line * 2)
    assert [each.choices[0] for each in blimp_questions(str(tmp_path / "x.zip"))] == ["a\u2028b"] * 2
