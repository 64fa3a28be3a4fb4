"""The charts of the Model tab in a bare page: the values shown under the pointer."""

import pytest

from playground.content.model import model_html
from playground.generate.catalogue import Catalogue
from tests.support.measured import make_release, write_metrics

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def model(tiny_release, tmp_path_factory):
    folder = make_release(tiny_release, tmp_path_factory.mktemp("charts") / "measured")
    write_metrics(folder)
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
