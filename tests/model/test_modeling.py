"""The model against transformers' DeepSeek-V3, and against itself: cached, absorbed, saved, with adapters."""

import pytest
import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, DynamicCache

from axion.model.configuration_axion import AxionConfig
from axion.model.mixture_axion import AxionRouter
from axion.model.modeling_axion import AxionForCausalLM, AxionForSequenceClassification
from axion.recipe import load_recipe
from axion.training.losses import sequence_balance_loss

SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "q_lora_rank": 12,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 4,
    "v_head_dim": 16,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
CONFIGS = {
    "v0.1": {**load_recipe("axion1-v0.1").architecture, "initializer_range": 0.2},
    "plain": {},
    "groups": {"n_group": 4, "topk_group": 2},
    "dense-first": {"first_k_dense_replace": 2},
    "full-rank-query": {"q_lora_rank": None},
    "untied": {"tie_word_embeddings": False},
    "scaling": {"routed_scaling_factor": 2.5, "n_shared_experts": 2},
    "no-shared": {"n_shared_experts": 0},
    "not-normalised": {"norm_topk_prob": False, "v_head_dim": 12},
    "halves": {"rope_interleave": False, "attention_bias": True},
    "yarn-equal": {"rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.7}},
    "yarn-unequal": {"rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.5}},
    "yarn-mscale-alone": {"rope_parameters": {**YARN, "mscale": 0.9}},
    "yarn-all-dim-alone": {"rope_parameters": {**YARN, "mscale_all_dim": 0.8}},
}


def build(name: str = "plain", **changes) -> AxionForCausalLM:
    """A seeded model in eval mode, whose routing biases affect the choice of experts."""
    torch.manual_seed(0)
    model = AxionForCausalLM(AxionConfig(**{**SMALL, **CONFIGS[name], **changes})).eval()
    for module in model.modules():
        if isinstance(module, AxionRouter):
            module.e_score_correction_bias.normal_(std=0.3)
    return model


def tokens(model, batch: int = 2, length: int = 40) -> torch.Tensor:
    return torch.randint(3, model.config.vocab_size, (batch, length), generator=torch.Generator().manual_seed(1))


def assert_close(actual: torch.Tensor, reference: torch.Tensor, what: str, tolerance: float = 1e-5) -> None:
    error = (actual - reference).abs().max().item()
    assert error <= tolerance * reference.abs().max().item(), f"{what}: off by {error}"


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_gradients_equal_transformers_deepseek_v3(name):
    model = build(name)
    fields = model.config.to_dict()
    for own in ("model_type", "architectures", "transformers_version"):
        fields.pop(own, None)
    reference = DeepseekV3ForCausalLM(DeepseekV3Config(**fields)).eval()
    reference.load_state_dict(model.state_dict())
    ids = tokens(model)
    ours, theirs = model(ids, labels=ids), reference(ids, labels=ids)
    assert_close(ours.logits, theirs.logits, "logits")
    ours.loss.backward()
    theirs.loss.backward()
    references = dict(reference.named_parameters())
    for key, parameter in model.named_parameters():
        if not parameter.numel():  # without a shared expert its matrices are empty, in transformers as well
            continue
        assert references[key].grad.abs().max() > 0, f"{key}: the reference has no gradient to compare with"
        assert_close(parameter.grad, references[key].grad, f"gradient of {key}")


@pytest.mark.parametrize(
    ("name", "attention", "batch"),
    [*((name, "sdpa", 2) for name in CONFIGS), ("v0.1", "sdpa", 1), ("v0.1", "eager", 2), ("yarn-unequal", "eager", 1)],
)
def test_cached_uncached_and_absorbed_logits_agree(name, attention, batch):
    model = build(name)
    model.set_attn_implementation(attention)
    ids = tokens(model, batch, length=24)
    with torch.no_grad():
        whole = model(ids, use_cache=False).logits
        prefill = model(ids[:, :10], use_cache=True)
        chunk = model(ids[:, 10:16], past_key_values=prefill.past_key_values)  # several tokens: expanded
        pieces = [prefill.logits, chunk.logits]
        for position in range(16, 24):  # one token: absorbed
            pieces.append(model(ids[:, position : position + 1], past_key_values=prefill.past_key_values).logits)
    assert_close(torch.cat(pieces, dim=1), whole, "cached logits")


@pytest.mark.parametrize("implementation", ["grouped_mm", "batched_mm"])
def test_transformers_experts_implementations_match(implementation):
    model = build()
    assert model.config._experts_implementation == "eager"
    ids = tokens(model)

    def run() -> list[torch.Tensor]:
        model.zero_grad()
        outputs = model(ids, labels=ids)
        outputs.loss.backward()
        return [outputs.logits, *(parameter.grad.clone() for parameter in model.parameters())]

    own = run()
    model.set_experts_implementation(implementation)
    assert model.config._experts_implementation == implementation
    for actual, reference in zip(run(), own, strict=True):
        assert_close(actual, reference, implementation)


def test_an_expert_without_tokens_has_a_gradient_of_zeros():
    model = build()
    experts = model.model.layers[-1].mlp.experts
    hidden_TD = torch.randn(5, model.config.hidden_size)
    chosen_TK = torch.zeros(5, 1, dtype=torch.long)
    experts(hidden_TD, chosen_TK, torch.ones(5, 1)).sum().backward()
    assert experts.down_proj.grad[0].abs().max() > 0
    assert experts.down_proj.grad[1:].abs().max() == 0


def test_the_cache_contains_only_latents():
    model = build()
    cache = model(tokens(model, length=7), use_cache=True).past_key_values
    assert cache.layers[0].keys.shape == (2, 1, 7, model.config.kv_lora_rank)
    assert cache.layers[0].values.shape == (2, 1, 7, model.config.qk_rope_head_dim)


def test_v01_has_344224_parameters():
    model = AxionForCausalLM(load_recipe("axion1-v0.1").build_config())
    assert sum(parameter.numel() for parameter in model.parameters()) == 344_224


def test_closed_groups_are_never_chosen():
    config = AxionConfig(**{**SMALL, "n_group": 4, "topk_group": 1, "num_experts_per_tok": 2})
    router = AxionRouter(config)
    router.e_score_correction_bias.copy_(torch.tensor([-2.0, -2.0, -3.0, -3.0, -4.0, -4.0, -5.0, -5.0]))
    weights, experts = router.choose(torch.zeros(5, 8))
    # all corrected scores are negative, so a mask of zeros instead of minus infinity would prefer the closed groups
    assert set(experts.flatten().tolist()) == {0, 1}
    assert torch.allclose(weights.sum(-1), torch.ones(5))


def test_the_bias_changes_the_choice_but_not_the_weights():
    router = AxionRouter(AxionConfig(**{**SMALL, "num_experts_per_tok": 1, "norm_topk_prob": False}))
    logits = torch.linspace(-1, 1, 8).unsqueeze(0)
    router.e_score_correction_bias[2] = 5.0
    weights, experts = router.choose(logits)
    assert experts.item() == 2
    assert weights.item() == pytest.approx(logits[0, 2].sigmoid().item())


def test_generation_of_a_left_padded_batch_equals_single_prompts():
    model = build("v0.1")
    prompts = [tokens(model, 1, 5), tokens(model, 1, 9)]
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    single = [model.generate(prompt, **options)[0, prompt.shape[1] :] for prompt in prompts]
    batch = torch.zeros(2, 9, dtype=torch.long)
    mask = torch.zeros(2, 9, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        batch[row, 9 - prompt.shape[1] :] = prompt
        mask[row, 9 - prompt.shape[1] :] = 1
    together = model.generate(batch, attention_mask=mask, **options)[:, 9:]
    assert together.tolist() == [output.tolist() for output in single]


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": True, "temperature": 0.8, "top_k": 10, "top_p": 0.9},
        {"num_beams": 3, "do_sample": False},
        {"do_sample": True, "num_return_sequences": 2},
    ],
    ids=["sampling", "beams", "several"],
)
def test_generate_is_the_same_with_and_without_cache(options):
    model = build("v0.1")
    results = []
    for use_cache in (True, False):
        torch.manual_seed(3)
        results.append(model.generate(tokens(model, 1, 6), max_new_tokens=10, use_cache=use_cache, **options))
    assert torch.equal(*results)


@pytest.mark.parametrize("argument", ["past_key_values", "cache"])
def test_the_cache_has_two_names(argument):
    model = build()
    ids = tokens(model, 1, 12)
    with torch.no_grad():
        whole = model(ids, use_cache=False).logits
        for decoder in (model, model.model):
            cache = DynamicCache()
            decoder(ids[:, :9], **{argument: cache})
            assert cache.get_seq_length() == 9
        last = model(ids[:, 9:], **{argument: cache}).logits
    assert_close(last, whole[:, 9:], "cached logits")
    with pytest.raises(TypeError, match="not as both"):
        model(ids, past_key_values=cache, cache=cache)


def test_an_unknown_argument_is_refused_by_name():
    model = build()
    ids = tokens(model, 1, 4)
    for name in ("past_key_value", "memory"):  # a cache under a third name would otherwise be ignored
        with pytest.raises(TypeError, match=rf"forward\(\) got an unexpected keyword argument '{name}'"):
            model(ids, **{name: DynamicCache()})
    assert model(ids, memory=None, output_attentions=False, num_items_in_batch=None).logits is not None


def test_fewer_layers_by_config_as_in_early_exit():
    model, shallow = build(), build(num_hidden_layers=1)
    shallow.load_state_dict({name: model.state_dict()[name] for name in shallow.state_dict()})
    ids = tokens(model, 1, 8)
    model.config.num_hidden_layers = 1  # what assistant_early_exit does while it drafts
    assert torch.equal(model(ids, use_cache=False).logits, shallow(ids, use_cache=False).logits)


@pytest.mark.parametrize("name", ["v0.1", "yarn-unequal"])
def test_packed_documents_do_not_attend_to_each_other(name):
    model = build(name)
    packed, boundary = tokens(model, 1, 37), 14
    positions = torch.cat([torch.arange(boundary), torch.arange(37 - boundary)]).unsqueeze(0)
    other = packed.clone()
    other[:, :boundary] = 5
    with torch.no_grad():
        logits, after_another = (model(x, position_ids=positions, use_cache=False).logits for x in (packed, other))
        alone = model(packed[:, boundary:], use_cache=False).logits
    assert_close(logits[:, boundary:], alone, "the second document")
    assert_close(after_another[:, boundary:], alone, "the second document, after another first one")


def test_logits_to_keep():
    model = build()
    ids = tokens(model)
    whole = model(ids).logits
    assert_close(model(ids, logits_to_keep=3).logits, whole[:, -3:], "the last three", 1e-6)
    assert_close(model(ids, logits_to_keep=torch.tensor([0, 5])).logits, whole[:, [0, 5]], "the chosen two", 1e-6)


def test_router_logits_and_attentions_are_returned():
    model = build("dense-first")
    model.set_attn_implementation("eager")
    ids = tokens(model)
    outputs = model(ids, output_router_logits=True, output_attentions=True, output_hidden_states=True)
    assert [logits.shape for logits in outputs.router_logits] == [(80, 8)]  # two of three layers are dense
    assert [weights.shape for weights in outputs.attentions] == [(2, 4, 40, 40)] * 3
    assert torch.allclose(outputs.attentions[0].sum(-1), torch.ones(2, 4, 40))
    assert len(outputs.hidden_states) == 4


def test_gradient_checkpointing_gives_the_same_gradients():
    model = build("v0.1").train()
    ids = tokens(model)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(ids, labels=ids, use_cache=False).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert_close(checkpointed, plain, "gradient", 1e-6)


def test_bf16_keeps_the_routing_bias_in_fp32_and_stays_close(tmp_path):
    model = build("v0.1", initializer_range=0.05)
    model.save_pretrained(tmp_path)
    half = AxionForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    gate = half.model.layers[0].mlp.gate
    assert gate.weight.dtype == torch.bfloat16 and gate.e_score_correction_bias.dtype == torch.float32
    ids = tokens(model)
    difference = (half(ids).logits.float() - model(ids).logits).abs().mean() / model(ids).logits.abs().mean()
    assert difference < 0.05
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(model(ids, labels=ids).loss)


def test_a_reward_model_scores_the_last_token_that_is_not_padding(tmp_path):
    model = build()
    model.save_pretrained(tmp_path)
    rewards = AxionForSequenceClassification.from_pretrained(tmp_path, num_labels=1).eval()
    assert torch.equal(rewards.model.norm.weight, model.model.norm.weight)
    ids = tokens(model, 2, 9)
    ids[0, 6:] = model.config.pad_token_id
    mask = (ids != model.config.pad_token_id).long()
    scores = rewards(ids, attention_mask=mask, labels=torch.tensor([0.5, -1.0]))
    hidden = model.model(ids, attention_mask=mask).last_hidden_state
    expected = rewards.score(torch.stack([hidden[0, 5], hidden[1, 8]]))
    assert scores.logits.shape == (2, 1)
    assert_close(scores.logits, expected, "scores")
    scores.loss.backward()
    assert rewards.score.weight.grad.abs().max() > 0 and rewards.model.embed_tokens.weight.grad.abs().max() > 0


def test_lora_trains_through_peft():
    from peft import LoraConfig, get_peft_model

    model = build("v0.1")
    ids = tokens(model)
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["q_b_proj", "kv_b_proj", "o_proj"]))
    before = wrapped(ids).logits
    optimizer = torch.optim.SGD([p for p in wrapped.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # the first step only moves the zero-initialised half
        wrapped(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    whole = wrapped(ids).logits
    assert not torch.allclose(whole, before)
    cache = wrapped(input_ids=ids[:, :-1], use_cache=True).past_key_values
    assert_close(wrapped(input_ids=ids[:, -1:], past_key_values=cache).logits, whole[:, -1:], "cached logits")
    with wrapped.disable_adapter():
        assert torch.equal(wrapped(ids).logits, before)


def test_saved_weights_come_back_bit_for_bit_with_their_biases(tmp_path):
    model = build("v0.1")
    model.save_pretrained(tmp_path)
    again = AxionForCausalLM.from_pretrained(tmp_path)
    ids = tokens(model)
    assert torch.equal(again(ids).logits, model(ids).logits)
    for before, after in zip(model.model.layers, again.model.layers, strict=True):
        assert torch.equal(after.mlp.gate.e_score_correction_bias, before.mlp.gate.e_score_correction_bias)


def test_sequence_balance_loss_is_one_when_even_and_more_when_not():
    config = AxionConfig(**{**SMALL, "n_routed_experts": 4, "num_experts_per_tok": 1})
    even = 4.0 * torch.eye(4).repeat(6, 1)  # 2 sequences of 12 tokens, every expert three times in each
    collapsed = 4.0 * torch.eye(4)[[0]].repeat(24, 1)
    assert sequence_balance_loss((even,), config, 2).item() == pytest.approx(1.0)
    assert sequence_balance_loss((even, even), config, 2).item() == pytest.approx(2.0)
    assert sequence_balance_loss((collapsed,), config, 2).item() > 1.2
    # the loss is per sequence: balance over the whole batch is not enough
    halves = 4.0 * torch.eye(4)[[0] * 6 + [1] * 6 + [2] * 6 + [3] * 6]
    assert sequence_balance_loss((halves,), config, 2).item() > sequence_balance_loss((halves,), config, 1).item()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_size", 0, "hidden_size is 0; it must be an integer of at least 1"),
        ("n_shared_experts", -1, "n_shared_experts is -1; it must be an integer of at least 0"),
        ("qk_rope_head_dim", 3, "must be even"),
        ("num_experts_per_tok", 9, "at most the 8 experts"),
        ("n_group", 3, "must divide n_routed_experts"),
        ("n_group", 8, "at least two experts"),
        ("num_key_value_heads", 2, "must be num_attention_heads"),
        ("first_k_dense_replace", 4, "between 0 and num_hidden_layers"),
        ("rope_parameters", {"rope_type": "linear", "factor": 2.0}, "yarn"),
    ],
)
def test_impossible_shapes_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        AxionConfig(**{**SMALL, "num_experts_per_tok": 2, "topk_group": 8 if field == "n_group" else 1, field: value})
