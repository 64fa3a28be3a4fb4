"""Terms of the field are explained where they occur, in a bare page."""

import pytest

from playground.content.documentation import read_page
from playground.locales import LANGUAGES, by_language, texts
from playground.locales.terms import CHAPTERS, term_properties
from tests.playground.conftest import example
from tests.support.bare_page import to_text
from tests.support.steering import open_token, part

TERMS = by_language("terms")


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_form_stands_for_two_terms_and_chapters_exist(language):
    forms = [form.lower() for term in term_properties(language)["terms"] for form in term["forms"]]
    assert len(forms) == len(set(forms))
    assert CHAPTERS.keys() <= texts("term_forms", language).keys()
    assert set(CHAPTERS.values()) <= {chapter.anchor for chapter in read_page(language)}


@pytest.mark.browser
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_term_opens_its_explanation(view, catalogue, language):
    shown = view("trace", language=language, value=to_text(example(catalogue)))
    page, note = shown.page, shown.page.locator(".av-term-note")
    caption = page.locator("[data-text=load_note]")
    assert caption.text_content() == texts("trace", language)["load_note"], "marked terms read as before"
    assert not note.is_visible()
    names = {"en": ("fair share", "expert"), "pt": ("parcela justa", "especialista")}[language]
    for name, key in zip(names, ("fair_share", "expert"), strict=True):
        caption.get_by_role("button", name=name, exact=True).click()
        assert note.locator("p").text_content() == TERMS[language][key]
        box = note.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 1280
    assert note.locator("a").get_attribute("href") == "/view#doc-experts"
    page.keyboard.press("Escape")
    assert not note.is_visible()
    other = "pt" if language == "en" else "en"
    shown.set_language(other)
    assert caption.text_content() == texts("trace", other)["load_note"]


@pytest.mark.browser
def test_a_popover_of_a_token_explains_its_words(view, catalogue):
    shown = view("trace", value=to_text(example(catalogue)))
    popover = open_token(shown.page, 1)
    popover.get_by_role("button", name="affinity").click()
    assert shown.page.locator(".av-term-note p").text_content() == TERMS["en"]["affinity"]
    assert popover.is_visible(), "an explanation does not close what it explains"
    assert part(shown.page, "stats").get_by_role("button", name="tokens").count() == 1
