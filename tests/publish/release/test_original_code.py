"""Code that was written for the original release runs unchanged from inside a release folder."""

import os
import shutil
import subprocess
import sys

import pytest

ORIGINAL = """
import torch
from tokenizer import BPETokenizer
from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList


class MinimumLength(LogitsProcessor):
    def __init__(self, prompt_length, minimum, forbidden):
        self.prompt_length, self.minimum, self.forbidden = prompt_length, minimum, forbidden

    def __call__(self, input_ids, scores):
        if input_ids.shape[1] - self.prompt_length < self.minimum:
            scores[:, self.forbidden] = float("-inf")
        return scores


prompt = "# Pergunta:\\nQuanto é 5 + 3?\\n--\\n# Resposta:\\n"
tok = BPETokenizer.load("model.vocab", "model.model")
ids = tok.encode(prompt, add_bos=True, add_eos=False)
eos, pad = tok.token2id["<eos>"], tok.token2id["<pad>"]
model = AutoModelForCausalLM.from_pretrained(".", trust_remote_code=True)
out = model.generate(
    torch.tensor([ids]),
    max_new_tokens=80,
    do_sample=True,
    temperature=0.9,
    top_k=50,
    top_p=0.95,
    eos_token_id=eos,
    pad_token_id=pad,
    use_cache=False,
    logits_processor=LogitsProcessorList([MinimumLength(len(ids), 7, [eos, pad])]),
)
new = out[0].tolist()[len(ids):]
assert len(new) >= 7 and not {eos, pad} & set(new[:7]), new
print(tok.decode(out[0].tolist()))
"""


@pytest.mark.slow
def test_the_original_quick_start_runs_unchanged(release, tmp_path):
    folder = shutil.copytree(release, tmp_path / "downloaded")
    (folder / "quickstart.py").write_text(ORIGINAL, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HF_"))}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, "quickstart.py"], cwd=folder, env=environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# Pergunta:\nQuanto é 5 + 3?\n--\n# Resposta:\n")
