"""Open a release as a stranger would: `python -I -B clean_process.py FOLDER RESULT [REPO_ID REVISION]`.

This script runs by itself in a fresh interpreter (see `publish.hub.verify`), imports nothing of this project and
refuses to import any. It loads the model with the Auto classes and the release's own code, writes the logits and a
greedy continuation of a fixed input to RESULT (safetensors), and then runs the model card's Python snippets inside the
folder. Without REPO_ID the model is loaded from FOLDER, and the snippets read the folder in place of the repository;
with it the model is loaded by name and revision, the snippets run to the letter, and FOLDER is the downloaded snapshot
in the Hub's cache.
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


def compute(name: str, revision: str | None = None) -> dict:
    """Logits of the fixed prompt, token by token, and its greedy continuation.

    Args:
        name: a folder, or a repository's id.
        revision: of the repository.

    Returns:
        `input_ids` [1, S], `logits` [1, S, V] and `generated` [1, S + NEW_TOKENS].
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = {"revision": revision or "main", "trust_remote_code": True}
    AutoConfig.from_pretrained(name, **source)
    tokenizer = AutoTokenizer.from_pretrained(name, **source)
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, **source).eval()
    encoded = tokenizer(PROMPT, return_tensors="pt")
    with torch.no_grad():
        logits = model(**encoded).logits
        generated = model.generate(**encoded, do_sample=False, min_new_tokens=NEW_TOKENS, max_new_tokens=NEW_TOKENS)
    return {"input_ids": encoded.input_ids, "logits": logits, "generated": generated}


def python_snippets(card: str) -> list[str]:
    """The Python of a card's marked blocks, in its order; what readers wrote between the blocks is not ours to run."""
    blocks = re.findall(r"<!-- axion:start ([\w-]+) -->\n(.*?)<!-- axion:end \1 -->", card, flags=re.DOTALL)
    ours = "\n".join(text for _, text in blocks) if blocks else card
    return re.findall(r"^```python\n(.*?)^```", ours, flags=re.MULTILINE | re.DOTALL)


def main(folder: str, result: str, repo_id: str | None = None, revision: str | None = None) -> None:
    sys.meta_path.insert(0, NoProject)
    from safetensors.torch import save_file

    tensors = compute(repo_id or folder, revision)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, result)

    card = (Path(folder) / "README.md").read_text(encoding="utf-8")
    named = json.loads((Path(folder) / "release.json").read_text(encoding="utf-8"))["repo_id"]
    os.chdir(folder)
    sys.path.insert(0, folder)
    for number, snippet in enumerate(python_snippets(card), start=1):
        here = snippet if repo_id else snippet.replace(f'"{named}"', '"."')
        exec(compile(here, f"README.md, Python snippet {number}", "exec"), {"__name__": f"snippet_{number}"})


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()), *sys.argv[2:])
