"""Generation speed: Axion's decoder compared with its PyTorch model, transformers' `generate` and llama.cpp.

See benchmarks/decoders.py for the contenders and the kinds of work, and docs/performance.md for what the figures mean.
llama.cpp is included if `make .venv-llama/installed` was run or $AXION_LLAMA_PYTHON names a Python that has it.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from axion.data.sources.word_problems import word_problems
from axion.errors import AxionError
from axion.export.gguf import write_gguf
from axion.export.native import write_native
from axion.inference.scoring import log_probabilities
from axion.kernels.dimensions import WEIGHT_BITS
from axion.release import Release, open_release
from axion.shipped import ROOT
from benchmarks.decoders import BATCH, NEW_TOKENS, PROMPT_TOKENS
from benchmarks.figures import Contender, Effort, Field, Figure, figures_of, speed_table, to_try
from benchmarks.sizes import BUNDLED, config_of, make_release
from benchmarks.workers import Gone, Worker

NATIVE, NATIVE_BF16, NATIVE_INT8 = "Axion's kernels", "Axion's kernels, bf16", "Axion's kernels, int8"
STREAM = "Axion's stream"
STREAM_TORCH, TORCH = "Axion's stream, PyTorch", "Axion in PyTorch"
REMOTE, TRANSFORMERS, LLAMA = "remote code", "transformers", "llama.cpp"
KINDS = ("decode", "first", "prefill", "batch")
WORKS = {
    "decode": "one text",
    "batch": f"{BATCH} texts",
    "prefill": "prefill of 512",
}

LABELS = {
    "axion-native": "**Axion, C++ kernels**",
    "axion-native+bf16": "**Axion, C++ kernels, bf16 weights**",
    "axion-native+int8": "**Axion, C++ kernels, int8 weights**",
    "axion-stream": "Axion, the stream behind page and API, with routing",
    "axion-stream-torch": "Axion, the same stream on PyTorch",
    "axion-torch": "Axion, PyTorch, plain loop",
    "remote-code": "Axion's remote code in transformers' `generate`",
    "transformers": "transformers' `generate`",
    "transformers:eager": "transformers' `generate`, eager experts",
    "transformers:batched_mm": "transformers' `generate`, batched_mm experts",
    "transformers+bf16": "transformers' `generate`, bf16",
    "llama-f32": "llama.cpp, f32",
    "llama-q8_0": "llama.cpp, q8_0",
}
UNIQUE = ("mini",)
"""Sizes of a family that neither transformers nor llama.cpp has."""
DOCUMENTS, UNSEEN_SEED = 200, 1_000_003
NO_LLAMA = "llama.cpp: not installed; `make .venv-llama/installed` compiles it in about ten minutes"


def contenders(size: str, both: Sequence[int], llama: bool) -> list[Contender]:
    """The contenders at a size, with one thread and with all; beyond v0.1, Axion's slower engines only with one.

    What no other program has is compared with its own PyTorch model.
    """
    smallest = size == "v0.1"
    names = [("axion-native", NATIVE, both), ("axion-native+bf16", NATIVE_BF16, both)]
    names += [("axion-native+int8", NATIVE_INT8, both), ("axion-stream", STREAM, [1])]
    names += [("axion-stream-torch", STREAM_TORCH, [1])] if smallest else []
    ours = both if smallest or size in UNIQUE else [1]
    names += [("axion-torch", TORCH, ours), ("remote-code", REMOTE, ours)]
    if size in UNIQUE:
        return [Contender(name, group, threads) for name, group, counts in names for threads in counts]
    names += [("transformers", TRANSFORMERS, both)]
    names += [("transformers:eager", TRANSFORMERS, both)] if config_of(size).mixture_layers else []
    names += [("transformers:batched_mm", TRANSFORMERS, [1])] if smallest else []
    names += [("transformers+bf16", TRANSFORMERS, both[-1:])]
    names += [("llama-f32", LLAMA, both), ("llama-q8_0", LLAMA, both)] if llama else []
    return [Contender(name, group, threads) for name, group, counts in names for threads in counts]


def measure(effort: Effort, say: Callable[[str], None]) -> dict:
    """Every figure about generation.

    Returns:
        "figures": from interleaved rounds of all contenders of a size; "tried": every setting, measured once; "texts":
        size → contender → how many of its first tokens agree with transformers' text; "losses": see `losses`;
        "left_out": as in `training.measure`.
    """
    python = llama_python()
    figures, tried, texts, left_out = [], [], {}, [] if python else [NO_LLAMA]
    for size in (*effort.sizes, *effort.other_families):
        with tempfile.TemporaryDirectory(prefix="axion-benchmark-") as place:
            folders = write_models(
                make_release(size, Path(place, "release")), Path(place), bool(python), size in UNIQUE
            )
            with Field(size, KINDS, effort.seconds / 3, say) as field:
                for contender in to_try(contenders(size, effort.threads, bool(python)), effort):
                    field.enter(contender, lambda one=contender, folders=folders: start(one, folders, python))
                figures += field.run(effort.rounds)
            tried += field.tried
            left_out += field.left_out
            texts[size] = agreement({who.name: told["text"] for who, told in field.told.items() if comparable(who)})
    return {
        "figures": [asdict(figure) for figure in figures],
        "tried": [asdict(figure) for figure in tried],
        "texts": texts,
        "losses": losses(),
        "left_out": list(dict.fromkeys(left_out)),
        "rounds": effort.rounds,
    }


def llama_python() -> str | None:
    """The Python interpreter that has llama-cpp-python, or None."""
    python = Path(os.environ.get("AXION_LLAMA_PYTHON", ROOT / ".venv-llama" / "bin" / "python"))
    stamp = python.parent.parent / "installed"
    return str(python) if python.is_file() and ("AXION_LLAMA_PYTHON" in os.environ or stamp.is_file()) else None


def write_models(release: Release, folder: Path, llama: bool, unique: bool = False) -> dict[str, Path]:
    """Write the same weights in each engine's format, or only ours if `unique`; returns engine → folder."""
    folders = {"axion": release.folder, "remote": release.folder}
    if unique:
        return folders
    folders["transformers"] = folder / "native"
    write_native(release, folders["transformers"])
    if llama:
        folders["llama"] = folder / "gguf"
        folders["llama"].mkdir()
        for kind in ("f32", "q8_0"):
            write_gguf(release, folders["llama"] / f"model-{kind}.gguf", kind)
    return folders


def start(contender: Contender, folders: Mapping[str, Path], llama: str | None) -> Worker:
    """Start the contender's process."""
    engine = contender.name.replace(":", "-").replace("+", "-").partition("-")[0]
    python = llama if llama and engine == "llama" else sys.executable
    arguments = (contender.name, "--folder", str(folders[engine]), "--kinds", ",".join(KINDS))
    worker = Worker("benchmarks.decoders", *arguments, threads=contender.threads, python=python)
    if not worker.ready["text"]:
        worker.close()
        raise Gone("it generated nothing")
    return worker


def comparable(contender: Contender) -> bool:
    """Whether it may generate the end-of-text token, as the others do; the stream bans it."""
    return contender.group not in (STREAM, STREAM_TORCH)


def agreement(texts: Mapping[str, list[int]]) -> dict[str, int]:
    """How many tokens of each text agree with transformers' before the first difference; {} where it has none."""
    if (expected := texts.get("transformers")) is None:
        return {}
    return {
        name: next((n for n, (a, b) in enumerate(zip(text, expected, strict=False)) if a != b), len(expected))
        for name, text in texts.items()
    }


def losses() -> dict[str, float]:
    """What rounding costs: the bundled model's loss with each kind of weights, in nats per token.

    The documents are word problems it was not trained on. Empty without the kernels.
    """
    release = open_release(BUNDLED)
    problems = word_problems(DOCUMENTS, seed=UNSEEN_SEED, holdout=0.0)
    documents = [release.tokenizer(problem.document()).input_ids for problem in problems]
    try:
        return {kind: _loss(release.with_weights(kind), documents) for kind in WEIGHT_BITS}
    except AxionError:
        return {}


def _loss(release: Release, documents: Sequence[Sequence[int]]) -> float:
    return -float(np.concatenate(log_probabilities(release.model, documents, "native")).mean(dtype=np.float64))


def tables(parts: Mapping[str, dict]) -> str:
    """Markdown tables: the measured contenders of each size, then every setting that was tried.

    Args:
        parts: processor → what `measure` returned there.
    """
    figures, tried = figures_of(parts), figures_of(parts, "tried")
    latest = list(reversed(list(parts.values())))
    sizes = list(dict.fromkeys(size for part in parts.values() for size in part["texts"]))
    text = f"Tokens per second, {latest[0]['rounds']} rounds:\n"
    for size in sizes:
        text += f"\n**{size}**\n\n{_table(figures, size)}"
        agrees = next(part["texts"][size] for part in latest if size in part["texts"])
        if begins := ", ".join(f"{name} {count}" for name, count in agrees.items()):
            text += f"\nTokens, of {NEW_TOKENS}, that agree with transformers' text before the first difference: "
            text += f"{begins}.\n"
    if losses := next((part["losses"] for part in latest if part["losses"]), None):
        with_each = ", ".join(f"{nats:.4f} with {kind} weights" for kind, nats in losses.items())
        text += f"\nLoss of v0.1 on {DOCUMENTS} unseen word problems, in nats per token: {with_each}.\n"
    text += f"\nTime to first token after a prompt of {PROMPT_TOKENS} tokens, in milliseconds:\n\n"
    text += _first_table(figures)
    text += "\nEvery setting, measured once; the tables above have the fastest of each group in any kind of work:\n"
    for size in sizes:
        text += f"\n**{size}**\n\n{_table(tried, size)}"
    return text


def _table(measured: Mapping[str, Sequence[Figure]], size: str) -> str:
    shown = {
        processor: [figure for kind in WORKS for figure in figures if (figure.size, figure.kind) == (size, kind)]
        for processor, figures in measured.items()
    }
    return speed_table(shown, LABELS, "kind", WORKS)


def _first_table(measured: Mapping[str, Sequence[Figure]]) -> str:
    milliseconds = {
        processor: [
            replace(figure, values=tuple(1000 / value for value in figure.values))
            for figure in figures
            if figure.kind == "first"
        ]
        for processor, figures in measured.items()
    }
    return speed_table(milliseconds, LABELS, "size")
