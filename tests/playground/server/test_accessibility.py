"""The page with a keyboard, a screen reader, zoom, a phone, or reduced motion."""

import io

import numpy as np
import pytest

from playground.locales import by_language
from playground.server.page import TABS
from tests.playground.conftest import choose_language, choose_theme, open_tab

TEXT = by_language("page")

pytestmark = pytest.mark.browser

STOPS = {
    "model": "#model input",
    "language": "#language input",
    "theme": "#theme",
    "tabs": ".ax-tabs [role=tab]",
    "prompt": "#prompt textarea",
    "generate": "#generate",
    "text": "[data-part=text]",
    "ribbon": "[data-part=columns]",
}
"""What the Tab key has to reach, on the first tab."""

MOST_TABS = 200

ROLES = {
    *("button", "checkbox", "combobox", "link", "listbox", "menuitem", "option", "radio", "searchbox", "slider"),
    *("spinbutton", "switch", "tab", "textbox"),
}
"""What people act on; each of these needs a name that can be spoken."""

READ_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const read = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((channel, index) => a * channel + (1 - a) * under[index]);
  const linear = (channel) => ((channel /= 255) <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const element = text.parentElement;
    if (!text.data.trim() || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    const { width, height } = range.getBoundingClientRect();
    if (width < 3 || height < 3 || element.closest("[disabled], .av-live, [aria-hidden=true]")) continue;
    const line = [];
    for (let at = element; at; at = at.parentElement) line.unshift(at);
    let ground = [255, 255, 255];
    let drawn = true;
    let opacity = 1;
    for (const at of line) {
      const style = getComputedStyle(at);
      if (style.backgroundImage.includes("url(")) drawn = false; // a picture, whose colours are not known
      const before = ground;
      ground = over(read(style.backgroundColor), ground);
      opacity *= Number(style.opacity);
      if (Number(style.opacity) < 1) ground = over([...ground, Number(style.opacity)], before);
    }
    if (!drawn) continue;
    const [r, g, b, a] = read(getComputedStyle(element).color);
    const [one, other] = [luminance(over([r, g, b, a * opacity], ground)), luminance(ground)];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const size = parseFloat(getComputedStyle(element).fontSize);
    const large = size >= 24 || (size >= 18.66 && getComputedStyle(element).fontWeight >= 700);
    found.push({ text: text.data.trim().slice(0, 40), ratio, enough: large ? 3 : 4.5 });
  }
  return found;
}"""
"""Every visible text, its contrast against what lies under it, and what WCAG 2 asks for at its size."""


def tab_names(language: str = "en") -> list[str]:
    return [TEXT[language][f"tab_{tab}"] for tab in TABS]


def walk(page, most: int = MOST_TABS) -> list[str]:
    """Press Tab from the start of the page; returns the names of STOPS in the order in which they are reached."""
    reached = []
    page.evaluate("document.activeElement.blur()")
    for _ in range(most):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "stops => Object.keys(stops).find((name) => document.activeElement.matches(stops[name]))", STOPS
        )
        if name and name not in reached:
            reached.append(name)
        if len(reached) == len(STOPS):
            break
    return reached


def test_the_tab_key_reaches_everything_in_reading_order(page):
    reached = walk(page)
    assert sorted(reached) == sorted(STOPS)
    assert reached[:5] == ["model", "language", "theme", "tabs", "prompt"]


def test_the_focus_is_visible(page):
    for scheme in ("light", "dark"):
        choose_theme(page, scheme)
        assert find_unseen(page) == set(), scheme


def find_unseen(page) -> set[str]:
    """The stops that look the same, surroundings included, without the focus."""
    from PIL import Image

    def picture(clip: dict) -> np.ndarray:
        shot = page.screenshot(clip=clip, animations="disabled")
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)

    unseen = set(STOPS)
    page.evaluate("document.activeElement.blur()")
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "stops => Object.keys(stops).find((name) => document.activeElement.matches(stops[name]))", STOPS
        )
        if name not in unseen:
            continue
        # Some radio buttons are hidden; only their label is visible.
        box = page.evaluate(
            """() => {
              const { x, y, width, height } = (document.activeElement.closest("label") ?? document.activeElement)
                .getBoundingClientRect();
              return { x: Math.max(0, x - 5), y: Math.max(0, y - 5), width: width + 10, height: height + 10 };
            }"""
        )
        box["height"] = min(box["height"], 300)
        focused = picture(box)
        page.evaluate("() => { window.focused = document.activeElement; focused.blur(); }")
        changed = np.abs(picture(box) - focused).max(axis=2) > 40
        # focus() after a key press matches :focus-visible, as the key press did
        page.evaluate("focused.focus()")
        if changed.sum() >= 60:
            unseen.remove(name)
        if not unseen:
            break
    return unseen


def test_every_control_has_a_name_and_every_text_is_readable(page):
    session = page.context.new_cdp_session(page)
    nameless, pale, controls, texts = [], [], 0, 0
    for tab in tab_names():
        open_tab(page, tab)
        for node in session.send("Accessibility.getFullAXTree")["nodes"]:
            if node["ignored"] or node["role"]["value"] not in ROLES:
                continue
            controls += 1
            if not node.get("name", {}).get("value", "").strip():
                html = session.send("DOM.getOuterHTML", {"backendNodeId": node["backendDOMNodeId"]})["outerHTML"]
                nameless.append((tab, html[:160]))
        for scheme in ("light", "dark"):
            choose_theme(page, scheme)
            for found in page.evaluate(READ_CONTRAST):
                texts += 1
                if found["ratio"] < found["enough"] - 0.01:
                    pale.append((tab, scheme, found["text"], round(found["ratio"], 2)))
    assert not nameless and not pale
    assert controls > 50 and texts > 200


def test_no_tab_is_wider_than_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    button, trace = (page.locator(name).bounding_box() for name in ("#generate", "#trace"))
    assert button["y"] + button["height"] < trace["y"] < 844, "Generate is on the first screen, and its effect too"
    for language in ("pt", "en"):
        choose_language(page, language)
        page.wait_for_function("language => document.documentElement.lang === language", arg=language)
        for tab in tab_names(language):
            open_tab(page, tab)
            for width in (320, 390):
                page.set_viewport_size({"width": width, "height": 844})
                page.wait_for_function("width => document.scrollingElement.scrollWidth <= width", arg=width)


def test_the_first_link_skips_the_head(page):
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == TEXT["en"]["skip"]
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#prompt') !== null")
