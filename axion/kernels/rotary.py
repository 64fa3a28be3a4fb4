"""The angles of rotary positions, as `AxionRotaryEmbedding` computes them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from axion.model.shape_axion import AxionShape


def rotary_angles(config: AxionShape) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines `[S, P/2]` for every position of the context, in fp32.

    Each operation is rounded to fp32 where PyTorch rounds: the angle of a late position depends on it.
    """
    rope, size = config.rope_parameters, config.head_dim
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    if rope["rope_type"] == "yarn":
        frequencies, factor = _yarn(config, exponents)
    else:
        frequencies, factor = _power(rope["rope_theta"], -exponents), 1.0
    angles = np.arange(config.max_position_embeddings, dtype=np.float32)[:, None] * frequencies
    cos, sin = (function(angles.astype(np.float64)).astype(np.float32) for function in (np.cos, np.sin))
    return cos * np.float32(factor), sin * np.float32(factor)


def _power(base: float, exponents: np.ndarray) -> np.ndarray:
    return (base ** exponents.astype(np.float64)).astype(np.float32)


def _yarn(config: AxionShape, exponents: np.ndarray) -> tuple[np.ndarray, float]:
    """YaRN's frequencies and its factor on cosines and sines (arXiv 2309.00071), as in transformers.

    Dimensions that turn often within the original context keep their frequency, those that turn rarely are slowed down
    by `factor`, and a ramp leads from the first to the last.
    """
    rope, size = config.rope_parameters, config.head_dim
    base, factor = rope["rope_theta"], rope["factor"]
    scale, scale_all = rope.get("mscale") or 0, rope.get("mscale_all_dim") or 0
    original = rope.get("original_max_position_embeddings", config.max_position_embeddings)

    def dimension(turns: float) -> float:
        """The dimension that turns so often within the original context."""
        return size * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = dimension(rope.get("beta_fast") or 32), dimension(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    ramp = (np.arange(size // 2, dtype=np.float32) - np.float32(low)) / np.float32(high - low or 0.001)
    kept = 1 - np.clip(ramp, 0, 1)
    periods = _power(base, exponents)
    frequencies = 1 / (np.float32(factor) * periods) * (1 - kept) + 1 / periods * kept

    def magnitude(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

    attention = rope.get("attention_factor")
    if attention is None:
        attention = magnitude(scale) / magnitude(scale_all) if scale and scale_all else magnitude(1)
    return frequencies, attention
