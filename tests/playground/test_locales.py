"""The texts of the page in every language, and the number format of each language."""

import re
from string import Formatter

import pytest

from playground.locales import (
    DEFAULT,
    LANGUAGES,
    choose_language,
    fill,
    format_bytes,
    format_number,
    format_percent,
    format_short,
    known_language,
    read_texts,
)


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_same_texts_with_the_same_fields(language):
    default, other = read_texts(DEFAULT), read_texts(language)
    assert {part: list(table) for part, table in other.items()} == {
        part: list(table) for part, table in default.items()
    }
    for part, table in other.items():
        for key, text in table.items():
            assert fields(text) == fields(default[part][key]), f"{part}.{key}"


@pytest.mark.parametrize(
    ("asked", "accepted", "language"),
    [("pt", None, "pt"), (None, "pt-BR,en;q=0.5", "pt"), (None, "de, pt", "pt"), ("xx", "", "en"), (None, None, "en")],
)
def test_the_language_is_the_first_known_one(asked, accepted, language):
    assert choose_language(asked, accepted) == language


def test_an_unknown_language_falls_back_to_english():
    assert [known_language(value) for value in ("pt", "de", None, ["pt"])] == ["pt", "en", "en", "en"]


@pytest.mark.parametrize(
    ("english", "portuguese", "write"),
    [
        ("344,224", "344.224", lambda language: format_number(344_224, language)),
        ("0.05", "0,05", lambda language: format_number(0.05, language)),
        ("+0.050", "+0,050", lambda language: format_number(0.05, language, 3, signed=True)),
        ("-0.050", "-0,050", lambda language: format_number(-0.05, language, 3, signed=True)),
        ("22", "22", lambda language: format_number(22.0, language)),
        ("97.6%", "97,6%", lambda language: format_percent(0.976, language)),
        ("50%", "50%", lambda language: format_percent(0.5, language)),
        ("5.0%", "5,0%", lambda language: format_percent(0.05, language, 1)),
        ("1.5 M", "1,5 M", lambda language: format_short(1.5e6, language)),
        ("344 k", "344 k", lambda language: format_short(344_224, language)),
        ("1 M", "1 M", lambda language: format_short(999_600, language)),
        ("10.8 kB", "10,8 kB", lambda language: format_bytes(10_800, language)),
        ("192 B", "192 B", lambda language: format_bytes(192, language)),
        ("1,000 of 9007199254740991", "1.000 of 9007199254740991",
         lambda language: fill("{count} of {most:plain}", language, count=1000, most=2**53 - 1)),
    ],
)  # fmt: skip
def test_numbers_are_formatted_for_the_language(english, portuguese, write):
    assert (write("en"), write("pt")) == (english, portuguese)


@pytest.mark.parametrize("language", LANGUAGES)
def test_filling_a_text_replaces_every_field(language):
    for key, text in read_texts(language)["errors"].items():
        filled = fill(text, language, **dict.fromkeys(fields(text), 1))
        assert not re.search(r"[{}]", filled), key
