"""What a model wrote while it was trained: its history.json, step by step."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from axion.errors import AxionError
from axion.files import read_json
from playground.locales import Language, fill, format_number, format_short, texts

MOST_PROMPTS, MOST_CHECKPOINTS, LONGEST_TEXT = 12, 500, 4_000
"""More than Axion writes; what is beyond them is left out."""


@dataclass(frozen=True)
class Moment:
    """The model at one checkpoint."""

    label: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Learning:
    """The prompts, and what the model wrote after them at each checkpoint."""

    prompts: tuple[str, ...]
    moments: tuple[Moment, ...]

    @property
    def data(self) -> str:
        """What views/learning.js shows, as JSON."""
        moments = [{"label": moment.label, "answers": moment.answers} for moment in self.moments]
        return json.dumps(moments, ensure_ascii=False, separators=(",", ":"))


def read_learning(path: Path | None, language: Language) -> Learning | None:
    """What a release's history.json says; None where there is none, or nothing in it.

    Raises:
        AxionError: the file is broken.
    """
    if path is None:
        return None
    try:
        content = read_json(path)
        prompts = tuple(_text(each["shown"]) for each in content["prompts"])[:MOST_PROMPTS]
        moments = tuple(_moment(each, len(prompts), language) for each in content["checkpoints"][:MOST_CHECKPOINTS])
    except OSError as error:
        raise AxionError(f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, LookupError, TypeError):
        raise AxionError(f"{path.name} is broken: it has not the form that training writes") from None
    return Learning(prompts, moments) if prompts and moments else None


def _moment(checkpoint: dict, prompts: int, language: Language) -> Moment:
    text = texts("model", language)
    answers = tuple(_text(answer) or text["learning_nothing"] for answer in checkpoint["answers"])[:prompts]
    step, tokens, loss = (checkpoint[key] for key in ("step", "tokens", "val_loss"))
    if len(answers) < prompts or type(step) is not int or type(tokens) is not int:
        raise ValueError
    if step == 0:
        return Moment(text["learning_start"], answers)
    label = fill(text["learning_step"], language, step=step, tokens=format_short(tokens, language))
    if loss is not None:
        label += fill(text["learning_loss"], language, loss=format_number(float(loss), language, 3))
    return Moment(label, answers)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value.strip()[:LONGEST_TEXT]
