"""The Model tab in a bare page: the values of its charts under the pointer, and what the model wrote as it learned."""

import pytest

from playground.content.model import model_html
from playground.generate.catalogue import Catalogue
from tests.support.measured import make_release, write_history, write_metrics

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def model(tiny_release, tmp_path_factory):
    folder = make_release(tiny_release, tmp_path_factory.mktemp("charts") / "measured")
    write_metrics(folder)
    write_history(folder, [["x y", "z"], ["", "18"], ["40", "18"], ["42", "19"]])
    return Catalogue([str(folder)]).open("measured")


@pytest.mark.parametrize(
    ("language", "told"),
    [("en", "12Ktraining 0.5validation 0.41667"), ("pt", "12 miltreino 0,5validação 0,41667")],
)
def test_the_pointer_shows_the_values_of_the_curves(view, model, language, told):
    page = view("charts", language=language, template=model_html(model, language)).page
    plot = page.locator(".ax-plot").first
    plot.scroll_into_view_if_needed()
    plot.hover(position={"x": plot.bounding_box()["width"] - 2, "y": 20})
    reading = page.locator(".ax-reading")
    assert reading.text_content().replace("\xa0", " ") == told  # the last of twelve rows
    page.locator(".ax-about h2").first.hover()
    assert reading.count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_learning_is_played_back(view, model):
    page = view("charts", template=model_html(model, "en"), context={"viewport": {"width": 390, "height": 800}}).page
    answers, label = page.locator(".ax-answers dd"), page.locator(".ax-moments output")
    slider, button = page.locator(".ax-moments input"), page.locator(".ax-moments button")
    assert answers.all_text_contents() == ["42", "19"]
    slider.focus()
    slider.press("ArrowLeft")
    assert answers.all_text_contents() == ["40", "18"]
    told = "step 1,000 · 4 M tokens · loss 2.750"
    assert (label.text_content(), slider.get_attribute("aria-valuetext")) == (told, told)
    slider.press("Home")
    assert (answers.all_text_contents(), label.text_content()) == (["x y", "z"], "before training")
    slider.press("End")
    slider.press("ArrowLeft")
    # in one call, because a checkpoint is shown for less than a second
    press = "(button) => { button.click(); return [button.textContent, button.parentNode.lastElementChild.value]; }"
    assert button.evaluate(press) == ["❚❚ Pause", told]
    page.wait_for_function("document.querySelector('.ax-moments button').textContent === '▶ Play'")
    assert answers.all_text_contents() == ["42", "19"]  # it has played to the end
    assert button.evaluate(press) == ["❚❚ Pause", "before training"]  # and starts again
    slider.press("End")
    assert (button.text_content(), answers.all_text_contents()) == ("▶ Play", ["42", "19"])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
