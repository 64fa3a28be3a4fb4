"""A single view of playground/views in a page without server or Gradio; the test controls its host."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from playground.content.properties import View as ViewName
from playground.content.properties import view_properties
from playground.generate.events import to_line
from playground.locales import Language
from playground.views import STYLES, VIEWS, bundle
from playground.views import template as view_template
from tests.support.browsers import set_pace

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ADDRESS = "http://localhost/view"
"""The page's address. Nothing listens there; browsers let local addresses use the clipboard."""
HOST = Path(__file__).with_name("bare_host.js")
IDS = {"compare": "comparison", "charts": "about"}
"""The id of a view's root on the Gradio page, if it is not the view's name. Selectors then work on both pages."""

PAGE = """<!doctype html>
<html lang="{language}">
<head><meta charset="utf-8"><style>
body {{ margin: 0; }}
*, ::before, ::after {{ box-sizing: border-box; }}
{css}
</style></head>
<body class="{scheme}"><div id="{root}">{template}</div><script>"use strict";
{script}
const root = document.getElementById("{root}");
window.host = bareHost(root, {props});
start(host);
</script></body></html>"""


def write_page(
    view: ViewName, language: Language = "en", scheme: str = "light", value: str = "", template: str = "", **props
) -> str:
    """The HTML of a page that shows one view.

    Args:
        template: the HTML for a view that has no template.
        props: props other than texts, language and value.
    """
    values = {**view_properties(view, language), "value": value, **props}
    file = VIEWS / f"{view}.html"
    return PAGE.format(
        language=language,
        scheme=scheme,
        css="\n".join(path.read_text(encoding="utf-8") for path in STYLES),
        root=IDS.get(view, view),
        template=view_template(view) if file.exists() else template,
        script=bundle(HOST, VIEWS / f"{view}.js"),
        props=json.dumps(values).replace("<", "\\u003c"),
    )


class View:
    """A view in a browser page, and control of its host."""

    def __init__(self, page: "Page", name: ViewName, language: Language) -> None:
        self.page = page
        self.language = language
        self._name = name

    def change(self, busy: str | None = None, **props: object) -> None:
        """Change props and `busy`; returns when the view has drawn them."""
        self.page.evaluate(
            "([props, busy]) => { host.change(props, busy); "
            "return new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))); }",
            [props, busy],
        )

    def show(self, events: Iterable[Mapping]) -> None:
        """Show a whole generation, all of whose events arrive at once."""
        self.change("waiting")
        self.change("running", value=to_text(events))
        self.change("idle")

    def set_language(self, language: Language) -> None:
        """Switch the language."""
        self.language = language
        properties = view_properties(self._name, language)
        self.change(texts=properties.get("texts"), language=language)

    def answer_inspections(self, inspect: Callable[[dict], dict]) -> None:
        """Have the host answer what the model computes for a token; see playground/generate/inspection.py."""
        self.page.expose_function("inspectToken", inspect)
        self.page.evaluate("() => { host.inspect = (asked) => inspectToken(asked); }")

    def asked(self, event: str = "submit") -> list[dict]:
        """The data of every event of this name that the view has triggered."""
        return [data for name, data in self.page.evaluate("host.asked") if name == event]


def to_text(events: Iterable[Mapping]) -> str:
    """Events in the form of a view's value."""
    return "".join(map(to_line, events))


@contextmanager
def open_view(
    browser: "Browser",
    name: ViewName,
    language: Language = "en",
    context: Mapping[str, object] | None = None,
    pace: str = "own",
    **page: object,
) -> Iterator[View]:
    """Open a new page with this view, made by `write_page` with `page`. Fails on script errors.

    Args:
        context: options of the browser's context, such as `viewport`.
        pace: see `set_pace`.
    """
    html = write_page(name, language, **page)
    options = {"viewport": {"width": 1280, "height": 800}} | dict(context or {})
    with browser.new_context(**options) as opened:
        opened.grant_permissions(["clipboard-read", "clipboard-write"], origin="http://localhost")
        tab = opened.new_page()
        errors: list[str] = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.set_default_timeout(20_000)
        set_pace(tab, pace)
        tab.route("**/*", lambda route: route.fulfill(body=html, content_type="text/html"))
        tab.goto(ADDRESS)
        yield View(tab, name, language)
    assert not errors
