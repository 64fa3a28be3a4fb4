"""The snippets of the last tab: each is run as a visitor would, against a live page, with hostile prompts."""

import json
import os
import random
import shutil
import subprocess
import sys

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from axion.data.asking import problem_prompt
from axion.inference.sampling import LIMITS as BOUNDS
from axion.inference.sampling import Sampling
from axion.release import RELEASES, Release
from playground.api import snippets
from playground.api.mcp import generate
from playground.generate.catalogue import Catalogue, OpenModel
from playground.generate.places import Place, command_again, find_place
from playground.generate.request import DEFAULTS, LIMITS, Request
from playground.locales import by_language
from playground.server.tabs.api import KINDS, read_controls, write_snippets
from tests.playground.conftest import ROOT, choose_language, open_tab, run_async

PAGE = by_language("page")
WORDS = by_language("api")

PIECES = [
    '"double" ',
    "'single' ",
    "$HOME ${PATH} $(id) `id` !! ",
    "back\\slash \\n \\\\ ",
    "line\nbreak\r\n\ttab ",
    "é ã 😀 中 ",
    "%s %d {0} {name} ",
    "# comment -- ",
    "<img src=x onerror=window.hacked=1>",
    "${window.hacked=2}{{#with this}}{{window}}{{/with}}</script>",
    "\u2028\u202e\x00\x1b[31m",
    "'''\"\"\" @file ;&|*?~ ",
]
CODES = (*KINDS, "mcp_call")


def hostile_prompt() -> str:
    return "# " + "".join(random.sample(PIECES, len(PIECES)))


@pytest.fixture(scope="module")
def model(releases) -> OpenModel:
    return Catalogue([str(releases / "endless")]).open("endless")


@pytest.fixture
def request_(model) -> Request:
    sampling = Sampling(0.9, 50, 0.95, 0.01, 1.1, max_new_tokens=5, min_new_tokens=2, seed=random.randrange(2**53))
    return Request("endless", hostile_prompt(), sampling)


@pytest.fixture
def written(server, model, request_) -> dict[str, str]:
    return write_snippets(server.address, model, request_, "en")


def run_python(text: str, **environment: str) -> str:
    """The program's output without newline translation (a text may have a `\\r`), run in a visitor's environment."""
    environment = os.environ | {"PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"} | environment
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode()


# --- Snippets run-----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_curl(shell, written, model, request_):
    done = subprocess.run([shell, "-c", written["curl"]], capture_output=True, text=True, timeout=60)
    answer = json.loads(done.stdout)
    assert answer["choices"][0]["text"] == generate(model, request_)["text"]
    assert answer["seed"] == request_.sampling.seed


@pytest.mark.parametrize("kind", ["openai", "gradio"])
def test_python_with_a_client(kind, written, model, request_):
    said = run_python(written[kind])
    expected = generate(model, request_, routing=True)
    assert said.startswith(expected["text"] + "\n")
    steps = expected["routing"]["steps"]
    assert said.removeprefix(expected["text"] + "\n").splitlines() == [f"{step['t']!r} {step['e']}" for step in steps]


def test_mcp(written, model, request_):
    url = json.loads(written["mcp"])["mcpServers"]["axion"]["url"]

    async def ask() -> str:
        async with streamable_http_client(url) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            result = await session.call_tool("generate_text", json.loads(written["mcp_call"]))
            return result.content[0].text

    assert json.loads(run_async(ask()))["text"] == generate(model, request_)["text"]


@pytest.mark.slow
def test_transformers(tmp_path):
    """Greedy, sampled twice, and with a hostile prompt, one after another in one process."""
    bundled = Catalogue().open("axion1-v0.1")
    a, b = random.randrange(10), random.randrange(10)
    prompt = f"# Pergunta:\nQuanto é {a} + {b}?\n--\n# Resposta:\n"
    requests = [
        Request(bundled.name, prompt, Sampling(0.0, min_p=0.02, max_new_tokens=7, seed=11)),
        *2 * [Request(bundled.name, prompt, Sampling(0.8, min_p=0.02, max_new_tokens=7, seed=11))],
        Request(bundled.name, hostile_prompt(), Sampling(0.0, max_new_tokens=4)),
    ]
    programs = [write_snippets("http://127.0.0.1:1", bundled, request, "en")["transformers"] for request in requests]
    assert all('name = "releases/axion1-v0.1"\n' in program for program in programs)
    mark = "=== next ==="
    programs[-1] = programs[-1].replace("print(", f"print(prompt == {requests[-1].prompt!a}, ")
    said = run_python(f"\nprint({mark!r})\n".join(programs), HF_HOME=str(tmp_path)).split(f"{mark}\n")
    greedy, sampled, again, hostile = said
    assert greedy == generate(bundled, requests[0])["text"] + "\n"
    assert sampled == again  # its own random numbers, and reproducible
    assert hostile == f"True {generate(bundled, requests[-1])['text']}\n"


# --- Their content ----------------------------------------------------------------------------------------------------


def test_a_model_on_the_hub_is_pinned_and_a_local_folder_has_no_path(tmp_path):
    commit = "0123456789abcdef" * 2 + "01234567"
    assert find_place(Release(f"someone/Axion@{commit}", tmp_path)) == Place("someone/Axion", commit)
    assert find_place(Release("axion1-v0.1", RELEASES / "axion1-v0.1")) == Place("releases/axion1-v0.1")
    assert find_place(Release("mine", tmp_path / "mine")) == Place("mine", known=False)

    (tmp_path / "recipe.yaml").write_text("name: x", encoding="utf-8")
    pinned_release = Release(f"someone/Axion@{commit}", tmp_path)
    assert command_again(pinned_release) == f"python -m axion reproduce someone/Axion@{commit}"
    assert command_again(Release("axion1-v0.1", RELEASES / "axion1-v0.1")) == "python -m axion reproduce axion1-v0.1"
    assert command_again(Release("mine", tmp_path / "mine")) == ""

    request = Request("m", "a", Sampling())
    pinned = snippets.transformers(Place("someone/Axion", commit), request)
    assert pinned.count(f'from_pretrained(name, revision="{commit}"') == 2
    unknown = snippets.transformers(Place("mine", known=False), request, "your folder")
    assert 'name = "mine"  # your folder\n' in unknown
    assert "revision" not in unknown


def test_only_settings_that_differ_from_the_defaults_are_named():
    plain = snippets.mcp_arguments(Request("m", "a", Sampling()))
    assert set(json.loads(plain)) == {"prompt", "model", "temperature", "max_new_tokens", "seed", "routing"}
    values = {name: (BOUNDS[name][0] or 1) for name in LIMITS} | {"top_k": 7, "max_new_tokens": 9, "min_p": 0.125}
    every = json.loads(snippets.mcp_arguments(Request("m", "a", Sampling(**values | {"top_p": 0.5}))))
    assert {"top_k": 7, "min_p": 0.125, "top_p": 0.5}.items() <= every.items()
    greedy = snippets.transformers(Place("x"), Request("m", "a", Sampling(top_k=7)))
    assert "do_sample=False" in greedy
    assert not {"temperature", "top_k", "seed"} & set(greedy.replace("=", " ").replace("(", " ").split())


def test_invalid_controls_are_replaced_by_the_defaults(model):
    assert read_controls(model, "a", DEFAULTS, raw=True) == Request("endless", "a", Sampling())
    first = problem_prompt("What is 5 + 3?")
    assert read_controls(model, "", DEFAULTS | {"seed": None}).prompt == first
    assert read_controls(model, "a", DEFAULTS | {"seed": None, "top_k": 3}).sampling == Sampling(top_k=3)
    assert read_controls(model, "half \ud800", DEFAULTS).prompt == first
    assert read_controls(model, "5+3", DEFAULTS).prompt == first
    assert read_controls(model, "5+3", DEFAULTS, language="pt").prompt == problem_prompt("Quanto é 5 + 3?")
    wrong = DEFAULTS | {"max_new_tokens": 2, "min_new_tokens": 5}
    assert read_controls(model, "a", wrong).sampling == Sampling(max_new_tokens=2)


# --- On the page ------------------------------------------------------------------------------------------------------


def shown(page, kind: str) -> str:
    """A snippet's text as shown on the page."""
    lines = f"#snippet-{kind.replace('_', '-')} .cm-line"
    return "\n".join(page.locator(lines).evaluate_all("lines => lines.map((line) => line.textContent)"))


def choose(page, kind: str) -> None:
    """Show a snippet, also if a narrow page has moved its tab into the overflow menu."""
    strip, name = page.locator(".ax-snippets .tab-wrapper"), WORDS["en"][kind]
    tab = strip.get_by_role("tab", name=name, exact=True)
    if not tab.count():
        strip.locator(".overflow-menu > button").click()
        tab = strip.locator(".overflow-dropdown button", has_text=name)
    tab.click()


def wait_for(page, kind: str, text: str) -> None:
    """Wait until the visible snippet contains the text."""
    selector = f"#snippet-{kind.replace('_', '-')}"
    page.wait_for_function(
        "([selector, text]) => [...document.querySelectorAll(`${selector} .cm-line`)]"
        ".map((line) => line.textContent).join('\\n').includes(text)",
        arg=[selector, text],
    )


@pytest.mark.browser
def test_snippets_follow_the_first_tab_and_escape_the_prompt(page, server):
    page.locator("#model input").click()
    page.get_by_role("option", name="endless").click()
    prompt = f"# {random.randrange(10**6)} " + "".join(PIECES[i] for i in (0, 1, 2, 3, 8, 9))
    page.locator("#prompt textarea").fill(prompt)
    seed = random.randrange(2**40)
    page.get_by_label("Seed").first.fill(str(seed))
    open_tab(page, PAGE["en"]["tab_api"])
    wait_for(page, "curl", str(seed))
    command = shown(page, "curl")
    assert command.startswith(f"curl {server.address}/v1/completions ")
    choose(page, "mcp")
    wait_for(page, "mcp_call", str(seed))
    body = json.loads(shown(page, "mcp_call"))
    assert (body["prompt"], body["model"], body["seed"]) == (prompt, "endless", seed)
    assert page.evaluate("window.hacked") is None
    if shutil.which("curl"):
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
        assert json.loads(done.stdout)["model"] == "endless"


@pytest.mark.browser
def test_snippets_follow_the_model_and_the_language(page):
    open_tab(page, PAGE["en"]["tab_api"])
    wait_for(page, "curl", '"model": "plain"')
    page.locator("#model input").click()
    page.get_by_role("option", name="endless").click()
    wait_for(page, "curl", '"model": "endless"')
    choose(page, "transformers")
    wait_for(page, "transformers", "# your folder with this release")
    choose_language(page, "pt")
    wait_for(page, "transformers", "# a sua pasta com esta versão")
    page.get_by_role("heading", name="Usar este modelo em um programa").wait_for()
    page.locator("#model input").click()
    page.get_by_role("option", name="broken").click()
    wait_for(page, "transformers", f"# {PAGE['pt']['unavailable']}")
    assert "endless" not in shown(page, "transformers")


@pytest.mark.browser
def test_every_snippet_can_be_reached_copied_and_read(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_tab(page, PAGE["en"]["tab_api"])
    wait_for(page, "curl", "completions")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for kind in KINDS:
            choose(page, kind)
            code = page.locator(f"#snippet-{kind}")
            code.locator(".cm-content").wait_for(state="visible")
            page.evaluate("navigator.clipboard.writeText('')")
            code.get_by_role("button").first.click()
            page.wait_for_function(
                "async (text) => (await navigator.clipboard.readText()).trim() === text", arg=shown(page, kind).strip()
            )
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_snippets_use_the_public_address_behind_a_proxy(server, request_):
    from urllib.request import Request as Call
    from urllib.request import urlopen

    config = json.load(urlopen(f"{server.address}/config"))
    code = next(part["id"] for part in config["components"] if part["props"].get("elem_id") == "snippet-curl")
    [event] = [event for event in config["dependencies"] if event["outputs"][:1] == [code]]
    values = ["plain", "en", request_.prompt, True, None, *(getattr(request_.sampling, name) for name in LIMITS)]
    body = json.dumps({"data": values, "fn_index": event["id"], "session_hash": "snippets"}).encode()
    headers = {"Content-Type": "application/json", "X-Forwarded-Host": "me-axion.hf.space"}
    call = Call(f"{server.address}/gradio_api/run/predict", body, headers | {"X-Forwarded-Proto": "https"})
    written = dict(zip(CODES, json.load(urlopen(call))["data"], strict=True))
    assert written["curl"].startswith("curl https://me-axion.hf.space/v1/completions ")
    assert json.loads(written["mcp"])["mcpServers"]["axion"]["url"] == "https://me-axion.hf.space/gradio_api/mcp/"
