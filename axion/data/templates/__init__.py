"""Sentences with slots that people wrote, one file a kind and language, and which of them training never sees.

A file such as `stories_en.txt` has one template a line. Lines that begin with `#` are comments, and `[gain]` begins the
group `gain`. The text of a template is its line, or what follows the last ` | ` of it; the fields before say what the
text needs, in a form that each kind explains at the top of its files.

A third of the templates is held out: only tests use them, as they do the held-out operand pairs of
`axion.data.holdout`. A hash decides of what a question shares with its near relatives, so that "What is {e}?" and
"What's {a} + {b}?" are on the same side in whatever files they stand, and a template stays on its side when others come
or go. Never held out is what the sources `arithmetic` and `word_problems` train: `trained_en.txt`, `trained_pt.txt`.
"""

import hashlib
import operator
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

from axion.data.templates.relatives import kinship
from axion.errors import AxionError

LANGUAGES = ("pt", "en")

_SEPARATOR = re.compile(r" \|(?: |$)")
_GROUP = re.compile(r"\[(\S.*)\]")
_CONDITION = re.compile(r"([ab]) ([<>]) (b|\d+)")
_COMPARE = {"<": operator.lt, ">": operator.gt}


@dataclass(frozen=True)
class Template:
    """One line of a file."""

    text: str
    fields: tuple[str, ...] = ()
    """What stands before the text."""
    group: str = ""
    """The last `[group]` above the line."""
    where: str = ""
    """For messages: `stories_en.txt, line 12`."""

    @cached_property
    def is_held_out(self) -> bool:
        """Whether only tests may use this template."""
        kin = kinship(self.text)
        return kin not in _always_trained() and hashlib.sha256(kin.encode()).digest()[0] % 3 == 0

    def suits(self, numbers: Mapping[str, int]) -> bool:
        """Whether the conditions before the text, such as "a > b, a < 1000", hold for the numbers `a` and `b`.

        Raises:
            AxionError: one of them is no condition.
        """
        for condition in ", ".join(self.fields).split(", ") if self.fields else ():
            if not (match := _CONDITION.fullmatch(condition)):
                raise AxionError(
                    f"{self.where}: {condition!r} is no condition; write one such as 'a > b' or 'a < 1000'"
                )
            left, sign, right = match.groups()
            if not _COMPARE[sign](numbers[left], numbers["b"] if right == "b" else int(right)):
                return False
        return True


@cache
def read_templates(name: str, language: str) -> tuple[Template, ...]:
    """The templates of a kind in a language, in the order of their file.

    Args:
        name: the kind, such as `stories`.
        language: `pt` or `en`.

    Raises:
        AxionError: there is no such file, or its templates are not `parse_templates`'.
    """
    file = f"{name}_{language}.txt"
    try:
        content = files(__name__).joinpath(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise AxionError(f"there are no templates {file}; the languages are {', '.join(LANGUAGES)}") from None
    return parse_templates(content, file)


def parse_templates(content: str, file: str) -> tuple[Template, ...]:
    """The templates in the content of a file.

    Args:
        content: the lines.
        file: its name, for messages.

    Raises:
        AxionError: a text is empty, occurs twice, is not in Unicode's composed form, or has two blanks in a row.
    """
    templates: dict[str, Template] = {}
    group = ""
    for number, line in enumerate(content.splitlines(), start=1):
        where = f"{file}, line {number}"
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if header := _GROUP.fullmatch(line):
            group = header[1]
            continue
        *fields, text = (field.strip() for field in _SEPARATOR.split(line))
        if not text or "  " in text or text != unicodedata.normalize("NFC", text):
            raise AxionError(f"{where}: {text!r} must be a text in composed Unicode (NFC) with single blanks")
        if text in templates:
            raise AxionError(f"{where}: the same text as in {templates[text].where}; give each template once")
        templates[text] = Template(text, tuple(fields), group, where)
    return tuple(templates.values())


@cache
def _always_trained() -> frozenset[str]:
    """The kinships of what other sources train."""
    return frozenset(kinship(each.text) for language in LANGUAGES for each in read_templates("trained", language))


def on_side(templates: Iterable[Template], held_out: bool) -> tuple[Template, ...]:
    """The templates that are held out for tests, or those that training may see."""
    return tuple(template for template in templates if template.is_held_out == held_out)
