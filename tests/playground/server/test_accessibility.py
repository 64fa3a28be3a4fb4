"""The page for those who use it by keyboard, by ear, enlarged, on a telephone, or with less motion."""

import io

import numpy as np
import pytest

from playground.locales.page import TEXT
from playground.server.page import TABS
from tests.playground.conftest import choose_language, choose_theme, open_tab

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
    """Press Tab from the beginning of the page on; the names of STOPS in the order in which they are reached."""
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


def test_the_tab_key_reaches_everything_in_the_order_of_reading(page):
    reached = walk(page)
    assert sorted(reached) == sorted(STOPS)
    assert reached[:5] == ["model", "language", "theme", "tabs", "prompt"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_has_the_focus_is_seen(page, scheme):
    """A picture of each stop, and around it, is another one once the focus has gone elsewhere."""
    from PIL import Image

    choose_theme(page, scheme)

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
        # Some radio buttons are hidden, and what is seen is their label.
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
        assert changed.sum() >= 60, name
        # focus() after a key was pressed shows the focus as the key did
        page.evaluate("focused.focus()")
        unseen.remove(name)
        if not unseen:
            break
    assert not unseen


def test_every_control_has_a_name(page):
    session = page.context.new_cdp_session(page)
    nameless, checked = [], 0
    for tab in tab_names():
        open_tab(page, tab)
        for node in session.send("Accessibility.getFullAXTree")["nodes"]:
            if node["ignored"] or node["role"]["value"] not in ROLES:
                continue
            checked += 1
            if not node.get("name", {}).get("value", "").strip():
                html = session.send("DOM.getOuterHTML", {"backendNodeId": node["backendDOMNodeId"]})["outerHTML"]
                nameless.append((tab, html[:160]))
    assert not nameless
    assert checked > 50


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_is_readable(page, scheme):
    choose_theme(page, scheme)
    pale, checked = [], 0
    for tab in tab_names():
        open_tab(page, tab)
        for found in page.evaluate(READ_CONTRAST):
            checked += 1
            if found["ratio"] < found["enough"] - 0.01:
                pale.append((tab, found["text"], round(found["ratio"], 2)))
    assert not pale
    assert checked > 100


def test_the_language_is_named_for_those_who_hear_the_page(page):
    assert page.evaluate("document.documentElement.lang") == "en"
    choose_language(page, "pt")
    page.wait_for_function("document.documentElement.lang === 'pt'")
    page.get_by_role("button", name="Gerar", exact=True).wait_for()
    choose_language(page, "en")
    page.wait_for_function("document.documentElement.lang === 'en'")


@pytest.mark.parametrize("language", ["en", "pt"])
def test_no_tab_is_wider_than_a_telephone(page, language):
    page.set_viewport_size({"width": 390, "height": 844})
    choose_language(page, language)
    page.wait_for_function("language => document.documentElement.lang === language", arg=language)
    for tab in tab_names(language):
        open_tab(page, tab)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 390, tab


WATCH_MOTION = """() => {
  window.motion = { frames: 0, most: 0 };
  const view = document.querySelector("#trace .axion-view");
  const moving = ({ effect, playState }) => playState === "running" && view.contains(effect.target);
  const look = () => {
    requestAnimationFrame(look);
    if (view.dataset.state !== "running") return;
    motion.frames++;
    motion.most = Math.max(motion.most, document.getAnimations().filter(moving).length);
  };
  look();
}"""


@pytest.mark.parametrize(("motion", "moves"), [("no-preference", True), ("reduce", False)])
def test_nothing_moves_for_those_who_asked_for_calm(page, motion, moves):
    page.emulate_media(reduced_motion=motion)
    page.get_by_label("Maximum new tokens").last.fill("512")
    page.locator("#model input").click()
    page.get_by_role("option", name="endless", exact=True).click()
    page.wait_for_selector("#trace .axion-view[data-state=empty]")  # it has no example
    page.evaluate(WATCH_MOTION)
    page.locator("#generate").click()
    page.wait_for_function("motion.frames > 5")
    page.locator("#stop").click()
    assert bool(page.evaluate("motion.most")) is moves


def test_start_and_end_are_announced_and_not_every_token(page):
    page.evaluate(
        """() => {
          window.announced = [];
          for (const live of document.querySelectorAll(".axion-view [aria-live=polite]"))
            new MutationObserver(() => live.textContent && announced.push(live.textContent))
              .observe(live, { childList: true, characterData: true, subtree: true });
        }"""
    )
    page.locator("#generate").click()
    page.wait_for_selector(".axion-view[data-state=done]")
    tokens = page.locator(".av-tok").count()
    announced = page.evaluate("announced")
    assert 2 <= len(announced) <= 3 < tokens  # the wait for a place may be told too
    assert str(tokens) in announced[-1]
    assert page.locator("[data-part=verdict]").text_content() in announced[-1]
