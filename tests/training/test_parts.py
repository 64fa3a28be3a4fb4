"""Training with the parts of other families: multi-token prediction, loops, dropout, smoothing, checkpointing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from axion.errors import AxionError
from axion.kernels import blocks
from axion.model.modeling_axion import AxionForCausalLM
from axion.recipe import LoraRecipe, TrainingRecipe
from axion.release import open_release
from axion.training.balance import ExpertBalancer
from axion.training.build import build_model, checkpoint_gradients, load_start
from axion.training.finetune import Settings, finetuning_recipe
from axion.training.losses import (
    mtp_weight,
    next_token_loss,
    record_logits,
    sequence_balance_loss,
    smooth_labels,
)
from axion.training.metrics import read_metrics
from axion.training.optim import build_optimizer
from axion.training.recorder import Recorder
from axion.training.run import train
from axion.training.start import starting_from
from axion.training.trainer import AxionTrainer, draw_loops
from tests.training.test_gradients import WITHOUT_CLIPPING, assert_equal_gradients, train_and_record
from tests.training.test_resume import assert_same_end

MTP = "architecture.num_nextn_predict_layers=1"
SMOOTHED = "training.label_smoothing=0.1"
DROPOUT = "architecture.dropout=0.1"
LOOPED = (
    "family=mini-axion1",
    "architecture="
    + json.dumps(
        {
            **{"attention": "gqa", "num_attention_heads": 2, "num_key_value_heads": 1, "projection_rank": 8},
            **{"num_hidden_layers": 3, "first_k_dense_replace": 3, "num_shared_layers": 1, "num_loops": 3},
            **{"hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 128},
        }
    ),
)
"""The parts of MiniAxion1: grouped queries, low rank, and a layer that runs three times."""
PREDICTING = (MTP, SMOOTHED, DROPOUT, "training.max_steps=12", "training.checkpoints=3", "training.evaluations=2")
LAYER = "model.layers.2."
"""The names of the layer of multi-token prediction in a model of two layers."""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """With one thread, sums are rounded the same way in every run. Kernels are compiled with -O1, in half the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AXION_KERNELS_FLAGS", "-O1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def predicting(tiny, folder, tmp_path_factory) -> Path:
    """A run with multi-token prediction, label smoothing and dropout. Read it, don't change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return train(tiny(*PREDICTING), tmp_path_factory.mktemp("predicting") / "run")


def break_off(recipe, out: Path, step: int) -> None:
    """Trains until a step, as if the power failed then."""
    on_step_end = Recorder.on_step_end

    def power_cut(self, args, state, control, **kwargs):
        if state.global_step == step:
            raise RuntimeError("power cut")
        return on_step_end(self, args, state, control, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        patch.setattr(Recorder, "on_step_end", power_cut)
        train(recipe, out)


# --- Multi-token prediction -------------------------------------------------------------------------------------------


def test_the_metrics_have_every_loss_and_the_router_of_the_new_layer(predicting):
    metrics = read_metrics(predicting / "metrics.csv")
    names = list(metrics.columns)
    assert names[names.index("train_loss") :] == [
        *("train_loss", "smoothed_loss", "mtp_loss", "val_loss", "val_bits_per_byte"),
        *("max_violation_layer_1", "max_violation_layer_2", "max_violation_mtp"),
    ]
    for name in ("train_loss", "mtp_loss", "smoothed_loss"):
        assert metrics[name][-3:].mean() < 0.97 * metrics[name][:3].mean(), name
    assert np.isfinite(metrics["max_violation_mtp"]).all() and metrics.violation_columns == names[-3:-1]
    # at random weights the labels and the even distribution cost the same; later only the labels are learned
    assert metrics["smoothed_loss"][0] == pytest.approx(metrics["train_loss"][0], abs=0.05)
    assert metrics["smoothed_loss"][-1] > metrics["train_loss"][-1] + 0.02


def test_every_evaluation_stands_in_a_file_of_its_own(predicting):
    metrics = read_metrics(predicting / "metrics.csv")
    rows = [line.split(",") for line in (predicting / "eval.csv").read_text().splitlines()]
    evaluated = np.isfinite(metrics["val_loss"])
    assert rows[0] == ["step", "loss", "perplexity"] and [int(row[0]) for row in rows[1:]] == [6, 12]
    assert [float(row[1]) for row in rows[1:]] == metrics["val_loss"][evaluated].tolist()
    assert [float(row[2]) for row in rows[1:]] == pytest.approx(np.exp(metrics["val_loss"][evaluated]))


def test_the_layer_is_saved_and_ordinary_loading_leaves_it_out(predicting):
    weights = load_file(predicting / "final" / "model.safetensors")
    assert {name for name in weights if name.startswith(LAYER)} >= {
        *(f"{LAYER}{name}.weight" for name in ("enorm", "hnorm", "eh_proj", "shared_head.norm", "input_layernorm")),
        *(f"{LAYER}mlp.gate.e_score_correction_bias", f"{LAYER}mlp.experts.down_proj"),
    }
    assert weights[f"{LAYER}mlp.gate.e_score_correction_bias"].any()  # its router is balanced too
    release = open_release(predicting / "final")
    assert release.model.mtp is None and release.config.num_nextn_predict_layers == 1
    for name, weight in release.model.state_dict().items():
        assert name == "lm_head.weight" or torch.equal(weight, weights[name]), name


@pytest.mark.parametrize("step", [3, 10])
def test_a_run_with_random_numbers_resumes_bit_for_bit(tiny, tmp_path, predicting, step):
    break_off(tiny(*PREDICTING), tmp_path / "run", step)
    train(tiny(*PREDICTING), tmp_path / "run", resume=True)
    assert_same_end(tmp_path / "run", predicting)
    assert (tmp_path / "run" / "eval.csv").read_text() == (predicting / "eval.csv").read_text()


def test_the_weight_falls_after_two_thirds_of_the_tokens():
    training = TrainingRecipe()
    assert training.mtp_weight == (0.3, 0.1)
    assert [mtp_weight(training, step, 9) for step in range(9)] == [0.3] * 6 + [0.1] * 3
    continued = TrainingRecipe(restarts=[9])
    assert [mtp_weight(continued, step, 18) for step in (0, 5, 6, 9, 17)] == [0.3, 0.3, 0.1, 0.1, 0.1]


def test_its_weighted_loss_is_what_is_trained(tiny, tmp_path, monkeypatch):
    trained, weights = [], []
    compute, forward = AxionTrainer.compute_loss, AxionForCausalLM.forward

    def record_weight(self, *arguments, mtp_weight=None, **options):
        weights.append(mtp_weight)
        return forward(self, *arguments, mtp_weight=mtp_weight, **options)

    def record(self, *arguments, **options):
        trained.append(compute(self, *arguments, **options))
        return trained[-1]

    monkeypatch.setattr(AxionTrainer, "compute_loss", record)
    monkeypatch.setattr(AxionForCausalLM, "forward", record_weight)
    options = ("training.max_steps=3", "training.evaluations=1", "training.mtp_weight=[0.5, 0.25]")
    metrics = read_metrics(train(tiny(MTP, *options), tmp_path / "run", backend="torch") / "metrics.csv")
    assert [weight for weight in weights if weight is not None] == [0.5, 0.5, 0.25]
    assert weights[-1] is None  # of the validation
    expected = metrics["train_loss"] + np.array([0.5, 0.5, 0.25]) * metrics["mtp_loss"]
    assert [loss.item() for loss in trained] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("checkpoints", [False, True])
def test_the_sequence_wise_balance_loss_covers_its_router(tiny, checkpoints):
    recipe = tiny(MTP, "training.sequence_balance_weight=0.5")
    model = build_model(recipe.build_config()).train()
    gates = [layer.mlp.gate for layer in model.model.layers]
    if checkpoints:
        checkpoint_gradients(model, ExpertBalancer(model, speed=0))
    recorded = []
    record_logits(model.mtp, recorded)
    ids = torch.randint(3, 300, (2, 16), generator=torch.Generator().manual_seed(1))
    outputs = model(ids, labels=ids, mtp_weight=0.3, output_router_logits=True, use_cache=False)
    assert (
        len(outputs.router_logits) == 2
        and len(recorded) == 1
        and recorded[0].shape == (32, recipe.architecture["n_routed_experts"])
    )
    sequence_balance_loss(tuple(recorded), model.config, len(ids)).backward()
    assert gates[-1].weight.grad.abs().max() > 0


def test_a_run_adds_the_balance_losses_of_every_router(tiny, tmp_path, monkeypatch):
    passes = []

    def count(router_logits, config, batch_size):
        passes.append(len(router_logits))
        return sequence_balance_loss(router_logits, config, batch_size)

    monkeypatch.setattr("axion.training.trainer.sequence_balance_loss", count)
    options = ("training.sequence_balance_weight=0.5", "training.max_steps=2", "training.evaluations=1")
    train(tiny(MTP, "training.grad_accum=2", *options), tmp_path / "run")
    assert passes == [3] * 4  # two layers and the one that predicts, in every micro-batch


def test_windows_need_a_token_that_it_can_predict(tiny):
    for short in ("training.window=2", "training.short_window=2"):
        with pytest.raises(AxionError, match=r"must be at least 3, not 2, with architecture\.num_nextn_predict_layers"):
            tiny(MTP, short)
        tiny(short)


def test_a_run_from_a_release_keeps_the_layer_or_says_that_it_is_missing(predicting, tmp_path):
    final = open_release(predicting / "final")
    model = build_model(final.config)
    load_start(model, final)
    for name, weight in load_file(final.folder / "model.safetensors").items():
        assert torch.equal(model.state_dict()[name], weight), name
    without = shutil.copytree(final.folder, tmp_path / "without")
    weights = load_file(without / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith(LAYER)}
    save_file(kept, without / "model.safetensors", metadata={"format": "pt"})
    model = build_model(final.config)
    with pytest.raises(
        AxionError, match=r"without: model\.safetensors does not fit config\.json: missing model\.layers\.2\."
    ):
        load_start(model, open_release(without))


def test_a_run_from_a_release_may_add_the_layer_or_leave_it_out(predicting, tiny, tiny_release):
    final, plain = open_release(predicting / "final"), open_release(tiny_release)
    for start, mtp in ((final, "architecture.num_nextn_predict_layers=0"), (plain, MTP)):
        recipe = starting_from(tiny(mtp), start)
        model = build_model(recipe.build_config())
        drawn = {name: weight.clone() for name, weight in model.state_dict().items() if name.startswith(LAYER)}
        load_start(model, start)
        assert bool(drawn) == (mtp == MTP)
        assert all(torch.equal(model.state_dict()[name], weight) for name, weight in drawn.items())
        assert all(torch.equal(model.state_dict()[name], weight) for name, weight in start.model.state_dict().items())


def test_a_run_from_a_release_may_loop_another_number_of_times(tiny, tiny_release, tmp_path):
    folder = shutil.copytree(tiny_release, tmp_path / "looped")
    AxionForCausalLM(tiny(*LOOPED).build_config()).save_pretrained(folder)
    looped = [argument.replace('"num_loops": 3', '"num_loops": 5') for argument in LOOPED]
    start = open_release(folder)
    recipe = starting_from(tiny(*looped), start)
    assert (recipe.build_config().num_loops, start.config.num_loops) == (5, 3)
    model = build_model(recipe.build_config())
    load_start(model, start)
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in start.model.state_dict().items())


@pytest.mark.parametrize("lora", [None, LoraRecipe(rank=4)], ids=["whole", "lora"])
def test_fine_tuning_goes_on_training_the_layer(predicting, tmp_path, lora):
    final = open_release(predicting / "final")
    rows = [{"instruction": f"Say {number}", "output": str(number)} for number in range(60)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = Settings(epochs=1, batch_size=2, lora=lora)
    recipe = finetuning_recipe(final, [str(tmp_path / "chats.jsonl")], settings, ["training.max_steps=2"])
    run = train(recipe, tmp_path / "run", start=final)
    before, after = (load_file(folder / "final" / "model.safetensors") for folder in (predicting, run))
    assert before.keys() == after.keys()
    for name in (f"{LAYER}eh_proj.weight", f"{LAYER}mlp.experts.down_proj", "model.layers.0.self_attn.o_proj.weight"):
        assert not torch.equal(before[name], after[name]), name
    assert torch.equal(before["model.norm.weight"], after["model.norm.weight"]) == (lora is not None)
    assert np.isfinite(read_metrics(run / "metrics.csv")["mtp_loss"]).all()


# --- Loops, low rank, dropout, label smoothing ------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(MTP,), LOOPED], ids=["multi-token prediction", "loops"])
def test_accumulated_gradients_match_those_of_the_whole_batch(tiny, tmp_path, options, capsys):
    options = (*options, SMOOTHED, WITHOUT_CLIPPING, "training.max_steps=1", "training.evaluations=1")
    whole = train_and_record(tiny(*options), tmp_path / "whole")
    parts = train_and_record(tiny(*options, "training.grad_accum=2"), tmp_path / "parts")
    assert_equal_gradients(parts, whole)
    assert "training with native kernels: " in capsys.readouterr().err
    columns = [read_metrics(tmp_path / run / "metrics.csv") for run in ("whole", "parts")]
    for name in columns[0].columns.keys() - {"seconds", "tokens_per_second"}:
        assert columns[0][name] == pytest.approx(columns[1][name], abs=1e-4), name


def test_loops_train_as_often_as_the_recipe_says_and_dropout_resumes(tiny, tmp_path, capsys):
    options = (*LOOPED, DROPOUT, "training.max_steps=6", "training.checkpoints=3", "training.evaluations=1")
    run = train(tiny(*options), tmp_path / "run")
    assert "training with native kernels: " in capsys.readouterr().err
    weights = load_file(run / "final" / "model.safetensors")
    assert weights["model.loop_gate"].item() != 0.5
    break_off(tiny(*options), tmp_path / "resumed", 5)
    train(tiny(*options), tmp_path / "resumed", resume=True)
    assert_same_end(tmp_path / "resumed", run)


def test_a_range_of_loops_is_drawn_for_each_step_and_resumes(tiny, tmp_path, monkeypatch):
    drawn = [draw_loops((1, 4), seed=1, step=step) for step in range(400)]
    assert all(80 < drawn.count(loops) < 120 for loops in range(1, 5))
    assert [draw_loops((1, 4), 2, step) for step in range(400)] != drawn
    options = (*LOOPED, "training.loops=[1, 4]", "training.max_steps=6", "training.checkpoints=3")
    options = (*options, "training.evaluations=1", "training.grad_accum=2", "seed=1")
    seen, call = [], blocks._Passes.__call__

    def record(self, *args, **kwargs):
        if torch.is_grad_enabled():  # not where the validation loss is measured
            seen.append(kwargs.get("num_loops"))
        return call(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(blocks._Passes, "__call__", record)
        run = train(tiny(*options), tmp_path / "run", backend="native")
    assert seen == [loops for loops in drawn[:6] for _ in range(2)]
    break_off(tiny(*options), tmp_path / "resumed", 5)
    train(tiny(*options), tmp_path / "resumed", resume=True)
    assert_same_end(tmp_path / "resumed", run)
    plain = train(tiny(*options), tmp_path / "plain", backend="torch")
    kernels = read_metrics(run / "metrics.csv")["train_loss"]
    assert read_metrics(plain / "metrics.csv")["train_loss"] == pytest.approx(kernels, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            (*LOOPED, "training.loops=[4, 1]"),
            r"training.loops is \[4, 1\]; write the fewest loops first, as in \[1, 4\]",
        ),
        ((*LOOPED, "training.loops=[0, 1]"), "training.loops.0 is 0"),
        (("training.loops=[1, 4]",), "training.loops needs a model with shared layers"),
    ],
)
def test_an_impossible_range_of_loops_is_refused(tiny, options, message):
    with pytest.raises(AxionError, match=message) as caught:
        tiny(*options)
    assert "\n" not in str(caught.value)


def test_smoothing_is_that_of_cross_entropy_in_training_alone(tiny):
    torch.manual_seed(0)
    model = AxionForCausalLM(tiny(MTP).build_config())
    model.attach_mtp()
    plain = AxionForCausalLM(model.config)
    plain.attach_mtp()
    plain.load_state_dict(model.state_dict())
    smooth_labels(model, 0.1)
    ids = torch.randint(3, 300, (2, 16))
    labels = ids.clone()
    labels[0, 9:] = -100
    outputs = model.train()(ids, labels=labels, mtp_weight=0.5)
    logits, targets = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    expected = F.cross_entropy(logits, targets, label_smoothing=0.1)
    torch.testing.assert_close(outputs.loss, expected + 0.5 * outputs.mtp_loss)
    assert outputs.mtp_loss != plain.train()(ids, labels=labels, mtp_weight=0.5).mtp_loss
    for options in ({}, {"num_items_in_batch": torch.tensor(7)}):
        evaluated = model.eval()(ids, labels=labels, **options).loss
        torch.testing.assert_close(evaluated, plain.eval()(ids, labels=labels, **options).loss)
    summed = next_token_loss(outputs.logits, labels, num_items_in_batch=7, smoothing=0.1)
    torch.testing.assert_close(summed, expected * (targets != -100).sum() / 7)


def test_matrices_of_every_kind_go_to_muon_and_single_numbers_to_adamw_without_decay(tiny):
    training = TrainingRecipe(weight_decay=0.1)
    for options in (LOOPED, (MTP,)):
        model = build_model(tiny(*options).build_config())
        matrices, others = build_optimizer(model, training).param_groups[:2]
        names = {parameter: name for name, parameter in model.named_parameters()}
        decayed, rest = ({names[parameter] for parameter in group["params"]} for group in (matrices, others))
        assert (matrices["muon"], matrices["weight_decay"], others["muon"], others["weight_decay"]) == (
            True,
            0.1,
            False,
            0,
        )
        assert all(name in rest for name in names.values() if "norm" in name)
        if options == LOOPED:
            assert "model.loop_gate" in rest
            assert {"model.layers.1.self_attn.q_proj.a.weight", "model.layers.1.mlp.down_proj.b.weight"} <= decayed
        else:
            assert f"{LAYER}eh_proj.weight" in decayed and f"{LAYER}enorm.weight" in rest


# --- Gradient checkpointing and AdamW in 8 bits -----------------------------------------------------------------------


def test_checkpointed_gradients_are_the_same_and_no_token_is_counted_twice(tiny):
    ids = torch.randint(3, 300, (2, 16), generator=torch.Generator().manual_seed(1))
    for options in ((MTP, DROPOUT), (*LOOPED, DROPOUT)):
        found = []
        for checkpoints in (False, True):
            torch.manual_seed(0)
            model = build_model(tiny(*options).build_config()).train()
            balancer = ExpertBalancer(model, speed=0.01)
            if checkpoints:
                checkpoint_gradients(model, balancer)
            torch.manual_seed(2)
            weight = {"mtp_weight": 0.3} if model.mtp else {}
            model(ids, labels=ids, use_cache=False, **weight).loss.backward()
            found.append(([parameter.grad for parameter in model.parameters()], balancer.step()))
        (plain, counts), (again, same_counts) = found
        assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))
        assert torch.equal(counts, same_counts)


def test_a_run_with_gradient_checkpointing_ends_with_the_same_weights(tiny, tmp_path, predicting):
    run = train(tiny(*PREDICTING, "training.gradient_checkpointing=true"), tmp_path / "run")
    assert_same_end(run, predicting)
