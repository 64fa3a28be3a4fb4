"""Write a new card over one that readers have edited on the Hub, and lose nothing of theirs.

The body of a card is made of sections, each between `<!-- axion:start NAME -->` and `<!-- axion:end NAME -->`. What
stands in them is the release's; what stands before, between and after them is the readers', and so is every key of the
front matter that the release does not write. Where both have changed the same thing nobody can tell what is right, and
the merge is refused.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.utils import yaml_dump

from axion.errors import AxionError

_MARKER = re.compile(r"^<!-- axion:(start|end) ([a-z]+(?:-[a-z]+)*) -->[ \t]*(?=\r?$)", re.MULTILINE)
_ALMOST_A_MARKER = re.compile(r"<!--\s{0,9}axion:")
_ABSENT = object()


@dataclass(frozen=True)
class Merge:
    """A merged card."""

    text: str
    kept: list[str]
    """What of the readers' is in it, in words: "2 passages", "key widget", "tags education"."""


class MarkerError(ValueError):
    """A section marker that has no partner, no form or a double."""

    def __init__(self, line: int, what: str):
        super().__init__(f"{what} (line {line})")
        self.line = line
        self.what = what


@dataclass
class _Body:
    """A body in pieces: `lead`, then section after section, each followed by its `gap`."""

    lead: str = ""
    sections: dict[str, str] = field(default_factory=dict)
    """Name → the section, its markers included."""
    gaps: dict[str, str] = field(default_factory=dict)
    """Name → the text between the section of this name and the next one, or the end."""


def split_sections(text: str) -> _Body:
    """Cut a Markdown text at its section markers.

    Raises:
        MarkerError: markers that do not pair up, or a section that stands twice.
    """
    body, opened, end = _Body(), None, 0
    markers = list(_MARKER.finditer(text))
    starts = {marker.start() for marker in markers}
    for almost in _ALMOST_A_MARKER.finditer(text):
        if almost.start() not in starts:
            raise MarkerError(_line(text, almost), "has a section marker that is not in its right form")
    for marker in markers:
        kind, name = marker.groups()
        if kind == "start" and opened is None and name not in body.sections:
            opened = marker
            _append_gap(body, text[end : marker.start()])
        elif kind == "end" and opened is not None and opened[2] == name:
            body.sections[name] = text[opened.start() : marker.end()]
            opened, end = None, marker.end()
        else:
            doubled = " a second time" if name in body.sections else ""
            raise MarkerError(_line(text, marker), f"has the {kind} of section {name} where it can't be{doubled}")
    if opened is not None:
        raise MarkerError(_line(text, opened), f"has the start of section {opened[2]} and not its end")
    _append_gap(body, text[end:])
    return body


def merge_card(ours: str, theirs: str, base: str | None) -> Merge:
    """The card to publish, from what we would write, what stands on the Hub and what we wrote last.

    The front matter keeps the order of theirs, new keys come last; it is dumped anew only where something of it
    changes. Sections stand in our order, and a passage of the readers' stays behind the section it was behind. What
    theirs has with the line ends of a browser (CRLF) gets those throughout.

    Args:
        ours: the card as it is written today; its body is made of sections alone.
        theirs: the card on the Hub.
        base: the card as *we* wrote it last, before any merging; None where that is unknown, or theirs was never ours.

    Raises:
        AxionError: theirs has changed what we would write anew; the message names it and says what to do.
        ValueError: ours is not made of sections.
    """
    theirs, newline = theirs.removeprefix("\ufeff"), _newline(theirs)
    if newline != "\n":
        theirs = theirs.replace(newline, "\n")  # every line ends so: nothing is lost, and it is put back below
    if (base is not None and _plain(theirs) == _plain(base.removeprefix("\ufeff"))) or _plain(theirs) == _plain(ours):
        return Merge(ours, [])
    ours_front, ours_data, ours_body = _split_card(ours)
    theirs_front, theirs_data, theirs_body = _split_card(theirs)
    base_data, base_body = (None, None) if base is None else _split_card(base)[1:]

    conflicts: list[str] = []
    data, kept_keys = _merge_data(ours_data, theirs_data, base_data, conflicts)
    body, kept_passages = _merge_body(ours_body, theirs_body, base_body, conflicts)
    if conflicts:
        raise _refusal(f"was edited where the release writes: {', '.join(conflicts)}")
    kept = kept_passages + kept_keys
    if not kept:
        return Merge(ours, [])
    if data == ours_data:
        front = ours_front
    elif data == theirs_data and list(data) == list(theirs_data):
        front = theirs_front
    else:
        front = f"---\n{yaml_dump(data, sort_keys=False)}---\n"
    return Merge((front + body).replace("\n", newline), kept)


def _merge_data(ours: dict, theirs: dict, base: dict | None, conflicts: list[str]) -> tuple[dict, list[str]]:
    """The merged front matter, and what of it is the readers'."""
    merged, kept = {}, []
    for key in [*theirs, *(key for key in ours if key not in theirs)]:
        our, their = ours.get(key, _ABSENT), theirs.get(key, _ABSENT)
        was = (base or {}).get(key, _ABSENT)
        if our is _ABSENT:
            if (their := _added(their, was)) is _ABSENT:
                continue  # we wrote it once, and nobody has touched it
            merged[key] = their
            kept.append(f"key {key}")
        elif _is_list(our) and (their is _ABSENT or _is_list(_listed(their))):
            their, was = (_listed(value) if value is not _ABSENT else [] for value in (their, was))
            added = [item for item in their if item not in our and not (_is_list(was) and item in was)]
            merged[key] = our + list(dict.fromkeys(added))
            if added:
                kept.append(f"{key} {', '.join(str(item) for item in dict.fromkeys(added))}")
        elif their in (our, was):  # a new key of ours is absent in both
            merged[key] = our
        else:
            conflicts.append(f"the key {key}")
    return merged, kept


def _added(their: Any, was: Any) -> Any:
    """What readers have made of a key that we no longer write; absent where they have added nothing."""
    if their == was:
        return _ABSENT
    if _is_list(their) and _is_list(was):
        return [item for item in their if item not in was] or _ABSENT
    return their


def _merge_body(ours: str, theirs: str, base: str | None, conflicts: list[str]) -> tuple[str, list[str]]:
    """The merged body, and what of it is the readers'."""
    new = split_sections(ours)
    if any(gap.strip() for gap in (new.lead, *new.gaps.values())):
        raise ValueError("the card that is to be merged has text outside of its sections")
    try:
        old = split_sections(theirs)
        was = split_sections(base or "")
    except MarkerError as error:
        raise _refusal(f"{error.what} (line {error.line} of its body)") from None
    if base is None and not theirs.strip():  # made on the website, with a licence and no text
        return ours, []
    if not old.sections:
        conflicts.append("its text, which has none of the release's sections")
        return "", []

    for name, section in old.sections.items():
        known = {_plain(side.sections[name]) for side in (new, was) if name in side.sections}
        if _plain(section) not in known:
            conflicts.append(f"the section {name}")
    for name in new.sections:
        if name not in old.sections and (base is None or name in was.sections):
            conflicts.append(f"the section {name}, which is gone or has lost its markers")

    passages = {None: [old.lead]}  # the section of ours that they stand behind → the readers' texts
    behind = None
    for name, gap in old.gaps.items():
        behind = name if name in new.sections else behind
        passages.setdefault(behind, []).append(gap)
    pieces, kept = [], 0
    for name in (None, *new.sections):
        if name is not None:
            pieces.append(new.sections[name])
        texts = [text for text in passages.get(name, ()) if text.strip()]
        kept += len(texts)
        gap = "".join(texts) or (new.lead if name is None else new.gaps[name])
        last = name is not None and name == list(new.sections)[-1]
        pieces.append(gap if last or gap.endswith("\n") or not gap else gap + "\n\n")
    return "".join(pieces), [f"{kept} passage{'s' * (kept > 1)}"] if kept else []


def _refusal(what: str) -> AxionError:
    return AxionError(
        f"the card on the Hub {what}; take the edit out there, or replace the whole card by --replace-card"
    )


def _split_card(text: str) -> tuple[str, dict, str]:
    """The front matter with its dashes, its content, and the body."""
    match = REGEX_YAML_BLOCK.match(text)
    if not match:
        return "", {}, text
    try:
        data = yaml.safe_load(match[2])
    except (yaml.YAMLError, ValueError, RecursionError):
        data = _ABSENT
    if data is not None and not isinstance(data, dict):
        raise _refusal("has a front matter that is no YAML mapping")
    return match[0], data or {}, text[match.end() :]


def _append_gap(body: _Body, text: str) -> None:
    """A gap belongs to the section before it; the first one to none."""
    if body.sections:
        body.gaps[list(body.sections)[-1]] = text
    else:
        body.lead = text


def _listed(value: Any) -> Any:
    """A lone word where a list may stand, as a list: `language: pt`."""
    return [value] if isinstance(value, str) else value


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and not any(isinstance(item, list | dict | set) for item in value)


def _newline(text: str) -> str:
    """The browser's line end where every line has it, else \\n."""
    ends = text.count("\n")
    return "\r\n" if 0 < ends == text.count("\r\n") == text.count("\r") else "\n"


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n")


def _line(text: str, match: re.Match) -> int:
    return text.count("\n", 0, match.start()) + 1
