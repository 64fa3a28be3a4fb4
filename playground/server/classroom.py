"""One page for a class: what the teacher set on the first tab, as a link and as a QR code for the pupils' phones."""

import socket
from collections.abc import Mapping
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from axion.errors import AxionError
from playground.content.markup import render
from playground.generate.links import write_link
from playground.generate.refusal import tell
from playground.generate.request import read_request, read_typed
from playground.locales import Language, known_language, texts
from playground.server.context import QUIET, PageContext, error_html
from playground.server.controls import Controls
from playground.server.labels import Labels

EVERYWHERE = ("0.0.0.0", "::", "")
ELSEWHERE = ("10.255.255.255", 1)
"""Nothing is sent there; the system only says from which of its addresses it would be."""

CLOSE = """element.addEventListener("click", ({ target }) => {
  if (target.closest("[data-part=close]")) props.value = "";
});"""
WITH_TAB = "(...values) => [...values.slice(0, -1), location.hash.slice(1)]"


def reachable_address(host: str, port: int, public: str | None = None) -> str:
    """The page's address for other machines of the network.

    Args:
        public: the address of a public link, which is preferred.

    Raises:
        AxionError: no other machine can reach `host`, or this machine is in no network.
    """
    if public:
        return public.rstrip("/")
    own = _own_address() if host in EVERYWHERE else host
    if own in ("localhost", "::1") or own.startswith("127."):
        raise AxionError(
            f"a class cannot reach {own}: connect this machine to a network, or give its address there with --host"
        )
    return f"http://{f'[{own}]' if ':' in own else own}:{port}"


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def build_class_button(labels: Labels) -> gr.Button:
    """Add the button of the page's header that shows the code."""
    return labels.make(gr.Button, "page", {"value": "class"}, size="sm", scale=0, min_width=40, elem_id="class")


def build_class_panel() -> gr.HTML:
    """Add the place where the code appears."""
    return gr.HTML("", js_on_load=CLOSE, apply_default_css=False, elem_id="class-panel")


def connect(context: PageContext, controls: Controls, address: str, button: gr.Button, panel: gr.HTML) -> None:
    """The button shows the settings of the first tab, and the tab that is open.

    Args:
        address: the page's for others, see `reachable_address`.
    """
    tab = gr.Textbox(visible=False)
    typed = [controls.prompt, controls.raw]
    inputs: list[Component] = [context.language, context.model, *typed, *controls.settings.values(), tab]
    show = partial(_show, context, address, tuple(controls.settings))
    button.click(show, inputs, panel, js=WITH_TAB, **QUIET)


def _show(
    context: PageContext,
    address: str,
    names: tuple[str, ...],
    language: object,
    model: str,
    typed: str,
    raw: object,
    *values: Any,
) -> str:
    chosen = known_language(language)
    settings, tab = dict(zip(names, values[:-1], strict=True)), values[-1]
    try:
        prompt, question = read_typed(context.catalogue.open(model), typed, raw, chosen)
        asked = {"model": model, "prompt": prompt, "question": question, "sampling": settings}
        link = class_link(context, address, asked, chosen, tab)
    except AxionError as error:
        return error_html(tell(error, chosen), chosen)
    return class_html(link, chosen)


def class_link(context: PageContext, address: str, asked: Mapping, language: Language, tab: object) -> str:
    """The link that opens the page with this request on this tab. Raises AxionError when the request is wrong."""
    request = read_request(context.catalogue, asked)
    query = write_link(request, context.catalogue.open(request.model).fingerprint, language)
    hash_ = f"#{tab}" if isinstance(tab, str) and tab.isalpha() else ""
    return f"{address}/?{query}{hash_}"


def class_html(link: str, language: Language) -> str:
    """The link and its QR code; the link alone where it is too long for a code."""
    import segno

    try:
        code = segno.make(link, error="l", micro=False).svg_inline(omitsize=True, border=4, dark="#000", light="#fff")
    except segno.DataOverflowError:
        code = ""
    return render("class.html", language, link=link, code=code, text=texts("page", language))
