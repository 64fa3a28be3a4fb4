"""The processor's limits, which bound the speeds: multiply-adds for training, bytes read for generation."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from copy import deepcopy
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

    The forward pass takes two per weight of `weights_read` and, in causal attention, two per element of the preceding
    keys and values, on average half a window of them. The backward pass takes twice as many. Norms, softmax and other
    elementwise work are not counted, nor is multi-token prediction.
    """
    per_position = config.num_attention_heads * (config.qk_head_dim + (config.v_head_dim or config.head_dim))
    return 3 * (2 * weights_read(config) + config.depth() * 2 * per_position * window // 2)


def decoding_bytes(config: AxionConfig, context: int, bytes_per_weight: int) -> int:
    """Bytes read to generate one token after `context` others: the weights of `weights_read` and the cache."""
    cached = cache_values(config).kept * (4 if config.attention == "mla" else max(bytes_per_weight, 2))
    return weights_read(config) * bytes_per_weight + config.depth() * context * cached


def weights_read(config: AxionConfig) -> int:
    """The weights that one token is multiplied by: those of a looped layer as often as it runs.

    Of an embedding table that is not also the output head, a token reads a single row, which is not counted.
    """
    dense = config.first_k_dense_replace
    dense_and_shared = sum(layer < dense for layer in config.shared_layers)
    written_out = deepcopy(config)
    written_out.num_hidden_layers = config.depth()
    written_out.first_k_dense_replace = dense + (config.num_loops - 1) * dense_and_shared
    written_out.num_shared_layers, written_out.num_loops = 0, 1
    counts = count_parameters(written_out)
    return counts.active if config.tie_word_embeddings else counts.active_without_embedding
