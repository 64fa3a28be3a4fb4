"""Teaching a release to chat: the whole model on the kernels, or adapters in PyTorch."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from peft import PeftModel
from transformers import AutoTokenizer

from axion.data.sources.chat import CHAT_TEMPLATE
from axion.errors import AxionError
from axion.export.gguf import write_gguf
from axion.files import sha256
from axion.inference.chat import Conversation, can_chat
from axion.inference.sampling import Sampling
from axion.recipe import LoraRecipe, load_recipe
from axion.release import open_release
from axion.tokenizer import load_tokenizer
from axion.training.finetune import Settings, finetuning_recipe
from axion.training.metrics import read_metrics
from axion.training.recorder import Recorder
from axion.training.run import train
from playground.generate.catalogue import Catalogue
from playground.generate.chat import answer_events
from playground.generate.request import DEFAULTS

ANSWERS = {"Quem é você?": "Axion.", "Diga oi": "Oi!", "1 + 1": "2", "Bye": "Tchau!", "Cor?": "Azul.", "Quando?": "Já."}

EPOCHS = 15
"""Of runs with LoRA, which are slower."""


@pytest.fixture(scope="module")
def chats(tmp_path_factory) -> Path:
    """Few conversations, each many times, so that a tiny model learns them."""
    path = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    rows = [{"instruction": asked, "output": answer} for asked, answer in ANSWERS.items()] * 5
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def base(tiny_release):
    return open_release(tiny_release)


def finetune(base, chats, out, *overrides, resume=False, **settings):
    settings = {"epochs": 60, "batch_size": 2, "learning_rate": 1e-2, **settings}
    recipe = finetuning_recipe(base, [str(chats)], Settings(**settings), overrides)
    return train(recipe, out, resume=resume, start=base)


def answer(folder: Path, question: str) -> str:
    release = open_release(folder)
    conversation = Conversation(release.model, release.tokenizer, "tiny", Sampling(max_new_tokens=30))
    return "".join(conversation.ask(question))


@pytest.fixture(scope="module")
def whole(base, chats, folder, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return finetune(base, chats, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def adapted(base, chats, folder, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return finetune(base, chats, tmp_path_factory.mktemp("adapted") / "run", epochs=EPOCHS, lora=LoraRecipe(rank=4))


def test_a_model_learns_its_answers_and_where_they_end(whole, base):
    assert json.loads((whole / "run.json").read_text())["backend"] == "native"
    losses = read_metrics(whole / "metrics.csv")["train_loss"]
    assert losses[-1] < 0.1 * losses[0]
    learned = [question for question, expected in ANSWERS.items() if answer(whole / "final", question) == expected]
    assert len(learned) >= len(ANSWERS) - 2  # some are held out
    assert not any(
        torch.equal(*pair) for pair in zip(parameters(whole / "final"), base.model.parameters(), strict=True)
    )


def parameters(folder: Path):
    return open_release(folder).model.parameters()


def test_the_result_is_a_release_that_can_chat(whole, base):
    final = open_release(whole / "final")
    assert can_chat(final.tokenizer) and not can_chat(base.tokenizer)
    assert (whole / "final" / "chat_template.jinja").read_text(encoding="utf-8") == CHAT_TEMPLATE
    end = final.tokenizer.convert_tokens_to_ids("<|end|>")
    generation = json.loads((whole / "final" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [final.tokenizer.eos_token_id, end]
    tokenizer = AutoTokenizer.from_pretrained(whole / "final")
    assert tokenizer.get_vocab() == base.tokenizer.get_vocab()
    recorded = load_recipe(whole / "recipe.yaml")
    assert recorded.start is not None and recorded.start.sha256 == sha256(base.folder / "model.safetensors")
    assert recorded.name == "axion-tiny-chat" and recorded.training.whole_documents


def test_it_chats_in_the_page_and_the_answer_ends(whole):
    model = Catalogue([str(whole / "final")]).open("run")
    messages = [{"role": "user", "content": "Diga oi"}]
    settings = DEFAULTS | {"max_new_tokens": 30}
    events = list(answer_events(model, {"turn": 1, "attempt": 0, "messages": messages}, settings))
    assert "".join(event["t"] for event in events if event["kind"] == "step") == answer(whole / "final", "Diga oi")
    assert events[-1]["reason"] == "eos"


def test_llama_cpp_gets_the_template_and_the_end_of_a_turn(whole, tmp_path):
    write_gguf(release := open_release(whole / "final"), tmp_path / "chat.gguf", "f32")
    fields = GGUFReader(tmp_path / "chat.gguf").fields
    assert fields["tokenizer.chat_template"].contents() == CHAT_TEMPLATE
    assert fields["tokenizer.ggml.eot_token_id"].contents() == release.tokenizer.convert_tokens_to_ids("<|end|>")


def test_lora_adapts_attention_and_all_experts_and_nothing_else(adapted, base):
    assert json.loads((adapted / "run.json").read_text())["backend"] == "torch"
    losses = read_metrics(adapted / "metrics.csv")["train_loss"]
    assert losses[-1] < 0.5 * losses[0]
    before, after = base.model.state_dict(), open_release(adapted / "final").model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys()
    kinds = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")
    layers = [f"model.layers.{layer}" for layer in range(2)]
    assert changed == {
        *(f"{layer}.self_attn.{kind}.weight" for layer in layers for kind in kinds),
        *(f"{layer}.mlp.shared_experts.{kind}_proj.weight" for layer in layers for kind in ("gate", "up", "down")),
        *(f"{layer}.mlp.experts.{kind}" for layer in layers for kind in ("gate_up_proj", "down_proj")),
    }


def test_peft_puts_the_adapter_on_its_base(adapted, base, tiny_release):
    config = json.loads((adapted / "adapter" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == ("axion-tiny", 4)
    names = {path.name for path in (adapted / "adapter").iterdir()}
    assert names >= {"adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"} and "README.md" not in names
    together = PeftModel.from_pretrained(open_release(tiny_release).model, adapted / "adapter")
    ids = torch.arange(3, 60).unsqueeze(0)
    with torch.inference_mode():
        merged = open_release(adapted / "final").model(ids).logits
        torch.testing.assert_close(together(ids).logits, merged, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(base.model(ids).logits, merged, atol=1e-2)


def test_an_interrupted_run_with_lora_resumes_to_the_same_weights(adapted, base, chats, tmp_path, monkeypatch, capsys):
    def power_cut(self, args, state, control, **kwargs):
        if state.global_step == 10:
            raise RuntimeError("power cut")
        return on_step_end(self, args, state, control, **kwargs)

    on_step_end = Recorder.on_step_end
    settings = {"epochs": EPOCHS, "lora": LoraRecipe(rank=4)}
    monkeypatch.setattr(Recorder, "on_step_end", power_cut)
    with pytest.raises(RuntimeError, match="power cut"):
        finetune(base, chats, tmp_path / "run", **settings)
    monkeypatch.setattr(Recorder, "on_step_end", on_step_end)
    finetune(base, chats, tmp_path / "run", resume=True, **settings)
    assert "training with PyTorch: the kernels train whole models, not LoRA's adapters\n" in capsys.readouterr().err
    for name in ("final/model.safetensors", "adapter/adapter_model.safetensors"):
        assert sha256(tmp_path / "run" / name) == sha256(adapted / name)


def test_few_conversations_are_enough(base, tmp_path):
    path = tmp_path / "few.jsonl"
    rows = [{"prompt": f"Say {n}", "completion": str(n)} for n in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = finetune(base, path, tmp_path / "run", epochs=4, batch_size=1)
    data = json.loads((run / "run.json").read_text())["data"]
    assert (data["train"]["documents"], data["validation"]["documents"]) == (7, 1)
    path.write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    with pytest.raises(AxionError, match="no validation documents; give the sources more data"):
        finetune(base, path, tmp_path / "other")


def test_long_conversations_are_counted(base, tmp_path, capsys):
    path = tmp_path / "long.jsonl"
    rows = [{"prompt": f"Say {n}", "completion": "so " * (1 + n % 3 * 40)} for n in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    finetune(base, path, tmp_path / "run", epochs=1, batch_size=1, max_length=32)
    assert "longer than 32 tokens: of" in (err := capsys.readouterr().err)
    assert "0 are cut after the last answer that fits, 2" in err or "are left out" in err


def test_what_cannot_be_taught(base, chats, tiny_release, tmp_path):
    folder = shutil.copytree(tiny_release, tmp_path / "foreign")
    content = (folder / "tokenizer.json").read_text(encoding="utf-8").replace("<|user|>", "<|somebody|>")
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(AxionError, match=r"foreign cannot be taught to chat: its tokenizer has no token <\|user\|>"):
        finetuning_recipe(open_release(folder), [str(chats)], Settings())
    with pytest.raises(AxionError, match="--max-length is 4096; the context of axion-tiny is 128 tokens"):
        finetuning_recipe(base, [str(chats)], Settings(max_length=4096))
    with pytest.raises(AxionError, match=r"training\.learning_rate is 0\.0; input should be greater than 0"):
        finetuning_recipe(base, [str(chats)], Settings(learning_rate=0.0))
    with pytest.raises(AxionError, match=r"no file .*nothing"):
        finetuning_recipe(base, [str(tmp_path / "nothing.jsonl")], Settings())
    recipe = finetuning_recipe(base, [str(chats)], Settings())
    with pytest.raises(AxionError, match="axion-tiny-chat starts from axion-tiny: run `python -m axion finetune`"):
        train(recipe, tmp_path / "run")
    other = shutil.copytree(tiny_release, tmp_path / "other")
    shutil.copy(tiny_release / "config.json", other / "model.safetensors")
    with pytest.raises(AxionError, match="other is not the release that axion-tiny-chat starts from"):
        train(recipe, tmp_path / "run", start=open_release(other))
    assert not (tmp_path / "run").exists() and load_tokenizer(tiny_release).chat_template is None
