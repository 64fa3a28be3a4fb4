"""Speed and memory of a release on this machine.

Text is generated one token at a time by `axion.inference.stream`, as the command line and the page do it: with the
alternatives and the experts of every token, on the kernels where they can be used. Prefill of a full window is measured
too. Times are medians of a few repetitions after a warm-up.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch
from transformers.cache_utils import DynamicCache

from axion.data.format import prompt
from axion.errors import AxionError
from axion.inference.readers import pick_backend
from axion.inference.sampling import Sampling
from axion.inference.stream import stream
from axion.kernels.decoder import NativeDecoder
from axion.machine import libraries, machine, peak_bytes
from axion.release import Release, open_release
from axion.shipped import ROOT

REPETITIONS = 5
NEW_TOKENS = 100
PROMPT = prompt("Quanto é 47 + 38?")
PROCESS_SECONDS = 300
"""Timeout of the process whose memory is measured."""


def measure(release: Release) -> dict:
    """Speed with one thread and with all of torch's, and memory.

    Returns:
        "by_threads": for each number of threads "first_token_seconds" (from the prompt to the first new token),
        "decode_tokens_per_second" (batch of one) and "prefill_tokens_per_second" (a full window);
        "prompt_tokens", "new_tokens", "window" and "repetitions", the settings of the measurement;
        "cache_bytes_per_token" as measured, "weights_bytes" on disk;
        "memory", see `measure_memory`; "machine" and "libraries".
    """
    threads = sorted({1, torch.get_num_threads()})
    window, cache_bytes = _fill_window(release)
    return {
        "by_threads": [_measure_with(release, count) for count in threads],
        "prompt_tokens": len(release.tokenizer(PROMPT).input_ids),
        "new_tokens": _new_tokens(release),
        "window": window,
        "repetitions": REPETITIONS,
        "cache_bytes_per_token": cache_bytes // window,
        "weights_bytes": (release.folder / "model.safetensors").stat().st_size,
        "memory": measure_memory(release.folder, release.config.num_loops, release.weights),
        "machine": machine(),
        "libraries": {name: libraries()[name] for name in ("torch", "transformers")},
    }


def measure_memory(folder: Path, num_loops: int = 0, weights: str = "fp32") -> dict[str, int] | None:
    """Peak resident memory of a new process that loads a release and generates; None on systems that do not report it.

    Args:
        num_loops: how often a looped model runs its shared layers; 0 for as often as its config says.
        weights: see `Release.with_weights`.

    Returns:
        "libraries_bytes": the peak once the libraries are loaded; "peak_bytes": the peak of the whole process.

    Raises:
        AxionError: the process failed.
    """
    if sys.platform not in {"linux", "darwin"}:
        return None
    command = [sys.executable, "-m", "axion.evaluation.speed", str(folder.resolve()), str(num_loops), weights]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PROCESS_SECONDS, check=True)
    except subprocess.SubprocessError as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        raise AxionError(f"the memory of {folder.name} could not be measured: {reason}") from None
    return json.loads(done.stdout)


def _measure_with(release: Release, threads: int) -> dict:
    with _torch_threads(threads):
        _generate(release)
        runs = [_generate(release) for _ in range(REPETITIONS)]
        read = _window_reader(release)
        read()
        prefills = [_seconds(read) for _ in range(REPETITIONS)]
    return {
        "threads": threads,
        "first_token_seconds": median(first for first, _ in runs),
        "decode_tokens_per_second": median(speed for _, speed in runs),
        "prefill_tokens_per_second": release.config.max_position_embeddings / median(prefills),
    }


def _generate(release: Release) -> tuple[float, float]:
    """Seconds to the first new token, and new tokens per second after it."""
    tokens = _new_tokens(release)
    sampling = Sampling(max_new_tokens=tokens, min_new_tokens=tokens)
    steps = [step for step in stream(release.model, release.tokenizer, PROMPT, sampling) if not step.is_prompt]
    return steps[0].seconds, (len(steps) - 1) / (steps[-1].seconds - steps[0].seconds)


def _window_reader(release: Release) -> Callable[[], object]:
    """Prefills a full window on the backend that a stream would use."""
    if pick_backend(release.model).name == "torch":
        return lambda: _fill_window(release)
    decoder, ids = NativeDecoder(release.model), _window(release)

    def read() -> None:
        decoder.rewind(0)
        decoder.read(ids)

    return read


def _window(release: Release) -> list[int]:
    """Repetitions of the prompt that fill the context."""
    window, ids = release.config.max_position_embeddings, release.tokenizer(PROMPT).input_ids
    return (ids * (window // len(ids) + 1))[:window]


@torch.inference_mode()
def _fill_window(release: Release) -> tuple[int, int]:
    """Prefills a full window with PyTorch; returns its length in tokens and the size of the filled cache in bytes."""
    input_ids = torch.tensor([_window(release)], device=release.model.device)
    window = input_ids.shape[1]
    cache = DynamicCache(config=release.config)
    release.model(input_ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return window, sum(getattr(layer, part).nbytes for layer in cache.layers for part in ("keys", "values"))


def _new_tokens(release: Release) -> int:
    """NEW_TOKENS, or as many as fit into the context."""
    return min(NEW_TOKENS, release.config.max_position_embeddings - len(release.tokenizer(PROMPT).input_ids))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _main(folder: str, num_loops: str, weights: str) -> None:
    import axion.model.modeling_axion  # noqa: F401 (what opening a release would import)

    bare = peak_bytes()
    _generate(open_release(folder).with_loops(int(num_loops)).with_weights(weights))
    print(json.dumps({"libraries_bytes": bare, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
