"""From sources to a trained model: any text, conversations with masked labels, and the recorded data of a run."""

import numpy as np
import pytest
import torch
import yaml

from axion.data.packing import PackedWindows
from axion.data.prepare import prepare
from axion.files import read_json
from axion.labels import IGNORED
from axion.recipe import load_recipe
from axion.training.metrics import METRICS_FILE, read_metrics
from axion.training.run import train
from tests.data.conftest import write_jsonl
from tests.training.conftest import TINY_RECIPE


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A tiny recipe of stories and of conversations, in which questions are longer than a window."""
    folder = tmp_path_factory.mktemp("sources")
    stories = [f"Once there were {n} little goats. They lived by a river and ate grass." for n in range(60)]
    (folder / "stories.txt").write_text("\n<|endoftext|>\n".join(stories), encoding="utf-8")
    rows = [
        {"messages": [{"role": "user", "content": f"{n} " * 150}, {"role": "assistant", "content": f"{n}!"}]}
        for n in range(20)
    ]
    write_jsonl(folder / "chat.jsonl", rows)
    sources = [
        {"kind": "text", "files": str(folder / "stories.txt"), "language": "en"},
        {"kind": "chat", "files": str(folder / "chat.jsonl")},
        {"kind": "arithmetic", "count": 400},
    ]
    content = TINY_RECIPE | {"data": {"sources": sources, "val_fraction": 0.2, "holdout_fraction": 0}}
    content["training"] = TINY_RECIPE["training"] | {"max_steps": 12, "evaluations": 1, "checkpoints": 1}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_recipe(folder / "tiny.yaml")


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_text_and_conversations_train(recipe, tmp_path, monkeypatch, backend):
    monkeypatch.chdir(tmp_path)
    data = prepare(recipe, progress=False)
    windows = PackedWindows(data.train, recipe.training.window, 1, recipe.seed)
    empty = [(item["labels"] == IGNORED).all() for item in windows]
    assert any(empty) and not all(empty)

    run = train(recipe, tmp_path / "run", backend=backend)
    metrics = read_metrics(run / METRICS_FILE)
    assert len(metrics) == 12 and np.isfinite(metrics["train_loss"]).all()
    assert 0 < metrics["val_bits_per_byte"][-1] < 20
    recorded = read_json(run / "run.json")
    assert [source["kind"] for source in recorded["data"]["sources"]] == ["text", "chat", "arithmetic"]
    assert [file["name"] for file in recorded["data"]["files"]] == ["stories.txt", "chat.jsonl"]
    assert recorded["data"]["fingerprint"] == data.summary["fingerprint"]


def test_masked_labels_give_the_loss_and_gradients_of_the_tokens_that_carry_loss(recipe, tmp_path):
    from axion.kernels.blocks import use_kernels
    from axion.model.modeling_axion import AxionForCausalLM

    windows = PackedWindows(prepare(recipe, tmp_path, progress=False).train, 64, 1, 0)
    items = [windows[index] for index in range(len(windows))]
    mixed = [item for item in items if 0 < (item["labels"] == IGNORED).sum() < 60][:4]
    batch = {name: torch.stack([item[name] for item in mixed]) for name in ("input_ids", "labels")}
    torch.manual_seed(0)
    config = recipe.build_config()
    config.initializer_range = 0.2
    model = AxionForCausalLM(config)
    logits = model(batch["input_ids"], use_cache=False).logits[:, :-1]
    targets = batch["labels"][:, 1:]
    kept = targets != IGNORED
    expected = torch.nn.functional.cross_entropy(logits[kept], targets[kept])

    def gradient() -> tuple[float, torch.Tensor]:
        model.zero_grad()
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        return loss.item(), model.model.embed_tokens.weight.grad.clone()

    plain_loss, plain = gradient()
    use_kernels(model)
    fast_loss, fast = gradient()
    assert plain_loss == pytest.approx(expected.item(), rel=1e-5) and fast_loss == pytest.approx(plain_loss, rel=1e-5)
    assert (fast - plain).abs().max() <= 1e-5 * plain.abs().max()
