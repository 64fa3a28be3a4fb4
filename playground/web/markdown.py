"""HTML from the documentation's Markdown, with its formulas as MathML, which browsers show without a script."""

import re
from functools import cache

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

_FORMULA = re.compile(r"\$\$(?P<block>[^$]+)\$\$|\$(?P<inline>[^$\s](?:[^$\n]*[^$\s])?)\$")


def to_html(markdown: str) -> str:
    """The HTML of a Markdown text; HTML in it is shown as text. `$…$` and `$$…$$` are formulas in LaTeX."""
    return _parser().render(markdown)


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.inline.ruler.before("escape", "formula", _read_formula)
    parser.add_render_rule("formula", _write_formula)
    return parser


def _read_formula(state: StateInline, silent: bool) -> bool:
    """A rule of the parser: whether there is a formula at the state's position, which is then read."""
    found = _FORMULA.match(state.src, state.pos)
    if not found:
        return False
    if not silent:
        token = state.push("formula", "math", 0)
        token.content = found["block"] or found["inline"]
        token.block = found["block"] is not None
    state.pos = found.end()
    return True


def _write_formula(_: RendererHTML, tokens: list[Token], index: int, *__: object) -> str:
    token = tokens[index]
    return convert(token.content, display="block" if token.block else "inline")
