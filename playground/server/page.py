"""The page: its header, its tabs, and what changes with the model and the language."""

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.themes import Default, LocalFont

from axion.errors import AxionError
from playground.api.mcp import build_tools
from playground.content.markup import TEMPLATES, render
from playground.generate.catalogue import Catalogue, OpenModel
from playground.generate.rate_limits import RateLimiter
from playground.locales import DEFAULT, LANGUAGES, Language, by_language, choose_language, texts
from playground.server.admission import admit_call
from playground.server.classroom import build_class_button, build_class_panel, connect
from playground.server.context import QUEUE, QUIET, PageContext, Panel
from playground.server.controls import Controls
from playground.server.front_page import COOKIE, PREVIEW, Properties
from playground.server.labels import Labels
from playground.server.markup import SERVER, bundle
from playground.server.tabs import api, chat, compare, experts, model, playground

TABS = ("playground", "chat", "experts", "compare", "model", "api")

TITLES = json.dumps({language: table["title"] for language, table in by_language("page").items()})

# For screen readers and hyphenation.
NAME_LANGUAGE = f"(language) => {{ document.documentElement.lang = language; document.title = {TITLES}[language]; }}"

# Gradio follows the system's theme; a visitor's choice is stored in the browser.
SWITCH_THEME = """() => {
  const dark = document.body.classList.toggle("dark");
  try { localStorage.setItem("axion-theme", dark ? "dark" : "light"); } catch { /* storage is blocked */ }
}"""
KEPT_THEME = """() => {
  try {
    const kept = localStorage.getItem("axion-theme");
    if (kept) document.body.classList.toggle("dark", kept === "dark");
  } catch { /* storage is blocked */ }
}"""

# The cookie lets the server send the next page in this language; storage serves where a frame has no cookies.
KEEP_LANGUAGE = f"""(language) => {{
  document.cookie = `{COOKIE}=${{language}}; path=${{location.pathname}}; max-age=31536000; samesite=lax`;
  try {{ localStorage.setItem("{COOKIE}", language); }} catch {{ /* storage is blocked */ }}
  return [];
}}"""
KEPT_LANGUAGE = f"""(_, shown) => {{
  try {{ return [localStorage.getItem("{COOKIE}"), shown]; }} catch {{ return [null, shown]; /* storage is blocked */ }}
}}"""

FAVICON = TEMPLATES / "favicon.svg"
PICTURE = Path(__file__).with_name(PREVIEW)
"""What a preview of a link to the page shows; `python -m tools.pictures` takes it."""


def build_theme() -> Default:
    """Greys, so that colour always means an expert, and fonts that Gradio serves itself."""
    # Gradio's font files of weight 600 lack letters of Portuguese; the bold ones are complete.
    sans, mono = (LocalFont(f"IBM Plex {style}", weights=(400, 700)) for style in ("Sans", "Mono"))
    theme = Default(
        primary_hue="slate",
        secondary_hue="slate",
        neutral_hue="slate",
        radius_size="lg",
        font=(sans, "ui-sans-serif", "system-ui", "sans-serif"),
        font_mono=(mono, "ui-monospace", "Consolas", "monospace"),
    )
    theme.set(
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
    return theme


class Page(NamedTuple):
    """The page, and what `FrontPage` has to change in it for a language."""

    blocks: gr.Blocks
    translate: Callable[[Language], Properties]


def build_page(catalogue: Catalogue, limiter: RateLimiter, class_address: str | None = None) -> Page:
    """Build the whole page. It opens with the first model that works, and with its recorded example.

    Args:
        class_address: the page's address for a class, which adds a button with a QR code.
    """
    labels, name = Labels(), catalogue.default()
    with gr.Blocks(
        title=texts("page", DEFAULT)["title"], analytics_enabled=False, fill_width=False, delete_cache=(3600, 3600)
    ) as page:
        with gr.Row(elem_classes="ax-header"):
            facts = Panel(gr.HTML(apply_default_css=False, elem_id="facts"), _facts, broken=_no_facts)
            choice = labels.make(
                gr.Dropdown,
                "page",
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
                "page",
                {"label": "language"},
                choices=[(code.upper(), code) for code in LANGUAGES],
                value=DEFAULT,
                container=False,
                scale=0,
                min_width=90,
                elem_id="language",
            )
            theme = labels.make(
                gr.Button, "page", {"value": "theme"}, size="sm", scale=0, min_width=40, elem_id="theme"
            )
            theme.click(None, js=SWITCH_THEME, api_visibility="private")
            class_button = build_class_button(labels) if class_address else None
        class_panel = build_class_panel() if class_address else None
        context = PageContext(catalogue, choice, language, labels, limiter, _open(catalogue, name))
        followers, controls = _build_tabs(context)
        panels = [facts, *followers]
        if class_address and class_button and class_panel:
            connect(context, controls, class_address, class_button, class_panel)
        _fill(panels, context)
        _connect(page, panels, context)

        def admit(prompt: object, visitor: gr.Request, *others: object) -> list[dict]:
            return admit_call(limiter, visitor, 1 + len(others))

        build_tools(page, catalogue, admit, **QUEUE)
    return Page(page, cache(partial(_translate, panels, context)))


def _translate(panels: list[Panel], context: PageContext, language: Language) -> Properties:
    """The properties of the page's components in this language, by component."""
    properties = {component._id: dict(changes) for component, changes in context.labels.properties(language)}
    properties[context.language._id] = properties.get(context.language._id, {}) | {"value": language}
    for component, changes in context.labels.opening(language):
        properties[component._id] = properties.get(component._id, {}) | changes
    for panel in panels:
        if panel.follows_language:
            shown = panel.show(context.catalogue, context.model.value, language)
            properties[panel.component._id] = properties.get(panel.component._id, {}) | _as_properties(shown)
    return properties


def _build_tabs(context: PageContext) -> tuple[list[Panel], Controls]:
    """Add the tabs; returns the panels in them, which follow the model, and the controls of the first one."""
    with gr.Tabs(elem_classes="ax-tabs"):
        tabs = {name: context.labels.make(gr.Tab, "page", {"label": f"tab_{name}"}, id=name) for name in TABS}
        with tabs["playground"]:
            controls = playground.build(context)
        panels = [*controls.panels]
        for name, module in (("chat", chat), ("experts", experts), ("compare", compare), ("model", model)):
            with tabs[name]:
                panels += module.build(context)
        with tabs["api"]:
            panels += api.build(context, tabs["api"], controls)
    return panels, controls


def _fill(panels: list[Panel], context: PageContext) -> None:
    """Give the panels their first content, so that the page shows it without another request."""
    for panel in panels:
        shown = panel.show(context.catalogue, context.model.value, DEFAULT)
        for name, value in _as_properties(shown).items():
            setattr(panel.component, name, value)


def _as_properties(shown: object) -> dict[str, Any]:
    """What a panel shows, as properties of its component."""
    changes = shown if isinstance(shown, dict) else {"value": shown}
    return {name: value for name, value in changes.items() if name != "__type__"}


def _connect(page: gr.Blocks, panels: list[Panel], context: PageContext) -> None:
    """Another model updates every panel; another language every label, and the panels that depend on it."""
    followers = [panel for panel in panels if panel.follows_language]

    def show_model(name: str, language: Language) -> list:
        return [panel.show(context.catalogue, name, language) for panel in panels]

    def show_language(name: str, language: Language) -> list:
        shown = [panel.show(context.catalogue, name, language) for panel in followers]
        return [*context.labels.updates(language), *shown]

    chosen: list[Any] = [context.model, context.language]
    outputs: list[Any] = [panel.component for panel in panels]
    context.model.change(show_model, chosen, outputs, **QUIET)
    outputs = [*context.labels.components, *(panel.component for panel in followers)]
    context.language.change(show_language, chosen, outputs, **QUIET).then(
        None, context.language, js=NAME_LANGUAGE, api_visibility="private"
    )
    context.language.input(None, context.language, js=KEEP_LANGUAGE, api_visibility="private")
    page.load(_greet, [context.language, context.language], context.language, js=KEPT_LANGUAGE, **QUIET)
    page.load(None, context.language, js=NAME_LANGUAGE, api_visibility="private")  # Gradio names the browser's
    page.load(None, js=KEPT_THEME, api_visibility="private")
    page.load(None, js=_addresses(), api_visibility="private")


def _addresses() -> str:
    """What gives each tab an address, from the names of the tabs in every language."""
    labels = by_language("page").values()
    names = {name: [table[f"tab_{name}"] for table in labels] for name in TABS}
    return f"() => {{ {bundle(SERVER / 'addresses.js')} start({json.dumps(names)}); }}"


def _greet(kept: Language | None, shown: Language, request: gr.Request) -> Language | dict:
    """The language of a link, of the last choice, or of the browser, if the page does not open in it anyway."""
    language = choose_language(request.query_params.get("lang") or kept, request.headers.get("accept-language"))
    return gr.skip() if language == shown else language  # an update could undo the choice of a quick visitor


def _open(catalogue: Catalogue, name: str) -> OpenModel | None:
    try:
        return catalogue.open(name)
    except AxionError:
        return None


def _facts(model: OpenModel, language: Language) -> str:
    return render("facts.html", language, error=False, facts=model.facts, text=texts("page", language))


def _no_facts(_: str, language: Language) -> str:
    return render("facts.html", language, error=True, text=texts("page", language))
