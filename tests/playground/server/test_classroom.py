"""A page for a class: its address, its link, and the QR code of it."""

from urllib.parse import parse_qsl, urlsplit

import pytest

from axion.errors import AxionError
from playground.generate.links import read_link
from playground.locales import read_texts
from playground.server import classroom, launch
from playground.server.classroom import class_html, class_link, reachable_address

pytest.importorskip("segno")


def test_the_address_is_one_that_others_reach(monkeypatch):
    monkeypatch.setattr(classroom, "_own_address", lambda: "192.168.0.5")
    assert reachable_address("0.0.0.0", 7860) == "http://192.168.0.5:7860"
    assert reachable_address("school.example", 80) == "http://school.example:80"
    assert reachable_address("0.0.0.0", 7860, "https://x.gradio.live/") == "https://x.gradio.live"
    with pytest.raises(AxionError, match="a class cannot reach"):
        reachable_address("127.0.0.1", 7860)
    monkeypatch.setattr(classroom, "_own_address", lambda: "127.0.0.1")
    with pytest.raises(AxionError, match="connect this machine to a network"):
        reachable_address("0.0.0.0", 7860)


def test_a_class_is_served_to_the_network():
    assert launch.parse(["--class"]).host == "0.0.0.0"
    assert launch.parse(["--class", "--host", "192.0.2.1"]).host == "192.0.2.1"
    assert launch.parse([]).host == "127.0.0.1"


@pytest.mark.parametrize(("arguments", "limit"), [([], 30), (["--rate-limit", "90"], 90), (["--no-rate-limit"], 0)])
def test_the_operator_sets_the_rate_limit(arguments, limit):
    assert launch.parse(arguments).rate_limit == limit


@pytest.mark.parametrize(
    "arguments", [["--rate-limit", "0"], ["--rate-limit", "x"], ["--rate-limit", "5", "--no-rate-limit"]]
)
def test_a_wrong_rate_limit_is_refused(arguments):
    with pytest.raises(AxionError, match="rate-limit"):
        launch.parse(arguments)


class Context:
    def __init__(self, catalogue) -> None:
        self.catalogue = catalogue


def test_the_link_opens_what_the_teacher_set(catalogue):
    asked = {"model": "endless", "prompt": "5 + 3? é", "sampling": {"seed": 7, "temperature": 0.8}}
    link = urlsplit(class_link(Context(catalogue), "http://192.168.0.5:7860", asked, "pt", "experts"))
    assert (link.netloc, link.fragment) == ("192.168.0.5:7860", "experts")
    query = dict(parse_qsl(link.query))
    assert query["lang"] == "pt" and query["release"] == catalogue.open("endless").fingerprint
    read = read_link(catalogue, query)
    assert (read.model, read.prompt, read.sampling.seed, read.sampling.temperature) == ("endless", "5 + 3? é", 7, 0.8)
    assert class_link(Context(catalogue), "http://a", asked, "pt", "<x>").endswith("lang=pt")
    with pytest.raises(AxionError, match="prompt is empty"):
        class_link(Context(catalogue), "http://a", asked | {"prompt": ""}, "pt", "")


def test_a_link_that_is_too_long_is_shown_without_a_code():
    words = read_texts("en")["page"]
    assert "<svg" in (short := class_html("http://a/?prompt=<b>", "en")) and "<b>" not in short
    long = class_html("http://a/?prompt=" + "x" * 4000, "en")
    assert "<svg" not in long and words["class_long"] in long
