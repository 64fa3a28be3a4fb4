"""Teaches the bundled release to chat and writes what came of it to docs/teaching.json and the README.

`python -m tools.teaching FILE…` trains on these conversations, in the working directory's data/ and runs/. The three
dialogues are fixed here, before the model has answered anything, and are quoted whatever it answers.
"""

import argparse
from collections.abc import Sequence

from axion.checksums import identify
from axion.data.prepare import prepare
from axion.files import read_json
from axion.inference.chat import Conversation
from axion.inference.sampling import Sampling
from axion.machine import libraries, machine
from axion.release import Release, open_release
from axion.training.finetune import Settings, finetuning_recipe
from axion.training.run import train
from axion.training.runfile import FINAL, read_run_file
from axion.training.validation import validation_loss
from benchmarks.report import DOCS, write_json
from tools import tables

BASE, NAME = "axion1-v0.1", "axion1-v0.1-chat"
DIALOGUES = (
    ("Olá! Quem é você?", "O que você sabe fazer?"),
    ("What lives in the ocean?", "Can you tell me more?"),
    ("Quanto é 5 + 3?", "E 46 - 19?"),
)
SAMPLING = Sampling(temperature=0.7, max_new_tokens=60)
"""As in the README's command."""


def teach(files: Sequence[str], epochs: int) -> dict:
    """Fine-tunes the bundled release; returns the loss before and after, the time, and the dialogues."""
    base = open_release(BASE)
    recipe = finetuning_recipe(base, files, Settings(name=NAME, epochs=epochs))
    run = train(recipe, start=base)
    info, held_out = read_run_file(run), prepare(recipe, progress=False, tokenizer=base.tokenizer).validation
    taught = open_release(run / FINAL)
    losses = {name: validation_loss(release.model, held_out) for name, release in (("before", base), ("after", taught))}
    return {
        "base": BASE,
        "files": identify(files),
        "date": info["date"],
        "seconds": info["seconds"],
        "steps": info["steps"],
        "tokens": info["tokens"],
        "conversations": {side: info["data"][side]["documents"] for side in ("train", "validation")},
        "training": recipe.training.model_dump(
            mode="json", include={"epochs", "batch_size", "window", "learning_rate"}
        ),
        "nats_per_token": {name: loss.nats_per_token for name, loss in losses.items()},
        "bits_per_byte": {name: loss.bits_per_byte for name, loss in losses.items()},
        "sampling": {name: getattr(SAMPLING, name) for name in ("temperature", "seed")},
        "dialogues": [converse(taught, questions) for questions in DIALOGUES],
        "machine": machine(),
        "libraries": libraries(),
    }


def converse(release: Release, questions: Sequence[str]) -> list[dict[str, str]]:
    """The messages of a conversation in which these questions are asked in turn."""
    conversation = Conversation(release.model, release.tokenizer, release.name, SAMPLING)
    for question in questions:
        for _ in conversation.ask(question):
            pass
    return conversation.messages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="JSONL files of conversations")
    parser.add_argument("--epochs", type=int, default=2)
    asked = parser.parse_args()
    write_json(DOCS / "teaching.json", teach(asked.files, asked.epochs))
    tables.write_readme("teaching", tables.teaching_block(read_json(DOCS / "teaching.json")))


if __name__ == "__main__":
    main()
