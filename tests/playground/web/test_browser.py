"""The page without a server in a real Chromium: over http and as one file, with the network off, and with bad files."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from playground.generate.catalogue import Catalogue
from playground.generate.events import live_events
from playground.generate.request import read_request
from playground.locales import texts
from tests.playground.web.conftest import MODELS
from tests.support.browsers import set_pace
from tests.support.servers import static_files

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TEXT = texts("trace", "en")
WEB = texts("web", "en")
# The page's policy forbids wait_for_function, which evaluates text.
CONTROLLED = """async () => {
  await navigator.serviceWorker.ready;
  while (!navigator.serviceWorker.controller) await new Promise((resolve) => setTimeout(resolve, 50));
}"""
DONE = '#trace [data-part="view"][data-state="done"]'


@contextmanager
def opened(browser, address: str, **options: object) -> Iterator:
    """A new page at an address. Fails on script errors, on blocked scripts, and on requests to another host."""
    settings = {"viewport": {"width": 1280, "height": 900}, "locale": "en"} | options
    with browser.new_context(**settings) as context:
        page, errors, asked = context.new_page(), [], []
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
        page.on("request", lambda request: asked.append(request.url))
        set_pace(page)
        page.goto(address)
        yield page
        assert not errors and page.evaluate("window.hacked") is None
        own = address.partition("?")[0].rpartition("/")[0]
        assert not [url for url in asked if not url.startswith((own, "blob:", "data:"))]


@pytest.fixture(scope="module")
def address(folder) -> Iterator[str]:
    with static_files(folder) as served:
        yield served


def shown_text(page) -> str:
    return page.locator('#trace [data-part="text"]').text_content()


def expected(releases: Path, name: str, **asked: object) -> list[dict]:
    """The events of the same request in Python."""
    catalogue = Catalogue([str(releases / name)], with_local=False)
    request = read_request(catalogue, {"model": name, **asked})
    return [event for event in live_events(catalogue.open(name), request) if event["kind"] == "step"]


def test_a_link_gives_the_text_and_routing_of_the_server_also_without_a_network(browser, releases, address):
    asked = {"prompt": "# Pergunta:\n", "sampling": {"temperature": 0.9, "seed": 11, "max_new_tokens": 24}}
    steps = expected(releases, "plain", **asked)
    query = "?model=plain&prompt=%23+Pergunta:%0A&temperature=0.9&seed=11&max_new_tokens=24"
    with opened(browser, address + query) as page:
        page.wait_for_selector(DONE)
        assert shown_text(page) == "".join(step["t"] for step in steps)
        with page.expect_download() as download:
            page.click('#trace [data-part="json"]')
        shown = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))["steps"]
        assert [(step["id"], step["e"]) for step in shown] == [(step["id"], step["e"]) for step in steps]
        page.evaluate(CONTROLLED)
        page.context.set_offline(True)
        page.reload()
        page.wait_for_selector(DONE)
        assert shown_text(page) == "".join(step["t"] for step in steps)
        page.evaluate("location.hash = '#tour-4'")
        page.locator(".av-tour-table tbody tr").nth(3).wait_for()  # one row for every expert


def test_a_link_tampers_with_the_model_in_the_browser(browser, releases, address):
    name, prompt = MODELS[0], "# Pergunta:"
    query = f"model={name}&prompt=%23+Pergunta%3A&max_new_tokens=6&mute=L2.E4&force=L1.E2"
    with opened(browser, f"{address}?{query}") as page:
        page.locator('#trace [data-part="tampered"]').wait_for()
        changes = {"mute": "L2.E4", "force": "L1.E2"}
        steps = expected(releases, name, prompt=prompt, sampling={"max_new_tokens": 6}, tampering=changes)
        tokens = page.locator('#trace [data-part="side-b"] .av-tok').all_text_contents()
        assert "".join(tokens) == "".join(step["t"] for step in steps)


def test_one_file_works_without_a_network_on_a_telephone(browser, folder):
    address = (folder / f"{MODELS[0]}.html").as_uri()
    with opened(browser, address, viewport={"width": 390, "height": 844}, offline=True, locale="pt-BR") as page:
        assert page.locator("#generate").text_content() == texts("controls", "pt")["generate"]
        for tab in ("playground", "chat", "experts", "compare", "model", "api"):
            page.locator(f"#tab-{tab}").click()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
            assert page.locator("main > section:visible").count() == 1
        page.locator("#tab-chat").click()
        page.fill("#chat textarea", "2 + 3")
        page.press("#chat textarea", "Enter")
        page.wait_for_selector('#chat [data-state="idle"] .ac-meta:not(:empty)')
        page.locator("#tab-compare").click()
        page.click("#compare")
        page.wait_for_selector('#comparison [data-state="done"]')


def test_stop_is_at_once_and_another_model_can_be_chosen(browser, address):
    with opened(browser, address) as page:
        page.select_option("#model", "endless")
        page.fill("#max_new_tokens", "512")
        page.click("#generate")
        page.wait_for_selector('#trace [data-state="running"] .av-col:not(.av-prompt)')
        page.click("#stop")
        page.wait_for_selector(DONE, timeout=1000)
        count = page.locator("#trace .av-col").count()
        assert TEXT["stopped"] in page.locator('#trace [data-part="status"]').text_content()
        page.wait_for_timeout(300)
        assert page.locator("#trace .av-col").count() == count
        page.select_option("#model", "hostile")
        page.wait_for_selector('#trace [data-state="recorded"]')
        for tab in ("experts", "model", "api"):
            page.locator(f"#tab-{tab}").click()
        assert "<img" in page.locator("#about").text_content()


def spoil_weights(folder: Path) -> None:
    weights = folder / "models" / "plain" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])


def spoil_shapes(folder: Path) -> None:
    """A config of another width, which the page's own list of files agrees with."""
    import hashlib

    config = folder / "models" / "plain" / "config.json"
    before = config.read_bytes()
    config.write_text(json.dumps(json.loads(before) | {"hidden_size": 48}))
    after, index = config.read_bytes(), folder / "index.html"
    html = index.read_text(encoding="utf-8")
    for old, new in (
        (hashlib.sha256(before).hexdigest(), hashlib.sha256(after).hexdigest()),
        (f'config.json","bytes":{len(before)}', f'config.json","bytes":{len(after)}'),
    ):
        assert old in html
        html = html.replace(old, new, 1)
    index.write_text(html, encoding="utf-8")


@pytest.mark.parametrize(("spoil", "says"), [(spoil_weights, WEB["damaged"]), (spoil_shapes, "model.safetensors")])
def test_a_spoilt_release_is_said_in_one_line_and_does_not_run(browser, folder, tmp_path, spoil, says):
    copy = shutil.copytree(folder, tmp_path / "page")
    spoil(copy)
    with static_files(copy) as address, opened(browser, address) as page:
        page.wait_for_selector("#problem:visible")
        message = page.locator("#problem").text_content()
        assert message.startswith("plain: ") and says in message and "\n" not in message
        page.click("#generate")
        page.wait_for_selector('#trace [data-part="error"]:visible')
        assert page.locator('#trace [data-part="error"]').text_content() == message
        page.select_option("#model", "endless")  # the others work
        page.wait_for_selector("#problem", state="hidden")
        page.click("#generate")
        page.wait_for_selector("#trace .av-col:not(.av-prompt)")
