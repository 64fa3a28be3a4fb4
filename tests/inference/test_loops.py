"""The number of loops is chosen at the call: texts, routing rows, traces and counts follow it."""

import shutil

import pytest
import torch

from axion.errors import AxionError
from axion.inference.readers import NativeReader
from axion.inference.routing import RoutingRow, count_reads, expert_favourites, expert_load, routers
from axion.inference.sampling import Sampling
from axion.inference.stream import make_trace, stream
from axion.inference.torch_reader import TorchReader
from axion.inference.variants import with_loops
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.release import Release, open_release
from tests.conftest import TINY
from tests.inference.conftest import PROMPT

LOOPED_MIXTURE = TINY | {"num_hidden_layers": 4, "num_shared_layers": 2, "num_loops": 2}


@pytest.fixture(scope="module")
def looped(tiny_release, tmp_path_factory) -> Release:
    """A release with random weights, whose two middle layers of four have experts and run twice."""
    folder = tmp_path_factory.mktemp("looped") / "axion-looped"
    shutil.copytree(tiny_release, folder)
    torch.manual_seed(2)
    AxionForCausalLM(AxionConfig(**LOOPED_MIXTURE)).save_pretrained(folder)
    return open_release(folder)


def generate(release, backend="auto", **settings):
    sampling = Sampling(**{"max_new_tokens": 20, "min_new_tokens": 20} | settings)
    return list(stream(release.model, release.tokenizer, PROMPT, sampling, backend=backend))


@pytest.mark.parametrize("loops", [1, 2, 5])
def test_the_text_is_the_one_that_the_whole_model_would_write(looped, loops, backend):
    steps = generate(looped, backend, num_loops=loops)
    ids = [step.token_id for step in steps]
    new = next(index for index, step in enumerate(steps) if not step.is_prompt)
    with torch.no_grad():
        logits = looped.model(torch.tensor([ids]), num_loops=loops, use_cache=False).logits[0]
    logits[:, 2] = -torch.inf  # it ends a text, which min_new_tokens does not allow
    assert ids[new:] == logits[new - 1 : -1].argmax(-1).tolist()
    probabilities = logits[new - 1 : -1].softmax(-1).gather(1, torch.tensor(ids[new:])[:, None])[:, 0]
    assert [step.probability for step in steps[new:]] == pytest.approx(probabilities.tolist(), rel=0.05)


def test_loops_change_the_text_and_the_default_is_the_configs(looped):
    texts = {loops: [step.token_id for step in generate(looped, num_loops=loops)] for loops in (0, 1, 2, 3)}
    assert texts[0] == texts[2]
    assert texts[1] != texts[2] != texts[3]
    assert looped.config.num_loops == looped.model.config.num_loops == 2


def test_routing_names_layer_and_loop(looped):
    expected = {
        1: [(1, 1), (2, 1), (3, 1), (4, 1)],
        2: [(1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (4, 1)],
        3: [(1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (2, 3), (3, 3), (4, 1)],
    }
    for loops, rows in expected.items():
        routing = generate(looped, num_loops=loops)[-1].routing
        assert list(routing.rows) == rows
        assert {len(part) for part in (routing.experts, routing.gates, routing.affinities, routing.displaced)} == {
            len(rows)
        }
    variant = with_loops(looped.model, 3)
    assert routers(variant)[RoutingRow(3, 1)] is routers(variant)[RoutingRow(3, 3)]
    rows = tuple(routers(variant))
    assert [row.label(rows) for row in rows[:3]] == ["layer 1", "layer 2, loop 1", "layer 3, loop 1"]


def test_each_row_shows_the_routing_of_its_own_pass(looped, backend):
    """Against the routers' own choices, one pass after the other."""
    steps = generate(looped, backend, num_loops=3)
    chosen = []
    hooks = [
        layer.mlp.gate.register_forward_hook(lambda gate, _, output: chosen.append(gate.choose(output[0])[1]))
        for layer in looped.model.model.layers
    ]
    try:
        with torch.no_grad():
            looped.model(torch.tensor([[step.token_id for step in steps]]), num_loops=3, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(chosen) == 8
    for row, experts_TK in enumerate(chosen):
        assert [sorted(step.routing.experts[row]) for step in steps] == experts_TK.sort(-1).values.tolist()


def test_counts_and_traces_have_a_row_for_every_pass(looped):
    documents = [looped.tokenizer(PROMPT).input_ids, list(range(20, 60))]
    tokens, chosen = sum(map(len, documents)), looped.config.num_experts_per_tok
    for loops, rows in ((1, 4), (2, 6), (3, 8)):
        model = with_loops(looped.model, loops)
        assert expert_load(model, documents).sum(dim=-1).tolist() == [tokens * chosen] * rows
        assert count_reads(model, documents)[0].shape[0] == rows
        places = {(entry["layer"], entry["loop"]) for entry in expert_favourites(model, looped.tokenizer, documents)}
        assert places == set(routers(model))
    trace = make_trace("looped", looped.model, looped.tokenizer, PROMPT, Sampling(max_new_tokens=3, num_loops=3))
    assert trace["rows"][3] == [2, 2]
    assert trace["layers"] == len(trace["rows"]) == len(trace["steps"][0]["e"]) == 8


def test_a_reader_rewinds_with_loops(looped, backend):
    ids = looped.tokenizer(PROMPT).input_ids
    sampling = Sampling(temperature=1.0, seed=4, max_new_tokens=10)

    def reader(read):
        kind = NativeReader if backend == "native" else TorchReader
        opened = kind(with_loops(looped.model, 3), sampling, len(ids), set())
        opened.read(read)
        return opened

    once = reader(ids)
    first = [once.draw().token for _ in range(8)]
    once.rewind(len(ids) + 3)
    assert [once.draw().token for _ in range(5)] == first[3:]
    kept = reader(ids).verify([*first[:4], (first[4] + 1) % 320])
    assert [drawn.token for drawn in kept] == first[:4]


def test_a_variant_has_the_models_own_tensors(looped):
    variant = with_loops(looped.model, 4)
    assert variant.config.num_loops == variant.model.config.num_loops == 4
    ours = dict(looped.model.named_parameters()) | dict(looped.model.named_buffers())
    for name, tensor in {**dict(variant.named_parameters()), **dict(variant.named_buffers())}.items():
        assert tensor is ours[name]
    assert with_loops(looped.model, 0) is with_loops(looped.model, 2) is looped.model


def test_a_model_that_is_not_looped_is_refused_at_the_call(release):
    with pytest.raises(AxionError, match="num_loops is 2; this model has no shared layers to loop, so it must be 1"):
        stream(release.model, release.tokenizer, PROMPT, Sampling(num_loops=2))
    assert with_loops(release.model, 1) is release.model
    with pytest.raises(AxionError, match="num_loops must be a whole number from 0 to 8, not 9"):
        Sampling(num_loops=9)
