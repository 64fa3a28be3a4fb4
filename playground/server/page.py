"""The page: its head, its tabs, and what happens when another model or another language is chosen."""

import json

import gradio as gr

from axion.errors import AxionError
from playground.api.mcp import build_tools
from playground.generate.catalogue import Catalogue, OpenModel
from playground.generate.rate_limits import Visitors
from playground.locales import DEFAULT, LANGUAGES, Labels, Language, choose_language
from playground.locales.page import TEXT
from playground.server.context import House, Panel
from playground.server.markup import TEMPLATES, render
from playground.server.tabs import api, chat, compare, experts, model, playground

TABS = {
    "playground": playground,
    "chat": chat,
    "experts": experts,
    "compare": compare,
    "model": model,
    "api": api,
}
"""In the order of the page; each has a `build`, which adds its components and returns what follows the model."""

TITLES = json.dumps({language: table["title"] for language, table in TEXT.items()})

# What speech and hyphenation go by.
NAME_LANGUAGE = f"(language) => {{ document.documentElement.lang = language; document.title = {TITLES}[language]; }}"

# Gradio goes by the system's own choice; ours, once made, is kept in the browser.
SWITCH_THEME = """() => {
  const dark = document.body.classList.toggle("dark");
  try { localStorage.setItem("axion-theme", dark ? "dark" : "light"); } catch { /* a browser that keeps nothing */ }
}"""
KEPT_THEME = """() => {
  try {
    const kept = localStorage.getItem("axion-theme");
    if (kept) document.body.classList.toggle("dark", kept === "dark");
  } catch { /* a browser that keeps nothing */ }
}"""

FAVICON = TEMPLATES / "favicon.svg"


def build_theme() -> gr.Theme:
    """Quiet greys, so that colour always means an expert; fonts that Gradio serves itself."""
    # Gradio's files of weight 600 hold too few letters for Portuguese; its bold ones are whole.
    sans, mono = (gr.themes.LocalFont(f"IBM Plex {style}", weights=(400, 700)) for style in ("Sans", "Mono"))
    return gr.themes.Default(
        primary_hue="slate",
        secondary_hue="slate",
        neutral_hue="slate",
        radius_size="lg",
        font=(sans, "ui-sans-serif", "system-ui", "sans-serif"),
        font_mono=(mono, "ui-monospace", "Consolas", "monospace"),
    ).set(
        body_background_fill="#f7f8fa",
        body_background_fill_dark="#0e1116",
        block_background_fill="white",
        block_background_fill_dark="#161b22",
        block_border_color="#e4e7ec",
        block_border_color_dark="#2a313c",
        input_background_fill="#f7f8fa",
        input_background_fill_dark="#0e1116",
        input_border_color="#e4e7ec",
        input_border_color_dark="#2a313c",
        button_primary_background_fill="#16202e",
        button_primary_background_fill_hover="#2c3a4e",
        button_primary_background_fill_dark="#e8edf4",
        button_primary_background_fill_hover_dark="white",
        button_primary_text_color_dark="#0e1116",
        slider_color="#16202e",
        slider_color_dark="#aab6c5",
        block_title_text_color="#16202e",
        block_title_text_color_dark="#e8edf4",
        block_info_text_color="#5b6776",
        block_info_text_color_dark="#9aa7b6",
        body_text_color_subdued="#5b6776",
        body_text_color_subdued_dark="#9aa7b6",
        block_title_text_weight="600",
        block_info_text_size="*text_xs",
    )


def build_page(catalogue: Catalogue, visitors: Visitors) -> gr.Blocks:
    """Build the whole page. It opens on the first model that works, and on its recorded example."""
    labels, name = Labels(), catalogue.default()
    with gr.Blocks(
        title=TEXT[DEFAULT]["title"], analytics_enabled=False, fill_width=False, delete_cache=(3600, 3600)
    ) as page:
        with gr.Row(elem_classes="ax-header"):
            facts = Panel(gr.HTML(apply_default_css=False, elem_id="facts"), _facts, broken=lambda _: _no_facts())
            choice = labels.make(
                gr.Dropdown,
                TEXT,
                {"label": "model"},
                choices=catalogue.names,
                value=name,
                container=False,
                scale=0,
                min_width=230,
                filterable=False,
                elem_id="model",
            )
            language = labels.make(
                gr.Radio,
                TEXT,
                {"label": "language"},
                choices=[(code.upper(), code) for code in LANGUAGES],
                value=DEFAULT,
                container=False,
                scale=0,
                min_width=90,
                elem_id="language",
            )
            theme = labels.make(gr.Button, TEXT, {"value": "theme"}, size="sm", scale=0, min_width=40, elem_id="theme")
            theme.click(None, js=SWITCH_THEME, api_visibility="private")
        house = House(catalogue, choice, language, labels, visitors, _open(catalogue, name))
        panels = [facts]
        with gr.Tabs(elem_classes="ax-tabs"):
            for tab, module in TABS.items():
                with labels.make(gr.Tab, TEXT, {"label": f"tab_{tab}"}, id=tab):
                    panels += module.build(house)
        _fill(panels, house)
        _connect(page, panels, house)
        build_tools(house, page)
    return page


def _fill(panels: list[Panel], house: House) -> None:
    """Give the panels their first content, so that the page needs no second look at the server to show it."""
    for panel in panels:
        shown = panel.show(house.catalogue, house.model.value, DEFAULT)
        for name, value in (shown if isinstance(shown, dict) else {"value": shown}).items():
            if name != "__type__":
                setattr(panel.component, name, value)


def _connect(page: gr.Blocks, panels: list[Panel], house: House) -> None:
    """Another model fills every panel anew; another language those that follow it, and changes every label."""
    followers = [panel for panel in panels if panel.follows_language]

    def show_model(name: str, language: Language) -> list:
        return [panel.show(house.catalogue, name, language) for panel in panels]

    def show_language(name: str, language: Language) -> list:
        return [*house.labels.updates(language), *(panel.show(house.catalogue, name, language) for panel in followers)]

    quiet = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    chosen = [house.model, house.language]
    house.model.change(show_model, chosen, [panel.component for panel in panels], **quiet)
    house.language.change(
        show_language, chosen, [*house.labels.components, *(panel.component for panel in followers)], **quiet
    ).then(None, house.language, js=NAME_LANGUAGE, api_visibility="private")
    page.load(_greet, None, house.language, **quiet)
    page.load(None, js=KEPT_THEME, api_visibility="private")


def _greet(request: gr.Request) -> Language | dict:
    """The language of a visitor who has just come, where it is not the one that the page begins with."""
    language = choose_language(request.query_params.get("lang"), request.headers.get("accept-language"))
    return gr.skip() if language == DEFAULT else language  # who was faster has chosen another already


def _open(catalogue: Catalogue, name: str) -> OpenModel | None:
    try:
        return catalogue.open(name)
    except AxionError:
        return None


def _facts(model: OpenModel, language: Language) -> str:
    return render("facts.html", error=False, facts=model.facts, text=TEXT[language])


def _no_facts() -> str:
    return render("facts.html", error=True, text=TEXT[DEFAULT])
