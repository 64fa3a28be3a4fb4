"""Template files: how they are read, and which templates are held out."""

import pytest

from axion.data.templates import Template, on_side, parse_templates, read_templates
from axion.errors import AxionError

CONTENT = """\
# a comment

[gain]
a + b | {N} has {a} [old|new] cards.
{N} finds {b} more.
[loss]
a - b | b=2..9 |  {N} loses {b}.
"""


def test_groups_fields_and_texts():
    first, second, third = parse_templates(CONTENT, "cards_en.txt")
    assert first == Template("{N} has {a} [old|new] cards.", ("a + b",), "gain", "cards_en.txt, line 4")
    assert (second.text, second.fields, second.group) == ("{N} finds {b} more.", (), "gain")
    assert (third.text, third.fields, third.group) == ("{N} loses {b}.", ("a - b", "b=2..9"), "loss")


def test_the_text_alone_decides_which_third_is_held_out():
    templates = [Template(f"template {number}") for number in range(3000)]
    assert 0.30 < len(on_side(templates, held_out=True)) / 3000 < 0.37
    assert len(on_side(templates, True)) + len(on_side(templates, False)) == 3000
    # fixed for ever: releases were trained on one side and are tested on the other
    assert [each.text for each in templates[:12] if each.is_held_out] == [
        f"template {number}" for number in (1, 3, 5, 7, 10)
    ]
    assert Template("template 1", ("a + b",), "gain", "x").is_held_out == templates[1].is_held_out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a\n[x]\nb | a", "line 3: the same text as in x.txt, line 1"),
        ("a + b |  ", "line 1"),
        ("two  blanks", "line 1.*single blanks"),
        ("e\u0301", "composed"),
    ],
)
def test_what_is_not_a_template_is_refused(content, said):
    with pytest.raises(AxionError, match=said):
        parse_templates(content, "x.txt")


def test_a_language_without_templates_is_refused():
    with pytest.raises(AxionError, match="no templates stories_fr"):
        read_templates("stories", "fr")
