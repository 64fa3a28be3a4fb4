"""Completions with the official client."""

import math
import random
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
import torch

from axion.inference import readers
from axion.inference.stream import encode_prompt
from playground.api import generation
from playground.api.requests import IGNORED
from playground.api.responses import token_bytes
from tests.playground.api.openai_server import PROMPT, expected_steps, good, records, text_of


@pytest.mark.parametrize("attempt", range(2))
def test_text_and_routing_match_the_stream(client, catalogue, attempt):
    seed = random.randrange(2**53)
    prompt = "".join(random.Random(seed).choices("# Pergunta:\né2+🦜", k=20))
    request = {"temperature": 0.9, "top_p": 0.95, "seed": seed}
    extra = {"top_k": 50, "min_p": 0.01, "repetition_penalty": 1.1, "min_tokens": 3, "routing": True}
    steps = expected_steps(
        catalogue,
        prompt=prompt,
        **request,
        top_k=50,
        min_p=0.01,
        repetition_penalty=1.1,
        min_new_tokens=3,
        max_new_tokens=40,
    )
    answer = client.completions.create(model="plain", prompt=prompt, max_tokens=40, extra_body=extra, **request)
    choice = answer.choices[0]
    assert choice.text == text_of(steps)
    assert records(choice.routing) == [step.to_record() for step in steps]
    assert answer.seed == seed and answer.model == "plain"
    prompt_tokens = sum(step.is_prompt for step in steps)
    assert answer.usage.prompt_tokens == prompt_tokens
    assert answer.usage.completion_tokens == len(steps) - prompt_tokens
    assert answer.usage.total_tokens == len(steps)
    facts = catalogue.open("plain").facts
    for name in ("layers", "first_layer", "experts", "experts_per_token"):
        assert choice.routing[name] == getattr(facts, name)

    chunks = list(
        client.completions.create(
            model="plain",
            prompt=prompt,
            max_tokens=40,
            extra_body=extra,
            stream=True,
            stream_options={"include_usage": True},
            **request,
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == choice.text
    parts = [chunk.choices[0].routing for chunk in chunks[:-1] if hasattr(chunk.choices[0], "routing")]
    assert [record for part in parts for record in records(part)] == records(choice.routing)
    assert parts[0]["bias"] == choice.routing["bias"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-2].choices[0].finish_reason == choice.finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage == answer.usage


def test_the_returned_random_seed_reproduces_the_answer(client):
    first = client.completions.create(model="plain", prompt=PROMPT, max_tokens=30)
    again = client.completions.create(model="plain", prompt=PROMPT, max_tokens=30, seed=first.seed)
    other = client.completions.create(model="plain", prompt=PROMPT, max_tokens=30)
    assert again.choices[0].text == first.choices[0].text
    assert other.seed != first.seed


def test_finish_reasons(client):
    def ending(**request: object) -> tuple[str, str]:
        choice = client.completions.create(**({"model": "endless", "prompt": PROMPT, "seed": 1} | request)).choices[0]
        return choice.finish_reason, choice.ended_by

    assert ending(max_tokens=3) == ("length", "length")
    assert ending(model="plain", prompt="7" * 120, max_tokens=500, extra_body={"min_tokens": 400}) == (
        "length",
        "context",
    )
    assert client.completions.create(model="plain", prompt=PROMPT).usage.completion_tokens <= 16


def test_eos_gives_the_finish_reason_stop(client, catalogue):
    request = {"temperature": 2.0, "top_k": 0}
    seed = next(
        seed for seed in range(1000) if len(expected_steps(catalogue, seed=seed, max_new_tokens=30, **request)) < 30
    )
    choice = client.completions.create(model="plain", prompt=PROMPT, seed=seed, temperature=2.0, max_tokens=200)
    assert (choice.choices[0].finish_reason, choice.choices[0].ended_by) == ("stop", "eos")


def test_the_time_limit_of_the_server_is_reported(client, monkeypatch):
    monkeypatch.setattr(generation, "MAX_SECONDS", 0)
    choice = client.completions.create(model="endless", prompt=PROMPT, max_tokens=500).choices[0]
    assert (choice.finish_reason, choice.ended_by, choice.time_limit_seconds) == ("length", "time", 0)
    *_, last = client.completions.create(model="endless", prompt=PROMPT, max_tokens=500, stream=True)
    assert last.choices[0].ended_by == "time"


def test_scores_of_a_prompt_are_never_cut_short(client, monkeypatch):
    monkeypatch.setattr(generation, "MAX_SECONDS", 0)
    client = client.with_options(max_retries=0)
    request = {"model": "endless", "prompt": [PROMPT, PROMPT], "echo": True, "logprobs": 1, "max_tokens": 0}
    with pytest.raises(openai.InternalServerError, match="reading the prompts took longer than 0 s") as caught:
        client.completions.create(**request)
    assert caught.value.status_code == 503


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("length", [1, 3, 7])
def test_a_stop_string_cuts_the_text_anywhere_inside_tokens(client, catalogue, stream, length):
    steps = expected_steps(catalogue, "endless", seed=9, temperature=1.0, max_new_tokens=60)
    text = text_of(steps)
    stop = text[23 : 23 + length]
    request = {
        "model": "endless",
        "prompt": PROMPT,
        "max_tokens": 60,
        "seed": 9,
        "stop": [stop, "never"],
        "logprobs": 0,
    }
    if stream:
        *chunks, last = client.completions.create(**request, stream=True)
        written = "".join(chunk.choices[0].text for chunk in chunks)
        tokens = [token for chunk in chunks for token in chunk.choices[0].logprobs.tokens]
        choice = last.choices[0]
    else:
        choice = client.completions.create(**request).choices[0]
        written, tokens = choice.text, choice.logprobs.tokens
    assert written == text[: text.index(stop)]
    assert (choice.finish_reason, choice.ended_by) == ("stop", "stop")
    starts = [len(text_of(steps[:number])) for number in range(len(steps))]
    inside = [
        step for step, start in zip(steps, starts, strict=True) if not step.is_prompt and start < text.index(stop)
    ]
    assert len(tokens) == len(inside)


def test_generation_ends_at_a_stop_string(client, catalogue):
    text = text_of(expected_steps(catalogue, "endless", seed=9, temperature=1.0, max_new_tokens=60))
    answer = client.completions.create(model="endless", prompt=PROMPT, max_tokens=500, seed=9, stop=text[20:25])
    assert answer.usage.completion_tokens < 60


def test_logprobs_of_a_completion(client, catalogue):
    request = {"model": "plain", "prompt": PROMPT, "max_tokens": 12, "seed": 4, "logprobs": 3}
    steps = expected_steps(catalogue, seed=4, temperature=1.0, max_new_tokens=12)
    new = [step for step in steps if not step.is_prompt]
    shown = client.completions.create(**request).choices[0].logprobs
    assert len(new) == 12, "the text must not end with EOS here"
    assert shown.token_logprobs == pytest.approx([math.log(step.probability) for step in new], abs=1e-3)
    tokenizer = catalogue.open("plain").release.tokenizer
    for step, top in zip(new, shown.top_logprobs, strict=True):
        likeliest = [token for token, *_ in step.alternatives[:3]]
        assert len(top) == len({token_bytes(tokenizer, token) for token in [*likeliest, step.token_id]})
    assert all(name in top for name, top in zip(shown.tokens, shown.top_logprobs, strict=True))
    assert shown.text_offset == [len(PROMPT) + len(text_of(new[:number])) for number in range(len(new))]
    chunks = list(client.completions.create(**request, stream=True))
    parts = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
    assert [offset for part in parts for offset in part.text_offset] == shown.text_offset
    assert [name for part in parts for name in part.tokens] == shown.tokens


def test_echo_puts_the_prompt_first_and_scores_it(client, catalogue):
    request = {"model": "plain", "prompt": [PROMPT], "max_tokens": 6, "seed": 4, "logprobs": 1}
    plain = client.completions.create(**request)
    echoed = client.completions.create(**request, echo=True)
    assert echoed.choices[0].text == PROMPT + plain.choices[0].text
    logprobs = echoed.choices[0].logprobs
    release = catalogue.open("plain").release
    ids = encode_prompt(release.tokenizer, PROMPT)
    expected, likeliest = score(release.model, ids)
    assert logprobs.token_logprobs[: len(ids)] == [None, *(pytest.approx(value, abs=1e-5) for value in expected)]
    assert logprobs.top_logprobs[0] is None
    for place, (own, best) in enumerate(zip(expected, likeliest, strict=True), start=1):
        assert max(logprobs.top_logprobs[place].values()) == pytest.approx(best, abs=1e-5)
        assert (logprobs.token_logprobs[place] == max(logprobs.top_logprobs[place].values())) == (own == best)
    assert logprobs.text_offset[len(ids) :] == plain.choices[0].logprobs.text_offset
    assert logprobs.tokens[len(ids) :] == plain.choices[0].logprobs.tokens
    streamed = client.completions.create(**request, echo=True, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == echoed.choices[0].text


def score(model, ids: list[int]) -> tuple[list[float], list[float]]:
    """The log probabilities of the tokens after the first, and those of the most likely tokens at these positions."""
    logprobs_TV = model(torch.tensor([ids])).logits[0].detach().double().log_softmax(-1)[:-1]
    return logprobs_TV[range(len(ids) - 1), ids[1:]].tolist(), logprobs_TV.max(-1).values.tolist()


def test_a_prompt_is_scored_without_generating(client, catalogue):
    """Token ids are scored exactly as given; no BOS is added."""
    release = catalogue.open("plain").release
    ids = release.tokenizer(PROMPT, add_special_tokens=False).input_ids
    request = {"model": "plain", "max_tokens": 0, "logprobs": 0, "echo": True}
    answer = client.completions.create(prompt=ids, **request)
    choice = answer.choices[0]
    assert (choice.text, choice.finish_reason) == (PROMPT, "length")
    assert choice.logprobs.token_logprobs[1:] == pytest.approx(score(release.model, ids)[0], abs=1e-5)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(ids), 0)
    assert client.completions.create(model="plain", prompt=ids, max_tokens=0).choices[0].text == ""
    bias = {str(release.tokenizer.eos_token_id): 100}  # without max_tokens=0 the text would end at once
    again = client.completions.create(prompt=ids, logit_bias=bias, **request).choices[0]
    assert (again.finish_reason, again.logprobs.tokens) == ("length", choice.logprobs.tokens)


def test_log_probabilities_include_the_eos_token(client, catalogue):
    """Clients that score a prompt cut off the last token, so it must not be one of the prompt's."""
    release = catalogue.open("plain").release
    request = {"temperature": 2.0, "top_k": 0}
    seed = next(
        seed for seed in range(1000) if len(expected_steps(catalogue, seed=seed, max_new_tokens=30, **request)) < 30
    )
    request = {"model": "plain", "prompt": PROMPT, "seed": seed, "temperature": 2.0, "max_tokens": 200, "logprobs": 1}
    choice = client.completions.create(**request, echo=True).choices[0]
    assert choice.ended_by == "eos" and choice.logprobs.tokens[-1] == "<eos>"
    steps = expected_steps(catalogue, seed=seed, temperature=2.0, max_new_tokens=200)
    ids = [*(step.token_id for step in steps), release.tokenizer.eos_token_id]
    assert len(choice.logprobs.tokens) == len(ids)
    assert choice.logprobs.token_logprobs[-1] == pytest.approx(score(release.model, ids)[0][-1], abs=1e-5)
    streamed = list(client.completions.create(**request, echo=True, stream=True))
    assert [name for chunk in streamed for name in chunk.choices[0].logprobs.tokens] == choice.logprobs.tokens
    message = {"messages": [{"role": "user", "content": "hi"}], "logprobs": True, "max_tokens": 200}
    chat = client.chat.completions.create(model="chatty", seed=1, **message)
    assert len(chat.choices[0].logprobs.content) == chat.usage.completion_tokens


def test_batched_prompts_and_choices_match_single_requests(client, catalogue, monkeypatch):
    """They are drawn together, and their chunks come in turns."""
    drawn = []

    def draw_several(decoders, uniforms, usual=readers.draw_several):
        drawn.append(len(decoders))
        return usual(decoders, uniforms)

    monkeypatch.setattr(readers, "draw_several", draw_several)
    tokenizer = catalogue.open("plain").release.tokenizer
    texts = [PROMPT, "# Pergunta:\n", "7"]
    request = {"model": "plain", "max_tokens": 8, "temperature": 0.9, "seed": 5}
    alone = [
        client.completions.create(**request | {"seed": 5 + number}, prompt=text).choices[0].text
        for text in texts for number in range(2)
    ]  # fmt: skip
    ids = [tokenizer(text).input_ids for text in texts]
    for prompt in (texts, ids):
        answer = client.completions.create(**request, prompt=prompt, n=2)
        assert [choice.index for choice in answer.choices] == list(range(6))
        assert [choice.text for choice in answer.choices] == alone
    assert answer.usage.prompt_tokens == sum(map(len, ids))
    written = dict.fromkeys(range(6), "")
    ended = []
    for chunk in client.completions.create(**request, prompt=texts, n=2, stream=True):
        written[chunk.choices[0].index] += chunk.choices[0].text
        ended += [chunk.choices[0].index] if chunk.choices[0].finish_reason else []
    assert list(written.values()) == alone and sorted(ended) == list(range(6))
    assert not drawn or max(drawn) > 2  # the three prompts differ in length; nothing is drawn so in PyTorch


def test_best_of_returns_the_likeliest_texts(client):
    request = {"model": "plain", "prompt": PROMPT, "max_tokens": 8, "seed": 5, "logprobs": 0}
    every = client.completions.create(**request, n=5)
    best = client.completions.create(**request, n=2, best_of=5)

    def mean(choice) -> float:
        tokens = [name for name in choice.logprobs.tokens if name != "<eos>"]
        return sum(choice.logprobs.token_logprobs[: len(tokens)]) / len(tokens)

    ranked = sorted(every.choices, key=mean, reverse=True)
    assert [choice.text for choice in best.choices] == [choice.text for choice in ranked[:2]]
    assert [choice.index for choice in best.choices] == [0, 1]
    assert best.usage.completion_tokens == every.usage.completion_tokens


def test_a_bias_and_penalties_change_what_is_drawn(client, catalogue):
    request = {
        "model": "endless",
        "prompt": PROMPT,
        "max_tokens": 30,
        "temperature": 0,
        "extra_body": {"routing": True},
    }

    def drawn(**more: object) -> list[int]:
        [choice] = client.completions.create(**request, **more).choices
        return [step["id"] for step in choice.routing["steps"] if not step["prompt"]]

    plain = drawn()
    assert drawn(logit_bias={"77": 100}) == [77] * 30
    assert plain[0] not in drawn(logit_bias={str(plain[0]): -100})
    assert drawn(presence_penalty=0, frequency_penalty=0.0, logit_bias={}) == plain
    model = catalogue.open("endless").release.model
    for presence, frequency in ((2.0, 0.0), (0.0, 1.5), (-1.0, 0.5)):
        ids = list(encode_prompt(catalogue.open("endless").release.tokenizer, PROMPT))
        expected: list[int] = []
        for _ in range(30):
            logits_V = model(torch.tensor([ids + expected])).logits[0, -1].detach()
            for token in set(expected):
                logits_V[token] -= presence + frequency * expected.count(token)
            expected.append(int(logits_V.argmax()))
        assert drawn(presence_penalty=presence, frequency_penalty=frequency) == expected != plain


def test_parameters_with_neutral_values_are_accepted(http):
    harmless = {name: {"any": ["value"]} for name in IGNORED}
    harmless |= {"n": 1, "best_of": 1, "tools": None, "tool_choice": "auto"}
    answer = http.post("/completions", json=good(**harmless, response_format={"type": "text"}))
    assert answer.status_code == 200


def test_an_integral_float_is_accepted_as_a_seed(http):
    assert http.post("/completions", json=good(seed=3.0)).json()["seed"] == 3


def test_concurrent_requests_get_their_own_answers(address, catalogue):
    def ask(seed: int) -> str:
        request = good(seed=seed, max_tokens=20, temperature=0.9)
        return httpx.post(f"{address}/completions", json=request, timeout=60).json()["choices"][0]["text"]

    with ThreadPoolExecutor(12) as pool:
        texts = list(pool.map(ask, range(12)))
    expected = [text_of(expected_steps(catalogue, seed=seed, temperature=0.9, max_new_tokens=20)) for seed in range(12)]
    assert texts == expected
