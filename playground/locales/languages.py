"""The languages of the page."""

from typing import Literal, TypeGuard

Language = Literal["en", "pt"]
LANGUAGES: dict[Language, str] = {"en": "English", "pt": "Português"}
DEFAULT: Language = "en"


def is_language(value: object) -> TypeGuard[Language]:
    """Whether `value` is the code of one of LANGUAGES."""
    return isinstance(value, str) and value in LANGUAGES


def known_language(value: object) -> Language:
    """`value` where it is one of LANGUAGES, else English; for what a browser sends."""
    return value if is_language(value) else DEFAULT


def choose_language(asked: object, accepted: object = None) -> Language:
    """The language that a link names, else the first known one of an Accept-Language header, else English."""
    for candidate in (asked, *str(accepted or "").split(",")):
        code = str(candidate or "").strip()[:2].lower()
        if is_language(code):
            return code
    return DEFAULT
