"""Load a release in a fresh interpreter: `python -I -B clean_process.py FOLDER RESULT [REPO_ID REVISION]`.

`publish.hub.verify` starts this script. It imports nothing from this project, and hides the project should it be
installed. It loads the model through the Auto classes, with the release's own code, and writes logits and a greedy
continuation of a fixed prompt to RESULT (safetensors). Then it runs the Python snippets that it reads from standard
input, a JSON list of strings, inside FOLDER.

Without REPO_ID the model is loaded from FOLDER. With it, the model is loaded by name and revision from the Hub's cache,
where FOLDER is the snapshot.
"""

import json
import os
import sys
from pathlib import Path

PROJECT_PACKAGES = {"axion", "publish", "playground"}
PROMPT = "# Pergunta:\nQuanto é 5 + 3?\n--\n# Resposta:\n"
NEW_TOKENS = 8


class HideProject:
    """An import hook that makes imports of this project fail."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in PROJECT_PACKAGES:
            raise ModuleNotFoundError(f"a release must not import the project, but it imports {name!r}")


def compute(name: str, revision: str | None = None) -> dict:
    """Logits and greedy continuation of the fixed prompt.

    Args:
        name: a folder or a repository's id.
        revision: of the repository; main by default.

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
        lengths = {"min_new_tokens": NEW_TOKENS, "max_new_tokens": NEW_TOKENS}
        generated = model.generate(**encoded, do_sample=False, **lengths)  # pyright: ignore[reportAttributeAccessIssue] (Auto classes' stubs)
    return {"input_ids": encoded.input_ids, "logits": logits, "generated": generated}


def main(folder: str, result: str, repo_id: str | None = None, revision: str | None = None) -> None:
    sys.meta_path.insert(0, HideProject)  # pyright: ignore[reportArgumentType] (a finder needs no more than find_spec)
    from safetensors.torch import save_file

    snippets = json.load(sys.stdin)
    tensors = compute(repo_id or folder, revision)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, result)

    os.chdir(folder)
    sys.path.insert(0, folder)
    for number, snippet in enumerate(snippets, start=1):
        exec(compile(snippet, f"README.md, Python snippet {number}", "exec"), {"__name__": f"snippet_{number}"})


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()), *sys.argv[2:])
