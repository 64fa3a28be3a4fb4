"""history.json: what a model writes after the same few prompts while it trains, so that its learning can be replayed.

It has "format", 1; "prompts", each with the "text" that the model reads and what is "shown" of it; and "checkpoints",
each with "step", "tokens", "val_loss" (nats per token; null before the first step) and "answers", one for each prompt.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers.cache_utils import DynamicCache

from axion.data.format import CHOICE, prompt
from axion.data.openings import openings
from axion.data.prepare import Prepared
from axion.errors import AxionError
from axion.files import read_json, write_json
from axion.inference.chat import conversation_prompt
from axion.inference.stream import encode_prompt
from axion.model.modeling_axion import AxionForCausalLM
from axion.tokenizer import generation_config
from axion.training.metrics import HISTORY_FILE
from axion.training.validation import evaluating

FORMAT = 1

NUM_PROMPTS = 5
NEW_TOKENS = 32
"""The most tokens of an answer."""
THINKING_TOKENS = 64
"""The same for a model that chooses to think first; enough for a sum of two digits."""
FEWEST_STEPS = 150
"""Optimizer steps between two recordings, each of which takes about as long as one or two steps: 1.5 in v0.1. Shorter
runs record none."""

QUESTIONS = (
    ("Quanto é 3 + 4?", False),
    ("What is 47 + 38?", False),
    ("Quanto é 52 - 17?", True),
    ("Ana tem 8 laranjas e ganha 5. Quantas laranjas ela tem agora?", False),
    ("Tom has 12 apples. He gives 7 to Ana. How many apples does Tom have now?", True),
)
"""What a model that is trained on problems is asked, and whether with its reasoning first, unless it chooses itself."""
CHAT = (
    "Quem é você?",
    "What is your name?",
    "Qual é a capital do Brasil?",
    "How are you today?",
    "Conta uma história.",
)
"""What a model that is trained on conversations is asked."""


class Prompt(NamedTuple):
    """What a model continues."""

    text: str
    shown: str
    """The part that a reader is shown: a question without the form of the training data."""


def history_prompts(data: Prepared, name: str) -> list[Prompt]:
    """Prompts of the kind that the model is trained on: problems, conversations, or openings of held-out texts.

    Args:
        data: its tokenizer has the chat template, where conversations are among it.
        name: the model's, for messages.
    """
    if data.data.has_chats:
        turns = [[{"role": "user", "content": question}] for question in CHAT]
        texts = [conversation_prompt(data.tokenizer, turn, name) for turn in turns]
        return [Prompt(text, question) for text, question in zip(texts, CHAT, strict=True)]
    if data.data.has_problems:
        chooses = data.data.teaches_thinking
        return [Prompt(prompt(question, None if chooses else first), question) for question, first in QUESTIONS]
    return [Prompt(text, text) for text in openings(data, NUM_PROMPTS)]


class History:
    """Writes a run's history.json. The texts are the likeliest ones, so nothing random is drawn.

    Args:
        run: the run's folder.
        name: the model's, for messages.
        data: what it trains on.
        model: the model that trains.
        steps: how many optimizer steps it trains.
    """

    def __init__(self, run: Path, name: str, data: Prepared, model: AxionForCausalLM, steps: int):
        self.path = run / HISTORY_FILE
        self.model = model
        self.tokenizer = data.tokenizer
        self.steps = steps
        room = model.config.max_position_embeddings - 1
        prompts = history_prompts(data, name) if steps >= FEWEST_STEPS else []
        encoded = [(each, encode_prompt(data.tokenizer, each.text)) for each in prompts]
        encoded = [(each, ids) for each, ids in encoded if len(ids) <= room]
        self.prompts, self._ids = [each for each, _ in encoded], [ids for _, ids in encoded]
        ends = generation_config(model.config, data.tokenizer).eos_token_id
        thinks = any(each.text.endswith(CHOICE) for each in self.prompts)
        self._new_tokens = THINKING_TOKENS if thinks else NEW_TOKENS
        self._ends = {*ends} if isinstance(ends, list) else {ends}
        self._checkpoints: list[dict] = []

    def start(self, step: int) -> None:
        """Starts the file, or keeps what it has up to `step` of a resumed run.

        Raises:
            AxionError: the file of a resumed run is broken.
        """
        if not self.prompts:
            return
        if step > 0 and self.path.exists():
            self._checkpoints = [each for each in self._read() if each["step"] <= step]
        if step == 0:
            self.record(0, 0, None)

    def is_due(self, step: int) -> bool:
        """Whether answers are recorded at this step, at which the run is evaluated; at the last they always are."""
        if not self.prompts:
            return False
        last = self._checkpoints[-1]["step"] if self._checkpoints else 0
        return step - last >= FEWEST_STEPS or step == self.steps

    def record(self, step: int, tokens: int, val_loss: float | None) -> None:
        """Adds the answers of the model as it is now."""
        with evaluating(self.model):
            written = write_greedily(self.model, self._ids, self._ends, self._new_tokens)
        answers = [
            self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) for ids in written
        ]
        self._checkpoints.append({"step": step, "tokens": tokens, "val_loss": val_loss, "answers": answers})
        prompts = [each._asdict() for each in self.prompts]
        write_json(self.path, {"format": FORMAT, "prompts": prompts, "checkpoints": self._checkpoints})

    def _read(self) -> list[dict]:
        try:
            content = read_json(self.path)
            checkpoints, asked = content["checkpoints"], [each["text"] for each in content["prompts"]]
            sound = all(type(each["step"]) is int and len(each["answers"]) == len(asked) for each in checkpoints)
        except (OSError, ValueError, LookupError, TypeError):
            sound = False
        if not sound or asked != [each.text for each in self.prompts]:
            raise AxionError(f"{self.path} is broken, or of other prompts; restore it, or delete it to go on without")
        return checkpoints


@torch.no_grad()
def write_greedily(
    model: AxionForCausalLM, prompts: Sequence[Sequence[int]], ends: Collection[int], max_new_tokens: int
) -> list[list[int]]:
    """The likeliest continuation of each prompt, without the token that ends it; all of them are written together.

    Args:
        model: in eval mode.
        prompts: token ids, shorter than the model's context.
        ends: the tokens that end a text.
        max_new_tokens: the most tokens of a continuation; fewer where the context is full.
    """
    longest = max(map(len, prompts))
    padded = [longest - len(ids) for ids in prompts]  # on the left, so that all continue at the same place
    device = model.device
    ids_BS = torch.tensor([[0] * pad + [*ids] for pad, ids in zip(padded, prompts, strict=True)], device=device)
    mask_BS = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in padded], device=device)
    cache, written, open_texts = DynamicCache(config=model.config), [[] for _ in prompts], {*range(len(prompts))}
    for _ in range(min(max_new_tokens, model.config.max_position_embeddings - longest)):
        positions_BS = (mask_BS.cumsum(dim=1) - 1).clamp(min=0)[:, -ids_BS.shape[1] :]
        output = model(
            ids_BS,
            attention_mask=mask_BS,
            position_ids=positions_BS,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        ids_BS = output.logits[:, -1].argmax(dim=-1, keepdim=True)
        for text in [*open_texts]:
            token = int(ids_BS[text])
            if token in ends:
                open_texts.remove(text)
            else:
                written[text].append(token)
        if not open_texts:
            break
        mask_BS = torch.nn.functional.pad(mask_BS, (0, 1), value=1)
    return written
