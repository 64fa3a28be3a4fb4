"""Recipes for small data, and rows to fill their files with."""

import hashlib
import json
from pathlib import Path

import pytest

from axion.data.sources import Source
from axion.data.split import Split
from axion.recipe import Recipe, load_recipe
from tests.hub.fixtures import hub, hub_server  # noqa: F401 (fixtures)

SMALL = ("data.hub_id=null", "data.arithmetic=400", "data.word_problems=30", "tokenizer.vocab_size=400")


@pytest.fixture(scope="session")
def small_recipe():
    """A function: the v0.1 recipe with little generated data and no Hub, changed by further overrides."""

    def make(*overrides: str) -> Recipe:
        return load_recipe("axion1-v0.1", [*SMALL, *overrides])

    return make


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def problems(count: int) -> list[dict]:
    """Rows in GSM8K's format with one-digit numbers, which are never held out."""
    return [
        {
            "question": f"Ana number {index} has 5 apples and buys 3. How many?",
            "answer": f"Ana {index} has 5 + 3 = <<5+3=8>>8.\n#### 8",
        }
        for index in range(count)
    ]


def digest(source: Source) -> str:
    """The first digits of a hash of all documents of a source, with their splits and languages."""
    split = Split(fraction=0.05, seed=0, holdout_fraction=0.05)
    rows = [(document.spans, document.side, document.language) for document in source.documents(split, 1)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def texts(folder: Path, name: str) -> list[str]:
    """The documents of train.txt or validation.txt."""
    return (folder / name).read_text(encoding="utf-8").split("\n<eos>\n")[:-1]


def contents(folder: Path) -> dict[str, bytes]:
    """The prepared files. The tokenizer's differ where merges are equally frequent."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
