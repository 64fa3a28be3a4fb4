"""The views' files as a host needs them: style sheets, templates, and scripts bundled with all that they import."""

import re
from pathlib import Path

VIEWS = Path(__file__).parent
STYLES = sorted((VIEWS / "css").glob("*.css"))
"""The views' style sheets."""

_IMPORT = re.compile(r'^import (\{[^}]*\}) from "(\.{1,2}/[\w./-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*? ?|const |class )(\w+))", re.MULTILINE)
_EXPORTED = re.compile(r"^export \{([^}]*)\};\n", re.MULTILINE)
_INNER = re.compile(r"<!-- view: ([a-z]+) -->")
_COMMENT = re.compile(r"^ *(?://.*|/\*\*(?:[^*]|\*(?!/))*\*/)\n", re.MULTILINE)


def template(view: str) -> str:
    """The HTML of a view, with that of the views inside of it: `<!-- view: NAME -->` stands for one."""
    text = (VIEWS / f"{view}.html").read_text(encoding="utf-8")
    return _INNER.sub(lambda found: template(found[1]), text)


def bundle(*modules: Path) -> str:
    """These ES modules and all that they import, as one script: each once, after what it imports, without comments.

    Every module keeps its own scope. What `modules` themselves export is in the script's. Imports and exports name what
    they mean: `import { make, fill as write } from "./toolkit.js";`, `export function make`, `export { make };`.
    """
    texts: dict[Path, str] = {}
    exports: dict[Path, list[str]] = {}

    def add(module: Path) -> str:
        """The name of the module in the script."""
        if module not in texts:
            text = _COMMENT.sub("", module.read_text(encoding="utf-8"))
            text = _IMPORT.sub(lambda found: f"const {_renamed(found[1])} = {add(_beside(module, found[2]))};\n", text)
            listed = [name.strip() for names in _EXPORTED.findall(text) for name in names.split(",")]
            exports[module] = [*_EXPORT.findall(text), *filter(None, listed)]
            text = _EXPORT.sub("", _EXPORTED.sub("", text)).strip()
            if re.search(r"^(?:import|export)\b", text, re.MULTILINE):
                raise AssertionError(f"{module} imports or exports in another way than `bundle` knows")
            texts[module] = f"{text}\nreturn {{ {', '.join(exports[module])} }};"
        return f"{re.sub(r'[^A-Za-z0-9]', '_', module.stem)}_{list(texts).index(module)}"

    names = {module: add(module.resolve()) for module in modules}
    scopes = [f"const {add(module)} = (() => {{\n{text}\n}})();" for module, text in texts.items()]
    own = [f"const {{ {', '.join(exports[module.resolve()])} }} = {name};" for module, name in names.items()]
    return "\n".join([*scopes, *own]) + "\n"


def _beside(module: Path, imported: str) -> Path:
    return (module.parent / imported).resolve()


def _renamed(names: str) -> str:
    """The braces of an import as those of an object: `{ a as b }` becomes `{ a: b }`."""
    return re.sub(r"\s+as\s+", ": ", names)
