"""A running playground on random models, and fixtures that open it in a real Chromium."""

import asyncio
import json
import shutil
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count, cycle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from playground.generate.catalogue import Catalogue
from playground.generate.events import live_events, recorded_events
from playground.generate.request import read_request
from tests.support.bare_page import open_view
from tests.support.browsers import set_pace
from tests.support.measured import (
    VALIDATION,
    expert_load,
    favourites,
    make_chatty,
    make_release,
    write_info,
    write_metrics,
    write_trace,
)
from tests.support.servers import ROOT, Server, served
from tests.support.steering import READY, choose_language, choose_theme, open_tab

__all__ = ["HOSTILE", "ROOT", "Server", "choose_language", "choose_theme", "open_tab", "served"]

SLOW_APP = ("-m", "tests.support.slow_app")
"""For servers whose texts have to last for a while: see there."""

RELEASES = ("plain", "endless", "hostile", "broken", "measured", "talkative")

HOSTILE = [
    "<img src=x onerror=window.hacked=1>",
    "${window.hacked=2}",
    "{{#with this}}{{window}}{{/with}}",
    "</script>",
]


@pytest.fixture(scope="session")
def releases(tiny_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of releases, RELEASES: `plain`, `endless` (its text never ends, its routers are biased), `hostile`,
    `broken`, `measured` (with all results of a real release), `talkative` (a chat model whose text never ends).

    The recorded example of `hostile` has markup in its tokens and EOS among its alternatives; the text fields of its
    release.json are markup too.
    """
    from axion.inference.sampling import Sampling
    from axion.inference.stream import make_trace
    from axion.release import open_release

    root = tmp_path_factory.mktemp("playground")
    for name in RELEASES[:4]:
        shutil.copytree(tiny_release, root / name)

    release = open_release(tiny_release)
    sampling = Sampling(temperature=0.8, max_new_tokens=len(HOSTILE), seed=3)
    trace = make_trace("plain", release.model, release.tokenizer, "# Pergunta:\n", sampling)
    _write(root / "plain" / "trace.json", trace)
    steps = [{**step, "t": text} for step, text in zip(trace["steps"], cycle(HOSTILE), strict=False)]
    end = [release.tokenizer.eos_token_id, "<eos>", 0.05]
    steps[-1]["alt"] = [*([7, text, 0.1] for text in HOSTILE), end]
    _write(root / "hostile" / "trace.json", {**trace, "steps": steps, "favourites": favourites(2, 4, HOSTILE)})
    _write(root / "hostile" / "release.json", hostile_info())
    write_metrics(root / "hostile")

    write_trace(make_release(tiny_release, root / "measured"), favourites=favourites(2, 4, ["a", "b", "c"]))
    results = {"expert_load": expert_load(2, 4), "validation": VALIDATION | {"bits_per_byte": 1.5}}
    write_info(root / "measured", name="measured", results=results)
    write_metrics(root / "measured")
    make_chatty(tiny_release, root / "talkative")
    _edit(root / "talkative" / "config.json", max_position_embeddings=4096)
    _edit(root / "talkative" / "generation_config.json", eos_token_id=10**6)

    _edit(root / "endless" / "config.json", max_position_embeddings=4096)
    _edit(root / "endless" / "generation_config.json", eos_token_id=10**6)  # not a token, so the text never ends
    _bias(root / "endless" / "model.safetensors")
    (root / "broken" / "config.json").write_text("{", encoding="utf-8")
    return root


def hostile_info() -> dict:
    """A release.json whose every text is markup."""
    image, template, handlebars, _ = HOSTILE
    training = {
        "machine": {"processor": image, "cores": 2},
        "libraries": {template: handlebars},
        "command": image,
        "tokens": 5,
    }
    roadmap = [
        {"name": text, "version": text, "title": text, "parameters": 5, "active": None, "released": False}
        for text in HOSTILE
    ]
    results = {"validation": VALIDATION | {"bits_per_byte": 1.5, "command": template}}
    texts = {"dataset": handlebars}
    return texts | {"training": training, "roadmap": roadmap, "results": results}


def _bias(weights: Path) -> None:
    """Give every router a bias that is strong enough to displace experts."""
    tensors = load_file(weights)
    for name, tensor in tensors.items():
        if name.endswith("e_score_correction_bias"):
            tensors[name] = torch.linspace(-0.2, 0.25, len(tensor))
    save_file(tensors, weights, metadata={"format": "pt"})


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _edit(path: Path, **values: object) -> None:
    _write(path, json.loads(path.read_text(encoding="utf-8")) | values)


@pytest.fixture(scope="session")
def server(releases: Path) -> Iterator[Server]:
    """A playground with the models of `releases`, `plain` first, slow enough to be stopped during a generation."""
    with served([str(releases / name) for name in RELEASES], app=SLOW_APP) as running:
        yield running


@pytest.fixture
def view(browser):
    """Opens a view in a page of its own, e.g. `view("trace", value=…)`; takes the arguments of `open_view`."""
    with ExitStack() as stack:
        yield lambda name, **options: stack.enter_context(open_view(browser, name, **options))


@pytest.fixture(scope="session")
def catalogue(releases: Path) -> Catalogue:
    """The models of `releases` in this process, `plain` first."""
    return Catalogue([str(releases / name) for name in RELEASES])


def answer(catalogue: Catalogue, asked: dict) -> list[dict]:
    """The events of a view's request: {"model", "prompt", "sampling", "forced"}."""
    request = read_request(catalogue, asked)
    return list(live_events(catalogue.open(request.model), request))


def example(catalogue: Catalogue, name: str = "plain") -> list[dict]:
    """The events of a model's recorded example."""
    return list(recorded_events(catalogue.open(name)))


def run_async(coroutine: Coroutine) -> object:
    """Run a coroutine in another thread, since Playwright keeps an event loop running in the tests' own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


_addresses = (f"198.51.100.{number}" for number in count(1))


def new_visitor(browser, **options: object):
    """A page of a new visitor with a rate limit of its own.

    The server trusts the client address in the headers of a local proxy.
    """
    options = {"viewport": {"width": 1280, "height": 800}} | options
    page = browser.new_page(extra_http_headers={"X-Forwarded-For": next(_addresses)}, **options)
    set_pace(page)
    return page


@pytest.fixture
def page(browser, server: Server):
    """The playground as a visitor first sees it; the test fails if the page raised a script error."""
    page = new_visitor(browser)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(20_000)
    page.goto(server.address)
    page.wait_for_selector(READY)
    yield page
    page.close()
    assert not errors
