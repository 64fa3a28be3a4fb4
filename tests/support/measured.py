"""Releases with random weights and made-up results, metrics, favourite tokens and chat templates."""

import csv
import json
import shutil
from pathlib import Path

from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.tokenizer import load_tokenizer
from tests.conftest import TINY

LOAD_SETS = ("together", "validation", "arithmetic")
VALIDATION = {
    "data": "GSM8K",
    "dataset": "openai/gsm8k",
    "documents": 392,
    "nats_per_token": 2.5,
    "tokens": 81748,
    "bytes": 204708,
}


CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_release(tiny_release: Path, folder: Path, **config: object) -> Path:
    """A release with the tiny one's tokenizer and a model of this shape; without `config`, the tiny model itself."""
    shutil.copytree(tiny_release, folder)
    if config:
        tokenizer = load_tokenizer(folder)
        ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
        AxionForCausalLM(AxionConfig(**TINY | config, **ids)).eval().save_pretrained(folder)
    return folder


def make_chatty(source: Path, folder: Path, template: str = CHAT_TEMPLATE) -> Path:
    """Copy a release and add a chat template."""
    shutil.copytree(source, folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def write_info(folder: Path, **info: object) -> None:
    (folder / "release.json").write_text(json.dumps(info), encoding="utf-8")


def write_trace(folder: Path, **trace: object) -> None:
    empty = {"prompt": "", "sampling": {}, "steps": []}
    (folder / "trace.json").write_text(json.dumps(empty | trace), encoding="utf-8")


def expert_load(layers: int, experts: int, start: float = 0.5) -> dict:
    """Expert loads that all differ, also across sets."""
    sets = {}
    for offset, name in enumerate(LOAD_SETS):
        rows = [
            [round(start + offset + (layer * experts + expert) / 100, 4) for expert in range(experts)]
            for layer in range(layers)
        ]
        sets[name] = {"layers": rows, "lowest": rows[0][0], "highest": rows[-1][-1]}
    return {**sets, "command": "python -m axion eval tiny --tasks expert_load"}


def favourites(layers: int, experts: int, texts: list[str], first_layer: int = 1) -> list[dict]:
    """Favourite tokens: the same texts for every expert, with different figures."""
    return [
        {
            "layer": layer,
            "expert": expert,
            "share": round(0.1 + expert / 100, 4),
            "tokens": [
                {"text": text, "count": 1000 * layer + 10 * expert + place, "seen": 9000, "lift": 1.5, "z": 3.0 + place}
                for place, text in enumerate(texts)
            ],
        }
        for layer in range(first_layer, first_layer + layers)
        for expert in range(1, experts + 1)
    ]


def write_metrics(folder: Path, rows: int = 12, layers: int = 2) -> list[dict]:
    """Write a metrics.csv with an evaluation in every fourth row; returns its rows."""
    written = [
        {
            "step": 25 * row,
            "tokens": 1000 * row,
            "train_loss": 6 / row,
            "val_loss": 5 / row if row % 4 == 0 else "",
            "val_bits_per_byte": 3 / row if row % 4 == 0 else "",
            **{f"max_violation_layer_{layer}": layer / row / 10 for layer in range(1, layers + 1)},
        }
        for row in range(1, rows + 1)
    ]
    with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(written[0]))
        writer.writeheader()
        writer.writerows(written)
    return written


def write_history(folder: Path, answers: list[list[str]]) -> None:
    """Write a history.json in which each prompt has one answer at each checkpoint, all 500 steps apart."""
    prompts = [{"text": f"prompt {number}", "shown": f"question {number}"} for number in range(len(answers[0]))]
    checkpoints = [
        {
            "step": 500 * place,
            "tokens": 2_000_000 * place,
            "val_loss": 5.5 / place if place else None,
            "answers": written,
        }
        for place, written in enumerate(answers)
    ]
    content = {"format": 1, "prompts": prompts, "checkpoints": checkpoints}
    (folder / "history.json").write_text(json.dumps(content), encoding="utf-8")


def measured_info(name: str, total: int, bits_per_byte: float, **more: object) -> dict:
    """A release.json with a size and a validation result."""
    results = {"validation": VALIDATION | {"bits_per_byte": bits_per_byte}}
    return {"name": name, "parameters": {"total": total}, "results": results, **more}
