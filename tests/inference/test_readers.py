"""Both readers rewind, verify drafts, and sample a token by seed and index alone."""

import json
from pathlib import Path

import pytest
import torch

from axion.errors import AxionError
from axion.inference.readers import NativeReader
from axion.inference.sampling import LIMITS, Sampling, Uniforms
from axion.inference.stream import stream
from axion.inference.torch_reader import TorchReader
from axion.release import open_release
from tests.conftest import ROOT
from tests.inference.conftest import PROMPT

RECORDED = json.loads((Path(__file__).parent / "recorded_texts.json").read_text(encoding="utf-8"))
"""Texts of the bundled v0.1 after RECORDED_PROMPT, written before readers could rewind; both backends agreed."""
RECORDED_PROMPT = "# Pergunta:\nQuanto é 47 + 38?\n--\n# Resposta:\n"

SAMPLING = Sampling(temperature=1.2, top_p=0.98, repetition_penalty=1.2, min_new_tokens=60, max_new_tokens=60, seed=5)


@pytest.fixture(scope="module")
def bundled():
    return open_release(ROOT / "releases" / "axion1-v0.1")


@pytest.fixture
def ids(release):
    return release.tokenizer(PROMPT).input_ids


@pytest.fixture
def open_reader(release, ids, backend):
    """Opens a reader of the tiny release that has read the prompt or its first `read` tokens."""

    def open_(read=None, ends=(2,), sampling=SAMPLING):
        kind = NativeReader if backend == "native" else TorchReader
        reader = kind(release.model, sampling, len(ids), set(ends))
        reader.read(ids[:read])
        return reader

    return open_


def draw(reader, count):
    return [reader.draw() for _ in range(count)]


def assert_same(found, wanted):
    """Assert equal draws, up to the rounding of passes over different numbers of tokens."""
    assert [drawn.token for drawn in found] == [drawn.token for drawn in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.top_ids == other.top_ids and one.routing.experts == other.routing.experts
        probabilities = [[drawn.probability, *drawn.top_probabilities] for drawn in (one, other)]
        assert probabilities[0] == pytest.approx(probabilities[1], rel=1e-3)


@pytest.mark.parametrize("number", range(len(RECORDED)))
def test_old_links_still_give_the_same_texts(number, backend, bundled):
    recorded = RECORDED[number]
    steps = stream(
        bundled.model,
        bundled.tokenizer,
        RECORDED_PROMPT,
        Sampling(**recorded["sampling"]),
        forced=recorded["forced"],
        backend=backend,
    )
    assert [step.token_id for step in steps if not step.is_prompt] == recorded["tokens"]


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, 2**40 + 7, LIMITS["seed"][1]])
def test_random_numbers_are_those_of_pytorch(seed):
    expected = torch.rand(10_000, dtype=torch.float64, generator=torch.Generator().manual_seed(int(seed))).tolist()
    uniforms = Uniforms(int(seed))
    assert [uniforms[index] for index in range(10_000)] == expected


def test_a_random_number_depends_on_seed_and_index_alone():
    generator = torch.Generator().manual_seed(11)
    expected = [torch.rand((), dtype=torch.float64, generator=generator).item() for _ in range(200)]
    uniforms = Uniforms(11)
    assert [uniforms[index] for index in (130, 3, 64, 63, 199, 3)] == [expected[i] for i in (130, 3, 64, 63, 199, 3)]
    assert [uniforms[index] for index in range(200)] == expected
    assert Uniforms(12)[0] != expected[0]


def test_after_a_rewind_the_same_tokens_are_drawn_again(open_reader, ids):
    reader = open_reader()
    drawn = draw(reader, 24)
    for kept in (20, 7, 0):
        reader.rewind(len(ids) + kept)
        assert (reader.length, reader.room) == (len(ids) + kept, 128 - len(ids) - kept)
        assert reader.choose() == drawn[kept].token
        assert_same(draw(reader, 24 - kept), drawn[kept:])
    for token in (drawn[0].token, 30, 31, 31):  # rejected tokens must leave no repetition penalty behind
        reader.rewind(len(ids))
        reader.draw(token)
        reader.read([33, 34])
    reader.rewind(len(ids))
    assert_same(draw(reader, 24), drawn)


def test_after_a_rewind_into_the_prompt_another_can_be_read(open_reader, ids):
    reader, fresh = open_reader(), open_reader(10)
    draw(reader, 3)
    reader.rewind(10)
    other = ids[:9:-1]
    routing = reader.read(other)
    assert [one.experts for one in routing] == [one.experts for one in fresh.read(other)]
    assert_same(draw(reader, 5), draw(fresh, 5))


def test_rewinding_to_nothing_or_too_far(open_reader, ids):
    reader = open_reader()
    for length in (-1, len(ids) + 1):
        with pytest.raises(AxionError, match=f"cannot rewind to {length} tokens; {len(ids)} were read"):
            reader.rewind(length)
    expected = draw(reader, 3)
    reader.rewind(0)
    assert reader.length == 0
    for work in (reader.choose, reader.draw, lambda: reader.verify([5])):
        with pytest.raises(AxionError, match=f"{len(ids)} tokens of the prompt were not read"):
            work()
    reader.read(ids)
    assert_same(draw(reader, 3), expected)


def test_inside_the_prompt_nothing_is_drawn(open_reader, ids):
    """A negative index would otherwise take a random number from the end of a list, whose length varies."""
    with pytest.raises(AxionError, match="2 tokens of the prompt were not read; read all of it"):
        Uniforms(1)[-2]
    reader = open_reader(len(ids) - 2)
    for work in (reader.choose, reader.draw, lambda: reader.verify([5])):
        with pytest.raises(AxionError, match="2 tokens of the prompt were not read"):
            work()
    assert reader.length == len(ids) - 2
    assert reader.draw(ids[-2]).token == ids[-2]  # a forced token needs no random number
    reader.read(ids[-1:])
    assert_same(draw(reader, 3), draw(open_reader(), 3))


def test_what_cannot_be_read_is_refused_before_anything_is_read(open_reader, ids):
    reader = open_reader()
    room = reader.room
    for tokens in ([], [5] * (room + 1)):
        for work in (reader.read, reader.verify):
            with pytest.raises(AxionError, match=f"cannot read {len(tokens)} tokens; from 1 to {room} fit"):
                work(tokens)
    for work in (reader.read, reader.verify, lambda tokens: reader.draw(tokens[-1])):
        with pytest.raises(AxionError, match="the model has no token 320; its tokens are 0 to 319"):
            work([5, 320])
    assert reader.length == len(ids)
    reader.read([5] * room)
    with pytest.raises(AxionError, match="the context is full"):
        reader.draw()


def test_a_draft_is_accepted_up_to_the_first_difference(open_reader, ids):
    drawn = draw(open_reader(), 40)
    tokens = [one.token for one in drawn]
    reader, done = open_reader(), 0
    for good, bad in [(0, 2), (6, 0), (3, 4), (1, 1), (12, 1), (0, 1)]:
        wrong = [(token + 1) % 320 for token in tokens[done + good : done + good + bad]]
        kept = reader.verify(tokens[done : done + good] + wrong)
        assert_same(kept, drawn[done : done + good])
        done += good
        assert reader.length == len(ids) + done and reader.choose() == tokens[done]
    assert_same(draw(reader, 40 - done), drawn[done:])


def test_a_drafted_end_of_text_token_is_not_accepted(open_reader):
    greedy = Sampling(max_new_tokens=20)
    tokens = [one.token for one in draw(open_reader(ends=(), sampling=greedy), 6)]
    end, before = tokens[4], tokens.index(tokens[4])
    reader = open_reader(ends={end}, sampling=greedy)
    assert [one.token for one in reader.verify(tokens)] == tokens[:before]
    assert reader.choose() is None and reader.draw() is None
