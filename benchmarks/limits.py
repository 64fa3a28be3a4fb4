"""The processor's limits, which bound the speeds: multiply-adds for training, bytes read for generation."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from axion.families import cache_values
from axion.kernels.build import FLAGS, SOURCES, Unavailable, compiler, processor_flags
from axion.model.configuration_axion import AxionConfig
from axion.params import count_parameters

PROGRAM = Path(__file__).with_name("limits.cpp")
SECONDS = 300


def measure(threads: int, working_sets: Sequence[int]) -> dict:
    """Measure the processor's limits with a small program, built with the kernels' compiler and flags.

    Args:
        working_sets: sizes in bytes, divided among all threads.

    Returns:
        "operations": floating-point operations per second; "read": working set (as a string) → bytes per second.

    Raises:
        Unavailable: there is no compiler, or the program fails.
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
    """Floating-point operations per token in training, forward and backward.

    The forward pass takes two per active weight and, in causal attention, two per element of the preceding keys and
    values, on average half a window of them. The backward pass takes twice as many. Norms, softmax and other
    elementwise work are not counted.
    """
    weights = count_parameters(config).active
    per_position = config.num_attention_heads * (config.qk_head_dim + config.v_head_dim)
    return 3 * (2 * weights + config.num_hidden_layers * 2 * per_position * window // 2)


def decoding_bytes(config: AxionConfig, context: int, bytes_per_weight: int) -> int:
    """Bytes read to generate one token after `context` others: the active weights and the cache."""
    latent = cache_values(config).kept
    return count_parameters(config).active * bytes_per_weight + config.depth() * context * latent * 4
