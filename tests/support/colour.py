"""Perceived colours: CIEDE2000 differences, and a simulation of colour blindness.

Sources: G. Sharma, W. Wu, E. N. Dalal, "The CIEDE2000 color-difference formula", 2005; G. M. Machado, M. M. Oliveira,
L. A. F. Fernandes, "A physiologically-based model for simulation of color vision deficiency", 2009. A colour is sRGB,
three numbers from 0 to 1.
"""

from __future__ import annotations

import math

import numpy as np

Colour = np.ndarray

# Severity 1.0, for linear RGB; each row sums to 1, so that greys stay greys.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}

# sRGB's primaries to CIE XYZ, and its white, D65.
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
WHITE = TO_XYZ.sum(axis=1)


def from_hex(text: str) -> Colour:
    """`#rrggbb` as a colour."""
    return np.array([int(text[place : place + 2], 16) for place in (1, 3, 5)]) / 255


def blend(colour: Colour, background: Colour, opacity: float) -> Colour:
    """Mix two colours as a browser does, on the sRGB values themselves."""
    return opacity * colour + (1 - opacity) * background


def seen_by(vision: str, colour: Colour) -> Colour:
    """The colour as it appears with this vision, a key of VISION."""
    return _encode(np.clip(VISION[vision] @ _decode(colour), 0, 1))


def contrast(first: Colour, second: Colour) -> float:
    """WCAG 2's contrast ratio, from 1 to 21."""
    light, dark = sorted((float(TO_XYZ[1] @ _decode(colour)) for colour in (first, second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def difference(first: Colour, second: Colour) -> float:
    """CIEDE2000 between two colours."""
    return ciede2000(to_lab(first), to_lab(second))


def to_lab(colour: Colour) -> tuple[float, float, float]:
    """CIE L*a*b* of a colour."""
    ratio = TO_XYZ @ _decode(colour) / WHITE
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def _decode(colour: Colour) -> Colour:
    """sRGB to linear light."""
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def _encode(light: Colour) -> Colour:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def ciede2000(first: tuple[float, float, float], second: tuple[float, float, float]) -> float:
    """CIEDE2000 between two L*a*b* colours, with all weights 1; the names are those of the paper."""
    (L1, a1, b1), (L2, a2, b2) = first, second
    mean_C7 = ((math.hypot(a1, b1) + math.hypot(a2, b2)) / 2) ** 7
    G = (1 - math.sqrt(mean_C7 / (mean_C7 + 25**7))) / 2
    a1, a2 = (1 + G) * a1, (1 + G) * a2
    C1, C2 = math.hypot(a1, b1), math.hypot(a2, b2)
    h1, h2 = (math.degrees(math.atan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))

    apart = 0.0 if C1 * C2 == 0 else h2 - h1
    if abs(apart) > 180:
        apart -= math.copysign(360, apart)
    dL, dC, dH = L2 - L1, C2 - C1, 2 * math.sqrt(C1 * C2) * math.sin(math.radians(apart / 2))
    L, C = (L1 + L2) / 2, (C1 + C2) / 2
    h = h1 + h2 if C1 * C2 == 0 else (h1 + apart / 2) % 360

    T = (
        1
        - 0.17 * math.cos(math.radians(h - 30))
        + 0.24 * math.cos(math.radians(2 * h))
        + 0.32 * math.cos(math.radians(3 * h + 6))
        - 0.20 * math.cos(math.radians(4 * h - 63))
    )
    S_L = 1 + 0.015 * (L - 50) ** 2 / math.sqrt(20 + (L - 50) ** 2)
    S_C, S_H = 1 + 0.045 * C, 1 + 0.015 * C * T
    rotation = -math.sin(math.radians(60 * math.exp(-(((h - 275) / 25) ** 2)))) * 2 * math.sqrt(C**7 / (C**7 + 25**7))
    dL, dC, dH = dL / S_L, dC / S_C, dH / S_H
    return math.sqrt(dL**2 + dC**2 + dH**2 + rotation * dC * dH)
