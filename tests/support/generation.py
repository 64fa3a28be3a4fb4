"""Generates with a release in every mode of `generate` and prints the ids; run in other Python environments.

    python generation.py FOLDER

It imports nothing from this project, like a user's code.
"""

import json
import sys
import warnings

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

WAYS = {
    "greedy": {},
    "sampled": {"do_sample": True, "temperature": 0.8, "top_k": 20},
    "beams": {"num_beams": 3},
    "sampled beams": {"num_beams": 2, "do_sample": True, "num_return_sequences": 2},
}
NEW_TOKENS = 10


def greedy_by_hand(model, ids: torch.Tensor) -> list[int]:
    """The expected result of `generate`, from logits of the whole text without a KV cache."""
    for _ in range(NEW_TOKENS):
        logits = model(ids, use_cache=False).logits
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    return ids[0].tolist()


@torch.no_grad()
def generate_all(model) -> dict[str, list]:
    """Way of generating → [ids with a cache, ids that they must equal]."""
    generator = torch.Generator().manual_seed(1)
    long, short = (torch.randint(3, model.config.vocab_size, (1, n), generator=generator) for n in (9, 5))
    settings = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}

    def generate(ids, **options) -> list:
        torch.manual_seed(3)
        return model.generate(ids, **{**settings, **options}).tolist()

    found = {
        way: [generate(long, **options), generate(long, **options, use_cache=False)] for way, options in WAYS.items()
    }
    found["by hand"] = [generate(long)[0], greedy_by_hand(model, long)]
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), short], dim=1)
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, :4] = 0
    batch = generate(torch.cat([long, padded]), attention_mask=mask)
    found["left-padded batch"] = [batch, [generate(long)[0], [0] * 4 + generate(short)[0]]]
    found["assisted"] = [generate(long, assistant_model=model), generate(long)]
    found["early exit"] = [generate(long, assistant_early_exit=1), generate(long)]
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True, dtype=torch.float32).eval()
    rewards = AutoModelForSequenceClassification.from_pretrained(sys.argv[1], trust_remote_code=True, num_labels=1)
    found = generate_all(model) | {"rewards": [list(rewards(torch.tensor([[3, 4, 5]])).logits.shape), [1, 1]]}
    print(json.dumps({"version": transformers.__version__, "found": found}))
