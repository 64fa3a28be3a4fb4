"""The page without a server, as files: what is in them, and that nothing in them can run but the page's own script."""

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
from urllib.parse import parse_qsl

import pytest

from axion.data.asking import problem_prompt
from axion.data.sources.chat import CHAT_TEMPLATE
from axion.errors import AxionError
from axion.tampering import NAMES
from playground.content.model import model_html
from playground.generate.catalogue import Catalogue
from playground.generate.chat import conversation_prompt
from playground.generate.links import read_link
from playground.generate.request import settings_of
from playground.locales import LANGUAGES
from playground.web import assemble
from playground.web.assemble import WEB, build_page, write_page
from playground.web.content import conversation_form, problem_form, to_json
from playground.web.markdown import to_html
from tests.playground.conftest import HOSTILE
from tests.playground.generate.test_chat import say
from tests.playground.web.conftest import MODELS
from tests.support.measured import make_chatty


def data_in(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="axion-page">(.*?)</script>', html, re.DOTALL)[1])


def policy_in(html: str) -> dict[str, str]:
    text = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1].replace("&#39;", "'")
    return dict(rule.split(" ", 1) for rule in text.split("; "))


def test_a_folder_has_every_file_that_the_page_reads(folder):
    data = data_in((folder / "index.html").read_text(encoding="utf-8"))
    assert [model["name"] for model in data["models"]] == list(MODELS)
    for model in data["models"]:
        assert json.loads((folder / model["content"]).read_text(encoding="utf-8"))["pages"].keys() == LANGUAGES.keys()
        assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= model["files"].keys()
        for file in model["files"].values():
            content = (folder / file["path"]).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    worker = (folder / data["offline"]).read_text(encoding="utf-8")
    kept = json.loads(re.search(r"const FILES = (\[.*\]);", worker)[1])
    assert "./" in kept and all((folder / name).exists() for name in kept)
    assert {"./page.js", "./worker.js", "./models/plain/model.safetensors"} <= set(kept)
    assert not [name for name in kept if "hostile" in name], "a model is kept when it is first chosen"


def test_the_single_file_holds_the_same_files(folder):
    html = (folder / "plain.html").read_text(encoding="utf-8")
    inside = dict(re.findall(r'<script type="text/plain" data-file="([^"]*)">([^<]*)</script>', html))
    data = data_in(html)
    models = [file["path"] for model in data["models"] for file in model["files"].values()]
    assert {data["worker"], data["decoder"], *models} <= inside.keys()
    for name, content in inside.items():
        assert gzip.decompress(base64.b64decode(content)) == (folder / name).read_bytes(), name


def test_nothing_runs_but_the_pages_own_script_and_nothing_comes_from_another_host(folder):
    for name in ("index.html", "plain.html"):
        html = (folder / name).read_text(encoding="utf-8")
        policy = policy_in(html)
        assert (
            policy["default-src"] == "'none'" and "unsafe-inline" not in policy["script-src"] + policy["style-src-elem"]
        )
        assert "unsafe-eval'" not in policy["script-src"].replace("'wasm-unsafe-eval'", "")
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", html)
        assert html.count("<script") == html.count("</script>")
        assert not re.search(r"\son\w+=", re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL))
    assert "url(" not in (folder / "page.css").read_text(encoding="utf-8")
    html = (folder / "plain.html").read_text(encoding="utf-8")
    [script] = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    [style] = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    policy = policy_in(html)
    for text, rule in ((script, "script-src"), (style, "style-src-elem")):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy[rule]
    assert policy["connect-src"] == "'none'"


def test_markup_in_a_release_stays_text(folder):
    content = (folder / "models" / "hostile" / "content.json").read_text(encoding="utf-8")
    assert "<" not in content
    about = json.loads(content)["pages"]["en"]["about"]
    assert "&lt;img" in about and "<img" not in about
    assert json.loads(to_json(HOSTILE)) == HOSTILE and "<" not in to_json(HOSTILE)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_says_what_the_gradio_page_says(folder, releases, language):
    model = Catalogue([str(releases / "plain")], with_local=False).open("plain")
    pages = json.loads((folder / "models" / "plain" / "content.json").read_text(encoding="utf-8"))["pages"]
    assert pages[language]["about"] == model_html(model, language)
    chapters = dict(pages[language]["chapters"])
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in chapters["experts"]
    assert "<table>" in chapters["config"] and "$" not in re.sub("<code.*?</code>", "", chapters["experts"])


def test_markdown_has_formulas_tables_and_no_html():
    html = to_html("A $c$ and `$d$` <b>\n\n$$x^2$$\n\n| a |\n| ---: |\n| 1 |\n")
    assert html.count("<math") == 2 and "<code>$d$</code>" in html and "&lt;b&gt;" in html
    assert "<td style=" in html and html.count('display="block"') == 1


def test_weights_can_stay_on_the_hub(releases, monkeypatch):
    reference = f"someone/axion@{'a' * 40}"
    model = Catalogue([str(releases / "measured")], with_local=False).open("measured")
    address = f"https://huggingface.co/someone/axion/resolve/{'a' * 40}/"
    assert assemble._hub_addresses([reference, "releases/mine"]) == {reference: address}
    each = assemble.PageModel(model, "models/axion", address)
    monkeypatch.setattr(assemble, "_page_models", lambda *_: [each])
    page = build_page([reference], {reference: address})
    assert not [name for name in page.files if name.endswith(".safetensors")]
    files = assemble.folder_files(page)
    html = files["index.html"].decode()
    assert data_in(html)["models"][0]["files"]["config.json"]["path"] == f"{address}config.json"
    assert policy_in(html)["connect-src"].startswith("'self' https://huggingface.co ")
    with pytest.raises(AxionError, match="cannot be one file"):
        assemble.single_file(page)


def test_a_broken_release_or_a_foreign_folder_writes_nothing(releases, folder, tmp_path):
    with pytest.raises(AxionError, match=r"config\.json"):
        write_page([str(releases / "broken")], tmp_path / "page")
    assert not any(tmp_path.iterdir())
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(AxionError, match="is not empty"):
        write_page([str(releases / "plain")], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_earlier_page_is_replaced(folder, tmp_path, monkeypatch):
    earlier = shutil.copytree(folder, tmp_path / "page")
    (earlier / "models" / "old").mkdir()
    page = assemble.Page({"models": []}, {"page.js": b"new", "page.css": b""}, (), "")
    monkeypatch.setattr(assemble, "build_page", lambda *_: page)
    monkeypatch.setattr(assemble, "folder_files", lambda *_: {"index.html": b"new"})
    monkeypatch.setattr(assemble, "single_file", lambda _: "one")
    monkeypatch.setattr(assemble, "_single_name", lambda _: "one.html")
    write_page([], earlier)
    assert sorted(path.name for path in earlier.iterdir()) == ["index.html", "one.html"]


# --- What the page's script does as the server does it ----------------------------------------------------------------


def run_node(script: str) -> object:
    """What a module's script, whose last line calls `say`, says."""
    if not (node := shutil.which("node")):
        pytest.skip("node is not installed")
    text = f"const say = (value) => process.stdout.write(JSON.stringify(value));\n{script}"
    command = [node, "--input-type=module", "--eval", text]
    done = subprocess.run(command, cwd=WEB, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_questions_are_put_into_the_form_of_a_problem_as_on_the_server():
    asked = [
        "",
        "  ",
        "5+3",
        " 12 - 7 ",
        "3 × 4",
        "8÷2 =?",
        "5 + x",
        "# Pergunta:\nx",
        "# Question:\nx\n--\n# Answer:\n",
        "a\nb",
        "Why?",
        "4 − 1",
        "7 x 8",
    ]
    cases = [(question, chooses, language) for question in asked for chooses in (False, True) for language in LANGUAGES]
    written = run_node(
        'import { problemPrompt } from "./page/problem.js";\n'
        f"const form = {to_json(problem_form())};\n"
        f"say({to_json(cases)}.map((asked) => problemPrompt(form, ...asked)));"
    )
    assert written == [problem_prompt(*case) for case in cases]


QUERIES = (
    "prompt=a%20b&temperature=0.8&seed=7&forced=3.4&lang=pt",
    "prompt=x&top_p=.5&min_p=1e-2&max_new_tokens=9&theme=dark",
    "model=measured&prompt=%23+Pergunta%3A%0AQuanto&mute=L2.E4",
)


def test_links_are_read_as_on_the_server(releases):
    catalogue = Catalogue([str(releases / "measured")], with_local=False)
    read = run_node(
        'import { isLink, readLink } from "./page/links.js";\n'
        f"const known = {{ settings: {to_json(list(assemble.LIMITS))}, tampering: {to_json(NAMES)} }};\n"
        f"const queries = {to_json(QUERIES)}.map((text) => new URLSearchParams(text));\n"
        'const wrong = ["forced=a.b", "prompt=x&model=other"].map((text) => {\n'
        '  try { readLink(new URLSearchParams(text), known, ["measured"]); } catch (error) { return error.mistake; }\n'
        "});\n"
        'say([queries.map((query) => readLink(query, known, ["measured"])), isLink(queries[0]), wrong]);'
    )
    assert read[1:] == [True, ["link_forced", "no_model"]]
    for query, mine in zip(QUERIES, read[0], strict=True):
        theirs = read_link(catalogue, dict(parse_qsl(query)))
        sampling = settings_of(theirs.sampling)
        assert (mine["model"], mine["prompt"], tuple(mine["forced"])) == (theirs.model, theirs.prompt, theirs.forced)
        assert {name: sampling[name] for name in mine["sampling"]} == mine["sampling"]
    assert read[0][2]["tampering"] == {"mute": "L2.E4"}


def test_a_conversation_is_written_as_its_template_writes_it(tiny_release, tmp_path):
    make_chatty(tiny_release, tmp_path / "chatty")
    model = Catalogue([str(tmp_path / "chatty")], with_local=False).open("chatty")
    form = conversation_form(model)
    messages = say("2 + 3", "5", "And <|end|> of it?", " 6 ", "4 + 5")
    written = run_node(
        'import { breakSpecial, writeConversation } from "./generations.js";\n'
        f"const form = {to_json(form)};\n"
        f"const messages = {to_json(messages)}.map(({{ role, content }}) => "
        "({ role, content: breakSpecial(content, form.special) }));\n"
        "say(writeConversation(form, messages));"
    )
    assert written == conversation_prompt(model, messages)


def test_a_template_that_does_more_is_refused(tiny_release, tmp_path):
    template = CHAT_TEMPLATE.replace("message['content'] +", "message['content'] | upper +")
    assert template != CHAT_TEMPLATE
    make_chatty(tiny_release, tmp_path / "chatty", template)
    model = Catalogue([str(tmp_path / "chatty")], with_local=False).open("chatty")
    with pytest.raises(AxionError, match="cannot follow its chat template"):
        conversation_form(model)
