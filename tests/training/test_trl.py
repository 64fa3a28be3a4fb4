"""A fine-tuned run in TRL: its chat template has the marks of `assistant_only_loss`."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from axion.release import open_release
from axion.training.finetune import Settings, finetuning_recipe
from axion.training.run import train

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, sys
from datasets import Dataset
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer
from axion.model.modeling_axion import AxionForCausalLM

folder, out = sys.argv[1:]
tokenizer, model = AutoTokenizer.from_pretrained(folder), AxionForCausalLM.from_pretrained(folder)
messages = [{"role": "user", "content": "Diga 7"}, {"role": "assistant", "content": "7!"}]
config = SFTConfig(out, assistant_only_loss=True, max_steps=2, logging_steps=1, use_cpu=True, bf16=False,
    report_to="none", save_strategy="no", gradient_checkpointing=False)
trainer = SFTTrainer(model, config, train_dataset=Dataset.from_list([{"messages": messages}] * 16),
    processing_class=tokenizer)
row = trainer.train_dataset[0]
trainer.train()
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
learned = [token for token in row["labels"] if token != -100]
print(json.dumps({"losses": losses, "learned": tokenizer.decode(learned)}))
"""


@pytest.mark.slow
def test_trl_trains_it_further_on_the_assistants_tokens_alone(tiny_release, make_environment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": f"Diga {n}", "output": f"{n}!"} for n in range(40)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    base = open_release(tiny_release)
    recipe = finetuning_recipe(base, ["chats.jsonl"], Settings(epochs=2, batch_size=2))
    run = train(recipe, start=base)
    done = subprocess.run(
        [make_environment("trl==1.16.0"), "-c", SCRIPT, run / "final", tmp_path / "trl"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["learned"] == "7!<|end|>" and 0 < result["losses"][1] < result["losses"][0]
    assert "end-of-turn" not in done.stderr
