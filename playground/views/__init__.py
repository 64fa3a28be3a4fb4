"""The views' files as a host needs them: style sheets, templates, and scripts bundled with all that they import."""

import re
from pathlib import Path

VIEWS = Path(__file__).parent
STYLES = sorted((VIEWS / "css").glob("*.css"))
"""The views' style sheets."""

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./((?:[\w-]+/)*[\w-]+\.js)";\n', re.MULTILINE)
_COMMENT = re.compile(r"^ *(?://.*|/\*\*(?:[^*]|\*(?!/))*\*/)\n", re.MULTILINE)


def template(view: str) -> str:
    """The HTML of a view."""
    return (VIEWS / f"{view}.html").read_text(encoding="utf-8")


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
            add(module.parent / imported)
        texts[module] = re.sub(r"^export ", "", _IMPORT.sub("", _COMMENT.sub("", text)), flags=re.MULTILINE).strip()

    for module in modules:
        add(module)
    return "\n".join(texts.values()) + "\n"
