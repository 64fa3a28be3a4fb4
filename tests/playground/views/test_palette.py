"""The experts' colours are distinguishable with every kind of colour vision, measured on the style sheet itself."""

import io
import re
from itertools import combinations, product

import numpy as np
import pytest

from playground.content.experts import FEW_EXPERTS
from playground.server.markup import VIEWS
from tests.playground.conftest import example
from tests.support.bare_page import to_text
from tests.support.colour import VISION, ciede2000, contrast, difference, from_hex, seen_by

PALETTE = (VIEWS / "css" / "palette.css").read_text(encoding="utf-8")
EXPERTS = [f"e{number}" for number in range(1, 9)]
SCHEMES = {"light": PALETTE.index(":root {"), "dark": PALETTE.index(".dark {")}
APART = 10.0
"""CIEDE2000; from about 2.3 on, two colours side by side are seen to differ."""

# From the table of 34 pairs published with "The CIEDE2000 color-difference formula".
PUBLISHED = [
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, -1.1848, -84.8006), (50.0, 0.0, -82.7485), 1.0),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0009), 7.1792),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0011), 7.2195),
    ((50.0, -0.001, 2.49), (50.0, 0.0009, -2.49), 4.8045),
    ((50.0, -0.001, 2.49), (50.0, 0.0011, -2.49), 4.7461),
    ((50.0, 2.5, 0.0), (50.0, 0.0, -2.5), 4.3065),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((50.0, 2.5, 0.0), (61.0, -5.0, 29.0), 22.8977),
    ((50.0, 2.5, 0.0), (56.0, -27.0, -3.0), 31.9030),
    ((50.0, 2.5, 0.0), (58.0, 24.0, 15.0), 19.4535),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((63.0109, -31.0961, -5.8663), (62.8187, -29.7946, -4.0864), 1.2630),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((6.7747, -0.2908, -2.4247), (5.8714, -0.0985, -2.2286), 0.6377),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


def palette(scheme: str) -> dict[str, str]:
    """Name → `#rrggbb` of the style sheet's variables; the dark scheme overrides some of the light one."""
    blocks = [PALETTE[SCHEMES[name] :].partition("}")[0] for name in ("light", scheme)]
    found = {}
    for block in blocks:
        found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6}|white);", block))
    return {name: "#ffffff" if value == "white" else value for name, value in found.items()}


@pytest.mark.parametrize(("first", "second", "published"), PUBLISHED)
def test_the_formula_gives_the_published_differences(first, second, published):
    assert ciede2000(first, second) == pytest.approx(published, abs=1e-4)
    assert ciede2000(second, first) == pytest.approx(published, abs=1e-4)


@pytest.mark.parametrize("vision", VISION)
def test_the_simulation_keeps_greys(vision):
    for grey in ("#000000", "#777777", "#ffffff"):
        assert seen_by(vision, from_hex(grey)) == pytest.approx(from_hex(grey), abs=1e-3)


@pytest.mark.parametrize("vision", [vision for vision in VISION if vision != "normal"])
def test_two_kinds_of_cones_see_two_dimensional_colours(vision):
    sizes = np.linalg.svd(VISION[vision])[1]
    assert sizes[2] < sizes[0] / 8


@pytest.mark.parametrize(("scheme", "vision"), [*product(SCHEMES, VISION)])
def test_any_two_experts_have_distinguishable_colours(scheme, vision):
    colours = {name: seen_by(vision, from_hex(palette(scheme)[name])) for name in EXPERTS}
    too_close = {
        f"{one} {other}": round(gap, 1)
        for one, other in combinations(EXPERTS, 2)
        if (gap := difference(colours[one], colours[other])) < APART
    }
    assert not too_close


@pytest.mark.parametrize(("scheme", "vision"), [*product(SCHEMES, VISION)])
def test_every_expert_is_distinguishable_from_its_background(scheme, vision):
    colours = palette(scheme)
    for ground, name in product(("ax-card", "ax-track"), EXPERTS):
        gap = difference(*(seen_by(vision, from_hex(colours[colour])) for colour in (ground, name)))
        assert gap >= APART, f"{name} on {ground}"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("ground", ["ax-card", "ax-track"])
def test_text_is_readable(scheme, ground):
    colours = {name: from_hex(value) for name, value in palette(scheme).items()}
    assert contrast(colours["ax-ink"], colours[ground]) >= 7
    assert contrast(colours["ax-soft"], colours[ground]) >= 4.5
    assert contrast(colours["ax-error"], colours["ax-error-fill"]) >= 4.5


@pytest.mark.browser
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_low_gate_keeps_the_full_colour_of_its_expert(view, catalogue, scheme):
    """Low opacity would reduce the differences, so the foot of a ribbon's cell has the palette's colour unmixed."""
    from PIL import Image

    page = view("trace", scheme=scheme, value=to_text(example(catalogue))).page
    colours = palette(scheme)
    cells = page.locator(".av-col:nth-child(-n + 6) i")
    strengths = set()
    for cell in cells.all():
        expert, strength = cell.evaluate("({ style }) => ['--c', '--s'].map((name) => style.getPropertyValue(name))")
        own = from_hex(colours[re.fullmatch(r"var\(--(e\d)\)", expert)[1]])
        pixels = np.asarray(Image.open(io.BytesIO(cell.screenshot())).convert("RGB")) / 255
        middle = pixels.shape[1] // 2
        assert pixels[-2, middle] == pytest.approx(own, abs=0.01)
        mixed = float(strength) * own + (1 - float(strength)) * from_hex(colours["ax-card"])
        assert pixels[4, middle] == pytest.approx(mixed, abs=0.01)
        strengths.add(float(strength))
    assert min(strengths) < 0.8  # otherwise no gate was low


def test_the_style_sheets_use_only_our_own_variables():
    given = {"font", "font-mono"}  # defined by the host, see palette.css
    sheets = "".join(path.read_text(encoding="utf-8") for path in sorted((VIEWS / "css").glob("*.css")))
    scripts = "".join(path.read_text(encoding="utf-8") for path in sorted(VIEWS.glob("*.js")))
    defined = set(re.findall(r"(?:^|[;{])\s*--([\w-]+):", sheets))
    drawn = set(re.findall(r'setProperty\("--([\w-]+)"', scripts))
    assert set(re.findall(r"var\(--([\w-]+)", sheets)) <= defined | drawn | given


def test_the_limit_of_few_experts_is_the_number_of_colours():
    [colours] = re.findall(r"const PALETTE = (\d+);", (VIEWS / "routing.js").read_text(encoding="utf-8"))
    assert int(colours) == FEW_EXPERTS == len(EXPERTS)
