"""Open a release as a stranger would: `python -I -B clean_process.py FOLDER RESULT`.

This script runs by itself in a fresh interpreter (see `publish.verify`), imports nothing of this project and refuses
to import any. It loads FOLDER with the Auto classes and the folder's own code, writes the logits and a greedy
continuation of a fixed input to RESULT (safetensors), and then runs every Python snippet of the model card inside the
folder, with the repository's name replaced by the folder.
"""

import json
import os
import re
import sys
from pathlib import Path

PROJECT_PACKAGES = {"axion", "publish", "playground"}
PROMPT = "# Pergunta:\nQuanto é 5 + 3?\n--\n# Resposta:\n"
NEW_TOKENS = 8


class NoProject:
    """An import hook that hides the project, should it be installed in this environment."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in PROJECT_PACKAGES:
            raise ModuleNotFoundError(f"a release must not import the project, but it imports {name!r}")


def compute(folder: str) -> dict:
    """Logits of the fixed prompt, token by token, and its greedy continuation.

    Returns:
        `input_ids` [1, S], `logits` [1, S, V] and `generated` [1, S + NEW_TOKENS].
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    AutoConfig.from_pretrained(folder, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()
    encoded = tokenizer(PROMPT, return_tensors="pt")
    with torch.no_grad():
        logits = model(**encoded).logits
        generated = model.generate(**encoded, do_sample=False, min_new_tokens=NEW_TOKENS, max_new_tokens=NEW_TOKENS)
    return {"input_ids": encoded.input_ids, "logits": logits, "generated": generated}


def python_snippets(card: str) -> list[str]:
    """The fenced Python blocks of a Markdown text, in their order."""
    return re.findall(r"^```python\n(.*?)^```", card, flags=re.MULTILINE | re.DOTALL)


def main(folder: str, result: str) -> None:
    sys.meta_path.insert(0, NoProject)
    from safetensors.torch import save_file

    tensors = compute(folder)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, result)

    card = (Path(folder) / "README.md").read_text(encoding="utf-8")
    repo_id = json.loads((Path(folder) / "release.json").read_text(encoding="utf-8"))["repo_id"]
    os.chdir(folder)
    sys.path.insert(0, folder)
    for number, snippet in enumerate(python_snippets(card), start=1):
        code = compile(snippet.replace(f'"{repo_id}"', '"."'), f"README.md, Python snippet {number}", "exec")
        exec(code, {"__name__": f"snippet_{number}"})


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()), sys.argv[2])
