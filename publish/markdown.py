"""Model cards as Markdown: the sections that releases write, blocks of code, the Python among them, and text as it is.

The body of a card consists of sections, each between `<!-- axion:start NAME -->` and `<!-- axion:end NAME -->`. The
text inside belongs to the release; the text outside belongs to whoever edited the card on the Hub.
"""

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from huggingface_hub.repocard import REGEX_YAML_BLOCK

from axion.files import parse_yaml

_MARKER = re.compile(r"^<!-- axion:(start|end) ([a-z]+(?:-[a-z]+)*) -->[ \t]*(?=\r?$)", re.MULTILINE)
_MALFORMED_MARKER = re.compile(r"<!--\s{0,9}axion:")
_SECTION = re.compile(r"<!-- axion:start ([a-z-]+) -->.*?<!-- axion:end \1 -->", re.DOTALL)
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)[^`\n]*$")
PYTHON = {"python", "py", "python3"}
"""Languages of a block of code that is Python."""


class MarkerError(ValueError):
    """A section marker that is malformed, unpaired or repeated."""

    def __init__(self, line: int, what: str):
        super().__init__(f"{what} (line {line})")
        self.line = line
        self.what = what


@dataclass
class Body:
    """A card's body, cut at its markers: `lead`, then each section followed by its gap."""

    lead: str = ""
    """The text before the first section."""
    sections: dict[str, str] = field(default_factory=dict)
    """Name → the section, including its markers."""
    gaps: dict[str, str] = field(default_factory=dict)
    """Name → the text between this section and the next one, or the end."""


class Fence(NamedTuple):
    """A fenced block of code."""

    language: str
    """In lower case; empty where none is given."""
    line: int
    """Line of the opening fence, from 1."""
    code: str
    closed: bool


def split_front_matter(card: str) -> tuple[str, Any, str]:
    """The front matter as text with its dashes, its content and the body; "" and None if there is no front matter.

    Raises:
        ValueError: it is not YAML as `axion.files.parse_yaml` accepts it.
    """
    match = REGEX_YAML_BLOCK.match(card)
    return (match[0], parse_yaml(match[2]), card[match.end() :]) if match else ("", None, card)


def split_sections(text: str) -> Body:
    """Cut a text at its section markers.

    Raises:
        MarkerError: a marker is malformed, markers don't pair up, or a section occurs twice.
    """
    body, opened, end = Body(), None, 0
    markers = list(_MARKER.finditer(text))
    starts = {marker.start() for marker in markers}
    for match in _MALFORMED_MARKER.finditer(text):
        if match.start() not in starts:
            raise MarkerError(line_of(text, match.start()), "has a malformed section marker")
    for marker in markers:
        kind, name = marker.groups()
        if kind == "start" and opened is None and name not in body.sections:
            opened = marker
            _append_gap(body, text[end : marker.start()])
        elif kind == "end" and opened is not None and opened[2] == name:
            body.sections[name] = text[opened.start() : marker.end()]
            opened, end = None, marker.end()
        else:
            reason = f"section {name} occurs twice" if name in body.sections else "markers must come in pairs"
            raise MarkerError(line_of(text, marker.start()), f"has an unexpected {kind} of section {name}; {reason}")
    if opened is not None:
        raise MarkerError(line_of(text, opened.start()), f"has the start of section {opened[2]} but not its end")
    _append_gap(body, text[end:])
    return body


def _append_gap(body: Body, text: str) -> None:
    if body.sections:
        body.gaps[list(body.sections)[-1]] = text
    else:
        body.lead = text


def release_text(card: str) -> str:
    """The card without the text outside of its sections, which is blanked out: line numbers stay the same.

    A card without sections is returned as it is.
    """
    text, end = "", 0
    for section in _SECTION.finditer(card):
        text += "\n" * card.count("\n", end, section.start()) + section[0]
        end = section.end()
    return text or card


def fences(text: str) -> list[Fence]:
    """The blocks of code between ``` or ~~~, as CommonMark defines them."""
    found, opened, lines = [], None, text.split("\n")
    for number, line in enumerate(lines, start=1):
        match = _FENCE.match(line) if len(line) < 1000 else None
        if not match:
            continue
        if opened is None:
            opened = (match[1], match[2].lower(), number)
        elif match[1].startswith(opened[0]) and not match[2] and not line.strip(" \t" + match[1][0]):
            found.append(Fence(opened[1], opened[2], "\n".join(lines[opened[2] : number - 1]), closed=True))
            opened = None
    if opened:
        found.append(Fence(opened[1], opened[2], "\n".join(lines[opened[2] :]), closed=False))
    return found


def without_code(text: str, fence: Fence) -> str:
    """The text with the lines of a block of code blanked out."""
    lines = text.split("\n")
    for number in range(fence.line, fence.line + fence.code.count("\n") + 1):
        if number < len(lines):
            lines[number] = ""
    return "\n".join(lines)


def python_snippets(card: str) -> list[str]:
    """The Python blocks of a card's own sections, in order. Blocks that others added outside of them are left out."""
    own = release_text(card.replace("\r\n", "\n"))
    return [f"{fence.code}\n" for fence in fences(own) if fence.language in PYTHON and fence.closed]


def line_of(text: str, offset: int) -> int:
    """The line, from 1, of an offset in a text."""
    return text.count("\n", 0, offset) + 1


def code_block(text: str) -> str:
    """A fenced block of text, whose fence is longer than any in the text."""
    longest = max((len(found) for found in re.findall(r"`{3,}", text)), default=2)
    return f"{(fence := '`' * (longest + 1))}text\n{text}\n{fence}"


_MARKUP = re.compile(r"[\\`*|<>\[\]~$]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")
"""What Markdown would read as markup inside a line or a table."""


def plain_text(text: str) -> str:
    """A name as Markdown that shows exactly this text, on one line and inside a table too."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def code_span(text: str) -> str:
    """Code on one line of Markdown, inside a table too."""
    text = " ".join(text.split()).replace("|", "\\|")
    longest = max((len(found) for found in re.findall("`+", text)), default=0)
    fence, pad = "`" * (longest + 1), " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{fence}{pad}{text}{pad}{fence}"
