"""How near the processor's own limits a speed is: multiply-adds for training, bytes read for writing text."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from axion.families import family_of
from axion.kernels.build import FLAGS, SOURCES, Unavailable, compiler, processor_flags
from axion.model.configuration_axion import AxionConfig
from axion.params import count_parameters

PROGRAM = Path(__file__).with_name("limits.cpp")
SECONDS = 300


def measure(threads: int, working_sets: Sequence[int]) -> dict:
    """The processor's limits, by a small program built by the kernels' own compiler with their flags.

    Args:
        working_sets: bytes, among all threads.

    Returns:
        "operations": floating-point operations a second; "read": working set (as text) → bytes a second.

    Raises:
        Unavailable: no compiler, or it fails.
    """
    with tempfile.TemporaryDirectory(prefix="axion-limits-") as folder:
        program = Path(folder) / "limits"
        build = [compiler(), *FLAGS, *processor_flags(), f"-I{SOURCES}", str(PROGRAM), "-o", str(program)]
        run = [str(program), str(threads), *map(str, working_sets)]
        try:
            subprocess.run(build, capture_output=True, text=True, check=True, timeout=SECONDS)
            done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=SECONDS)
        except subprocess.SubprocessError as error:
            raise Unavailable(f"{PROGRAM.name} could not be built and run: {type(error).__name__}") from None
    return json.loads(done.stdout)


def training_operations(config: AxionConfig, window: int) -> int:
    """Floating-point operations that a token costs in training, forward and backward.

    Two for each weight it passes through, and in causal attention two for each number of the keys and values before it,
    half a window of them on average; the backward pass takes twice as many as the forward pass. Norms, softmax and the
    like are not counted.
    """
    weights = count_parameters(config).active
    per_position = config.num_attention_heads * (config.qk_head_dim + config.v_head_dim)
    return 3 * (2 * weights + config.num_hidden_layers * 2 * per_position * window // 2)


def decoding_bytes(config: AxionConfig, context: int, bytes_per_weight: int) -> int:
    """Bytes that are read to write one token after `context` others: the weights it passes through, and the cache."""
    latent = family_of(config).cache_values(config).kept
    return count_parameters(config).active * bytes_per_weight + config.num_hidden_layers * context * latent * 4
