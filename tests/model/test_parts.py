"""The parts that other families use: grouped queries, low rank, loops, dropout and multi-token prediction."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, DeepseekV3Config, DeepseekV3ForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import DynamicCache, StaticCache

from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.model.projection_axion import AxionLowRankLinear
from axion.model.shape_axion import AxionShape
from tests.model.test_modeling import SMALL, assert_close, tokens

GROUPED = {
    **{key: SMALL[key] for key in ("vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings")},
    **{"attention": "gqa", "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2},
    **{"num_hidden_layers": 3, "first_k_dense_replace": 3},
}
LOOPED = {**GROUPED, "num_hidden_layers": 6, "first_k_dense_replace": 6, "num_shared_layers": 2, "num_loops": 3}
LOOPED_MIXTURE = {**SMALL, "num_hidden_layers": 4, "num_shared_layers": 2, "num_loops": 3}
PREDICTS_TWO = {**SMALL, "num_nextn_predict_layers": 1, "first_k_dense_replace": 1}


def build(fields: dict, **changes) -> AxionForCausalLM:
    torch.manual_seed(0)
    return AxionForCausalLM(AxionConfig(**{**fields, **changes})).eval()


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


# --- Grouped-query attention ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False},
        {"num_key_value_heads": 1},
        {"num_key_value_heads": 4, "attention_bias": True},
        {"head_dim": 12, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}},
    ],
    ids=["tied", "untied", "one key", "a key per head, biases", "own head size", "yarn"],
)
def test_logits_and_gradients_equal_transformers_llama(changes):
    model = build(GROUPED, **changes)
    config = model.config
    names = (set(LlamaConfig().to_dict()) & set(config.to_dict())) - {"model_type", "architectures", "attention"}
    reference = LlamaForCausalLM(LlamaConfig(**{name: getattr(config, name) for name in names})).eval()
    reference.load_state_dict(model.state_dict())
    ids = tokens(model)
    ours, theirs = model(ids, labels=ids), reference(ids, labels=ids)
    assert_close(ours.logits, theirs.logits, "logits")
    ours.loss.backward()
    theirs.loss.backward()
    references = gradients(reference)
    for name, gradient in gradients(model).items():
        assert_close(gradient, references[name], f"gradient of {name}")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("fields", [GROUPED, {**GROUPED, "projection_rank": 4}, LOOPED, LOOPED_MIXTURE])
def test_cached_and_uncached_logits_agree(fields, attention):
    model = build(fields)
    model.set_attn_implementation(attention)
    ids = tokens(model, length=20)
    with torch.no_grad():
        whole = model(ids, use_cache=False).logits
        first = model(ids[:, :12], use_cache=True)
        pieces = [first.logits]
        pieces += [model(ids[:, i : i + 1], past_key_values=first.past_key_values).logits for i in range(12, 20)]
    assert_close(torch.cat(pieces, dim=1), whole, "cached logits")


def test_fields_of_latent_attention_are_empty_with_grouped_queries(tmp_path):
    config = AxionConfig(**GROUPED)
    assert (config.kv_lora_rank, config.qk_rope_head_dim, config.v_head_dim) == (None, None, None)
    assert (config.head_dim, config.qk_head_dim, config.rope_interleave) == (8, 8, False)
    config.save_pretrained(tmp_path)
    assert AxionConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


# --- Low rank ---------------------------------------------------------------------------------------------------------


def test_a_low_rank_model_equals_a_plain_one_of_the_products():
    low = build(GROUPED, projection_rank=4)
    plain = build(GROUPED)
    weights = {}
    for name, module in low.named_modules():
        if isinstance(module, AxionLowRankLinear):
            weights[f"{name}.weight"] = module.b.weight @ module.a.weight
    assert len(weights) == 3 * 7
    rest = {name: value for name, value in low.state_dict().items() if ".a.weight" not in name}
    plain.load_state_dict(weights | {name: value for name, value in rest.items() if ".b.weight" not in name})
    ids = tokens(low)
    assert_close(low(ids).logits, plain(ids).logits, "logits")


def test_products_of_low_rank_start_with_the_deviation_of_full_matrices():
    model = build(GROUPED, projection_rank=16, hidden_size=256, intermediate_size=512, initializer_range=0.02)
    mlp = model.model.layers[0].mlp
    assert (mlp.up_proj.b.weight @ mlp.up_proj.a.weight).std().item() == pytest.approx(0.02, rel=0.1)


# --- Loops ------------------------------------------------------------------------------------------------------------


def unrolled(model: AxionForCausalLM, ids: torch.Tensor, loops: int) -> torch.Tensor:
    """The logits of the loops written out, layer by layer."""
    decoder = model.model
    hidden = decoder.embed_tokens(ids)
    inputs = decoder.layer_inputs(hidden)
    start, stop = decoder.shared_layers.start, decoder.shared_layers.stop
    for layer in decoder.layers[:start]:
        hidden = layer(hidden, **inputs)
    before, share = hidden, torch.sigmoid(decoder.loop_gate)
    for loop in range(loops):
        for layer in decoder.layers[start:stop]:
            hidden = layer(hidden, **inputs)
        if loop + 1 < loops:
            hidden = share * hidden + (1 - share) * before
    for layer in decoder.layers[stop:]:
        hidden = layer(hidden, **inputs)
    return model.lm_head(decoder.norm(hidden))


@pytest.mark.parametrize("fields", [LOOPED, LOOPED_MIXTURE, {**LOOPED, "num_shared_layers": 6}])
def test_loops_equal_the_same_layers_written_out(fields):
    model = build(fields)
    ids = tokens(model, length=12)
    for loops in (1, 2, 5):
        model.zero_grad()
        logits = model(ids, num_loops=loops).logits
        reference = unrolled(model, ids, loops)
        assert_close(logits, reference, f"logits after {loops} loops")
        logits.square().sum().backward()
        ours = gradients(model)
        model.zero_grad()
        reference.square().sum().backward()
        for name, gradient in gradients(model).items():
            if gradient is None:  # one loop has no gate
                assert (name, loops) == ("model.loop_gate", 1)
                continue
            assert_close(ours[name], gradient, f"gradient of {name}", tolerance=1e-4)


def test_the_config_has_the_default_number_of_loops():
    model = build(LOOPED)
    ids = tokens(model)
    assert torch.equal(model(ids).logits, model(ids, num_loops=3).logits)
    assert not torch.equal(model(ids).logits, model(ids, num_loops=2).logits)
    assert model.model.loop_gate.item() == 0.5
    assert [model.config.depth(loops) for loops in (None, 1, 4)] == [10, 6, 12]


def test_generate_takes_the_number_of_loops():
    model = build(LOOPED)
    ids = tokens(model, batch=1, length=8)
    texts = []
    for loops in (1, 2, 4):
        text = model.generate(ids, max_new_tokens=12, do_sample=False, num_loops=loops, eos_token_id=None)
        with torch.no_grad():
            logits = model(text, num_loops=loops).logits
        assert torch.equal(text[:, 8:], logits[:, 7:-1].argmax(-1)), f"{loops} loops"
        texts.append(text.tolist())
    assert texts[0] != texts[1]


@pytest.mark.parametrize("cache", [None, "empty", "with entries"])
def test_a_cache_has_entries_for_every_loop(cache):
    model = build(LOOPED)
    cache = {None: None, "empty": DynamicCache(), "with entries": DynamicCache(config=model.config)}[cache]
    outputs = model(tokens(model), use_cache=True, past_key_values=cache, num_loops=4)
    assert len(outputs.past_key_values.layers) == 12
    assert outputs.past_key_values.get_seq_length() == 40
    for loops in (2, 5):
        with pytest.raises(ValueError, match="filled with another num_loops"):
            model(tokens(model, length=1), past_key_values=outputs.past_key_values, num_loops=loops)


def test_a_cache_of_fixed_size_is_refused_with_loops():
    model = build(LOOPED)
    with pytest.raises(ValueError, match="needs a DynamicCache"):
        model(tokens(model), past_key_values=StaticCache(config=model.config, max_cache_len=64))


def test_recorded_outputs_have_an_entry_per_pass():
    model = build(LOOPED_MIXTURE)
    outputs = model(tokens(model), output_router_logits=True, output_hidden_states=True, num_loops=3)
    assert (len(outputs.router_logits), len(outputs.hidden_states)) == (8, 9)


@pytest.mark.parametrize(
    ("fields", "loops", "message"),
    [
        (GROUPED, 2, "no shared layers to loop"),
        (LOOPED, 0, "num_loops is 0; it must be an integer of at least 1"),
        (LOOPED, True, "num_loops is True"),
        (LOOPED, 1.5, "num_loops is 1.5"),
    ],
)
def test_impossible_numbers_of_loops_are_refused(fields, loops, message):
    model = build(fields)
    with pytest.raises(ValueError, match=message):
        model(tokens(model), num_loops=loops)


# --- Dropout ----------------------------------------------------------------------------------------------------------


def test_dropout_follows_embedding_attention_and_feed_forward():
    model = build(GROUPED, dropout=0.4)
    ids = tokens(model)
    assert torch.equal(model(ids).logits, model(ids).logits)
    assert torch.equal(model(ids).logits, build(GROUPED).eval()(ids).logits)
    calls = []
    model.train()
    original, F.dropout = F.dropout, lambda x, p, training: calls.append((p, training)) or x
    try:
        model(ids)
    finally:
        F.dropout = original
    assert calls == [(0.4, True)] * (1 + 2 * 3)


# --- Multi-token prediction -------------------------------------------------------------------------------------------


def test_the_extra_layer_computes_the_reports_equations():
    model = build(PREDICTS_TWO)
    mtp = model.attach_mtp()
    ids = tokens(model)
    outputs = model(ids, labels=ids, mtp_weight=0.3)
    hidden = model.model(ids).last_hidden_state[:, :-1]
    embeddings = model.model.embed_tokens(ids[:, 1:])
    joined = mtp.eh_proj(torch.cat([mtp.enorm(embeddings), mtp.hnorm(hidden)], dim=-1))
    inputs = model.model.layer_inputs(joined)
    attended, _ = mtp.self_attn(mtp.input_layernorm(joined), slot=0, **inputs)
    state = joined + attended
    state = state + mtp.mlp(mtp.post_attention_layernorm(state))
    logits = model.lm_head(mtp.shared_head["norm"](state))
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 2:].flatten())
    assert_close(outputs.mtp_loss, loss, "loss of the token after the next")
    assert_close(outputs.loss, model(ids, labels=ids).loss + 0.3 * loss, "sum of the losses")


def test_labels_that_are_left_out_are_left_out_there_too():
    model = build(PREDICTS_TWO)
    model.attach_mtp()
    ids = tokens(model)
    labels = ids.clone()
    labels[:, :30] = -100
    changed = ids.clone()
    changed[:, -1] = 5
    loss = model(ids, labels=labels, mtp_weight=1.0).mtp_loss
    logits = model.lm_head(model.mtp_hidden(ids[:, 1:], model.model(ids).last_hidden_state[:, :-1]))
    assert_close(loss, F.cross_entropy(logits[:, 28:-1].flatten(0, 1), ids[:, 30:].flatten()), "loss")


def test_no_document_predicts_two_tokens_ahead_into_the_next():
    model = build(PREDICTS_TWO)
    model.attach_mtp()
    ids = tokens(model, length=24)

    def loss(part, lengths):
        position_ids = torch.cat([torch.arange(length) for length in lengths]).expand_as(part)
        return model(part, labels=part, position_ids=position_ids, mtp_weight=1.0, use_cache=False).mtp_loss

    first, last = loss(ids[:, :9], [9]), loss(ids[:, 11:], [13])
    assert_close(loss(ids, [9, 2, 13]), (7 * first + 11 * last) / 18, "mean over the documents")
    assert_close(first, model(ids[:, :9], labels=ids[:, :9], mtp_weight=1.0).mtp_loss, "one document")


def test_a_model_without_the_extra_layer_ignores_its_weights(tmp_path):
    model = build(PREDICTS_TWO)
    plain = model.state_dict().keys() | set()
    model.attach_mtp()
    extra = model.state_dict().keys() - plain
    assert {name.rsplit(".", 1)[0].removeprefix("model.layers.3.") for name in extra} >= {
        *("enorm", "hnorm", "eh_proj", "shared_head.norm", "input_layernorm", "self_attn.kv_a_layernorm")
    }
    model.save_pretrained(tmp_path)
    loaded, info = AxionForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert (info["missing_keys"], info["unexpected_keys"]) == (set(), set())
    assert loaded.mtp is None
    assert loaded.state_dict().keys() == plain


@pytest.mark.skipif(not hasattr(AutoConfig.for_model("llama"), "get_mtp_config"), reason="this transformers has no MTP")
@pytest.mark.parametrize("length", [1, 9])
def test_transformers_drafts_with_it_and_writes_the_greedy_text(tmp_path, length):
    model = build(PREDICTS_TWO)
    model.attach_mtp()
    model.save_pretrained(tmp_path)
    loaded = AxionForCausalLM.from_pretrained(tmp_path).eval()
    ids = tokens(loaded, batch=1, length=length)
    settings = {"max_new_tokens": 24, "do_sample": False, "eos_token_id": None}
    plain = loaded.generate(ids, **settings)
    assert torch.equal(loaded.generate(ids, use_mtp=True, **settings), plain)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {**GROUPED, "num_nextn_predict_layers": 1},
            "num_nextn_predict_layers is 1; it must be 0, or 1 in a model whose",
        ),
        ({**PREDICTS_TWO, "num_nextn_predict_layers": 2}, "num_nextn_predict_layers is 2"),
        ({**SMALL, "attention": "mha"}, 'attention is \'mha\'; it must be "mla" or "gqa"'),
        ({**SMALL, "projection_rank": 4}, 'projection_rank is 4; it needs attention "gqa"'),
        ({**GROUPED, "num_key_value_heads": 3}, "num_key_value_heads is 3; it must divide num_attention_heads"),
        ({**GROUPED, "head_dim": 7}, "head_dim is 7; it must be even"),
        ({**GROUPED, "rope_interleave": True}, "rope_interleave is True; it must be false"),
        ({**GROUPED, "num_loops": 2}, "num_loops is 2; it must be 1 without num_shared_layers"),
        ({**GROUPED, "num_shared_layers": 4}, "num_shared_layers is 4; it must be between 0 and num_hidden_layers"),
        ({**GROUPED, "dropout": 1.0}, "dropout is 1.0; it must be at least 0 and less than 1"),
    ],
)
def test_impossible_shapes_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        AxionConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "changes", "message"),
    [
        (SMALL, {}, "num_nextn_predict_layers is 0"),
        (PREDICTS_TWO, {"mtp_weight": 0.3}, "mtp_weight needs input_ids and a layer"),
    ],
)
def test_what_needs_the_extra_layer_says_so(fields, changes, message):
    model = build(fields)
    ids = tokens(model)
    with pytest.raises(ValueError, match=message):
        model(ids, labels=ids, **changes) if changes else model.attach_mtp()


def test_it_has_the_weights_and_the_maths_of_transformers_deepseek_v3(tmp_path):
    model = build(PREDICTS_TWO)
    model.attach_mtp()
    fields = {name: getattr(model.config, name) for name in AxionShape.__annotations__}
    fields = {name: value for name, value in fields.items() if hasattr(DeepseekV3Config(), name)}
    native = DeepseekV3ForCausalLM(DeepseekV3Config(**fields))
    missing, unexpected = native.load_state_dict(model.state_dict(), strict=False)
    assert missing == []
    assert all(name.startswith("model.layers.3.") for name in unexpected)
