"""Merge a new model card with the edits that others have made to the published one, without losing any of theirs.

Text inside the sections of a card (see `publish.markdown`) belongs to the release. Text outside of them, and front
matter keys that the release does not write, belong to the editors and are kept. Where both have changed the same thing,
the merge is refused.
"""

from dataclasses import dataclass
from typing import Any

from huggingface_hub.utils import yaml_dump

from axion.errors import AxionError, one_line
from publish.markdown import MarkerError, split_front_matter, split_sections

_ABSENT = object()


@dataclass(frozen=True)
class Merge:
    """A merged card."""

    text: str
    kept: list[str]
    """The edits of others that it keeps: "2 passages", "key widget", "tags education"."""


def merge_card(ours: str, theirs: str, base: str | None) -> Merge:
    """Merge three versions of a card: the new one, the published one and the one that was last written here.

    The front matter keeps the published order, with new keys last, and is only written again if something in it
    changes. Sections come in the new card's order; others' passages stay behind the section that they followed. If
    every line of the published card ends in CRLF, as browsers write it, so does every line of the result.

    Args:
        ours: the new card; its body consists of sections alone.
        theirs: the published card.
        base: the card as last written here, before any merge; None if unknown, or if `theirs` never came from here.

    Raises:
        AxionError: the published card was edited where the new one differs too; the message says where.
        ValueError: `ours` has text outside of its sections.
    """
    theirs, newline = theirs.removeprefix("\ufeff"), _newline(theirs)
    if newline != "\n":
        theirs = theirs.replace(newline, "\n")  # lossless, since every line ends so; put back below
    if (base is not None and _plain(theirs) == _plain(base.removeprefix("\ufeff"))) or _plain(theirs) == _plain(ours):
        return Merge(ours, [])
    ours_front, ours_data, ours_body = _split_card(ours)
    theirs_front, theirs_data, theirs_body = _split_card(theirs)
    base_data, base_body = (None, None) if base is None else _split_card(base)[1:]

    conflicts: list[str] = []
    data, kept_keys = _merge_data(ours_data, theirs_data, base_data, conflicts)
    body, kept_passages = _merge_body(ours_body, theirs_body, base_body, conflicts)
    if conflicts:
        raise _refusal(f"was edited where the release has its own text: {', '.join(conflicts)}")
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
    """The merged front matter, and the edits of others that it keeps. Conflicts are appended to `conflicts`."""
    merged, kept = {}, []
    for key in [*theirs, *(key for key in ours if key not in theirs)]:
        our, their = ours.get(key, _ABSENT), theirs.get(key, _ABSENT)
        was = (base or {}).get(key, _ABSENT)
        if our is _ABSENT:
            if (their := _added(their, was)) is _ABSENT:
                continue  # an old key of ours, unedited
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
    """What others have added to a key that the release no longer writes; `_ABSENT` if nothing."""
    if their == was:
        return _ABSENT
    if _is_list(their) and _is_list(was):
        return [item for item in their if item not in was] or _ABSENT
    return their


def _merge_body(ours: str, theirs: str, base: str | None, conflicts: list[str]) -> tuple[str, list[str]]:
    """The merged body, and the edits of others that it keeps. Conflicts are appended to `conflicts`."""
    new = split_sections(ours)
    if any(gap.strip() for gap in (new.lead, *new.gaps.values())):
        raise ValueError("the new card has text outside of its sections")
    try:
        old = split_sections(theirs)
        was = split_sections(base or "")
    except MarkerError as error:
        raise _refusal(f"{error.what} (line {error.line} of its body)") from None
    if base is None and not theirs.strip():  # created on the website, with a licence but no text
        return ours, []
    if not old.sections:
        conflicts.append("its text, which has no sections")
        return "", []

    for name, section in old.sections.items():
        known = {_plain(side.sections[name]) for side in (new, was) if name in side.sections}
        if _plain(section) not in known:
            conflicts.append(f"the section {name}")
    for name in new.sections:
        if name not in old.sections and (base is None or name in was.sections):
            conflicts.append(f"the section {name}, which was removed or has lost its markers")

    # Our section, or None for the start → the texts of others that follow it.
    passages: dict[str | None, list[str]] = {None: [old.lead]}
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
    return AxionError(f"the card on the Hub {what}")


def _split_card(text: str) -> tuple[str, dict, str]:
    """The front matter as text including its dashes, its content, and the body."""
    try:
        front, data, body = split_front_matter(text)
    except ValueError as error:
        raise _refusal(f"has front matter that cannot be read: {one_line(error)}") from None
    if data is not None and not isinstance(data, dict):
        raise _refusal("has front matter that is not a YAML mapping")
    return front, data or {}, body


def _listed(value: Any) -> Any:
    """A single string where a list is allowed, as a list: `language: pt`."""
    return [value] if isinstance(value, str) else value


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and not any(isinstance(item, list | dict) for item in value)


def _newline(text: str) -> str:
    """CRLF if every line ends so, else LF."""
    ends = text.count("\n")
    return "\r\n" if 0 < ends == text.count("\r\n") == text.count("\r") else "\n"


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n")
