"""The scripts and styles of the page: the views, each bundled with all that it imports and with Gradio's host."""

import re
from pathlib import Path

SERVER = Path(__file__).parent
VIEWS = SERVER.parent / "views"
STYLES = [path for folder in (SERVER, VIEWS) for path in sorted((folder / "css").glob("*.css"))]
"""The page's style sheets: Gradio's surroundings first, then the views."""

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_COMMENT = re.compile(r"^ *(?://.*|/\*\*(?:[^*]|\*(?!/))*\*/)\n", re.MULTILINE)


def bundle(*modules: Path) -> str:
    """These ES modules and all that they import, as one script: each once, after what it imports, without comments.

    An import names what it takes, `import { make } from "./toolkit.js";`, and the modules' top-level names differ.
    """
    texts: dict[Path, str] = {}

    def add(module: Path) -> None:
        if module in texts:
            return
        text = module.read_text(encoding="utf-8")
        for imported in _IMPORT.findall(text):
            add(module.with_name(imported))
        texts[module] = re.sub(r"^export ", "", _IMPORT.sub("", _COMMENT.sub("", text)), flags=re.MULTILINE).strip()

    for module in modules:
        add(module)
    return "\n".join(texts.values()) + "\n"


def script(view: str, folder: Path = VIEWS) -> str:
    """The `js_on_load` of a `gr.HTML` that shows a view: the module `view`.js, started on the Gradio host."""
    modules = bundle(SERVER / "gradio_host.js", folder / f"{view}.js")
    return f'"use strict";\n{modules}start(gradioHost(element, props, watch, trigger));\n'


def tell_host(elem_id: str, signal: str) -> str:
    """The `js=` of a Gradio event that tells the host of the view `elem_id` what it cannot see by itself.

    Args:
        signal: "stop" when the generation was cancelled, "end" when it is over, "model" when another model was chosen;
            its name is then the event's one input.
    """
    detail = f"{{ signal: '{signal}', model }}"
    event = f"new CustomEvent('axion-host', {{ detail: {detail} }})"
    return f"(model) => {{ document.querySelector('#{elem_id} .html-container')?.dispatchEvent({event}); return []; }}"
