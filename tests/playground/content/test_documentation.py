"""The documentation: both languages have the same content, numbers match the model, and commands exist."""

import dataclasses
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from axion.data.format import QUESTION
from axion.errors import AxionError
from axion.families import latent_cache_values
from axion.inference.routing import routers
from axion.model.configuration_axion import AxionConfig
from axion.model.shape_axion import AxionShape
from axion.recipe import recipe_fields
from playground.api.openai import build_routes
from playground.api.requests import PARAMETER_NAMES, PARAMETERS
from playground.content.documentation import chapter_markdown, field_meanings, read_page, values
from playground.generate.catalogue import OpenModel
from playground.generate.rate_limits import BURST, STARTS_PER_MINUTE
from playground.locales import LANGUAGES
from tests.playground.conftest import ROOT
from tests.playground.generate.test_chat import open_model

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
BUNDLED = ROOT / "releases" / "axion1-v0.1"


@pytest.fixture(scope="module")
def bundled() -> OpenModel:
    return open_model(BUNDLED)


@pytest.fixture(scope="module")
def other(tiny_release: Path) -> OpenModel:
    return open_model(tiny_release)


def render_all(model: OpenModel, language: str) -> dict[str, str]:
    return {
        chapter.anchor: chapter_markdown(chapter, model, language, PARAMETER_NAMES) for chapter in read_page(language)
    }


def blocks(text: str, kind: str) -> list[str]:
    return [code for language, code in FENCE.findall(text) if language == kind]


def commands(language: str) -> list[list[str]]:
    """Every command line of a page's bash blocks, as words."""
    text = "\n".join(chapter.body for chapter in read_page(language))
    return [shlex.split(line) for block in blocks(text, "bash") for line in block.splitlines() if line.strip()]


# ------------------------------------------------------------------------------------------------------- both languages


@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_have_the_same_chapters_and_the_same_code(bundled, language):
    english, page = render_all(bundled, "en"), render_all(bundled, language)
    assert list(page) == list(english)
    for anchor, text in page.items():
        for kind in ("bash", "python"):
            assert blocks(text, kind) == blocks(english[anchor], kind), anchor
        assert len(blocks(text, "text")) == len(blocks(english[anchor], "text"))
        assert text.count("\n|") == english[anchor].count("\n|"), f"{anchor}: tables of another size"
        assert text.count("$$") == english[anchor].count("$$")
        assert set(CODE.findall(text)) == set(CODE.findall(english[anchor])), anchor


def test_titles_are_translated():
    titles = {language: [chapter.title for chapter in read_page(language)] for language in LANGUAGES}
    assert all(english != other for english, other in zip(titles["en"], titles["pt"], strict=True))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_shows_a_problem_in_the_form_of_the_data(bundled, language):
    (problem,) = blocks(render_all(bundled, language)["data"], "text")
    assert problem.startswith(QUESTION)
    assert problem.count("\n--\n") == 2


# ---------------------------------------------------------------------------------------------------- generated content


def rows(table: str) -> dict[str, list[str]]:
    """The generated table's cells by the name in their first cell."""
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines() if line[:1] == "|"]
    return {CODE.search(line[0])[1]: line for line in lines if CODE.search(line[0])}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_configuration_reference_lists_every_field(other, language):
    table = rows(render_all(other, language)["config"])
    assert set(table) - {"config.json"} == {field.name for field in dataclasses.fields(AxionConfig)} & set(
        AxionShape.__annotations__
    )
    for name in ("hidden_size", "kv_lora_rank", "n_routed_experts"):
        default, here = getattr(AxionConfig, name), getattr(other.release.config, name)
        assert table[name][1:3] == [f"`{default}`", f"`{here}`"]
    assert table["hidden_size"][1] != table["hidden_size"][2]
    assert "width of the residual stream" in table["hidden_size"][3]
    assert "*int or None*" in table["q_lora_rank"][0]


def test_every_field_of_the_docstring_is_found():
    described = re.findall(
        r"^        (\w[\w, ]*):", AxionShape.__doc__.partition("Args:")[2].partition("Raises:")[0], re.MULTILINE
    )
    names = [name.strip() for names in described for name in names.split(",")]
    assert list(field_meanings()) == names
    assert set(names) <= set(AxionShape.__annotations__)
    assert all(sentence.endswith((".", "…")) for sentence in field_meanings().values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_recipe_reference_lists_every_key(bundled, language):
    assert set(rows(render_all(bundled, language)["recipe"])) >= {key for key, _ in recipe_fields()}


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_match_the_model(bundled, other, language):
    for model in (bundled, other):
        page, facts, config = render_all(model, language), model.facts, model.release.config
        latent, plain = latent_cache_values(config)

        def write(count: int) -> str:
            return f"{count:,}".replace(",", {"en": ",", "pt": "."}[language])

        for value, count in ((plain, facts.plain_cache_bytes), (latent, facts.cache_bytes)):
            assert f"| {write(value)} | {write(count)} | {write(count * facts.context)} |" in page["attention"]
        assert f"{config.num_attention_heads} " in page["attention"]
        assert write(facts.total) in page["experts"] and write(facts.active) in page["experts"]
        assert f"{facts.experts_per_token} ÷ {facts.experts} =\n50%" in page["experts"]
        for router in routers(model.release.model).values():
            line = " | ".join(f"{bias:+.3f}" for bias in router.e_score_correction_bias.tolist())
            assert (line if language == "en" else line.replace(".", ",")) in page["experts"]
    assert render_all(bundled, language)["attention"] != render_all(other, language)["attention"]


def test_a_dense_model_has_its_own_text(tiny_release, tmp_path, other):
    import torch

    from axion.model.modeling_axion import AxionForCausalLM

    dense = tmp_path / "dense"
    shutil.copytree(tiny_release, dense)
    config = AxionConfig.from_pretrained(tiny_release)
    config.first_k_dense_replace = config.num_hidden_layers
    torch.manual_seed(0)
    AxionForCausalLM(config).save_pretrained(dense)
    page = render_all(open_model(dense), "en")["experts"]
    assert "has no experts" in page and "router" not in page


@pytest.mark.parametrize("name", ["hidden_act", "rope_parameters"])
def test_markup_in_a_config_is_not_shown(other, monkeypatch, name):
    attack = "<img src=x onerror=alert(1)>"
    monkeypatch.setattr(
        other.release.config, name, attack if name == "hidden_act" else {attack: 1, "rope_theta": attack}
    )
    for language in LANGUAGES:
        assert not any("<img" in text for text in render_all(other, language).values())
    monkeypatch.setattr(other.release.config, "routed_scaling_factor", attack)
    with pytest.raises(AxionError, match="numbers"):
        render_all(other, "en")


def test_pages_use_only_known_values(other):
    known = set(values(other, "en", PARAMETER_NAMES))
    for language in LANGUAGES:
        for chapter in read_page(language):
            assert set(re.findall(r"\{\{ (\w+) \}\}", chapter.body)) <= known


# ------------------------------------------------------------------------------------------------------------- commands


@pytest.fixture(scope="module")
def helps() -> dict[tuple[str, ...], str]:
    return {}


def help_of(helps: dict, *words: str) -> str:
    if words not in helps:
        told = subprocess.run([sys.executable, *words, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
        helps[words] = told.stdout
    return helps[words]


def option_names(words: list[str]) -> list[str]:
    return [word for word in words if word.startswith("--")]


def test_every_command_and_option_exists(helps):
    seen = 0
    for words in commands("en"):
        if words[:2] == ["python", "-m"]:
            module, first = words[2], words[3]
            listed = re.findall(r"^│ (\w+) ", help_of(helps, "-m", module), re.MULTILINE)
            command = (
                first if first in listed else "release"
            )  # `publish VERSION` is short for `publish release VERSION`
            assert first in listed or (module == "publish" and (BUNDLED.parent / first).is_dir())
            told = help_of(helps, "-m", module, command)
        elif words[:2] == ["python", "app.py"]:
            told = help_of(helps, "app.py")
        elif words[0] in ("pip", "axion"):
            assert words in (["pip", "install", "."], ["axion", "play"])
            continue
        else:
            assert words[0] == "make"
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE)
            assert all(re.search(rf"^{word.partition('=')[0]} \?=", makefile, re.MULTILINE) for word in words[2:])
            continue
        for option in option_names(words):
            assert re.search(rf"{option}\b", told), f"{option} is no option of {' '.join(words)}"
            seen += 1
        for override in (value for option, value in pairwise(words) if option == "--set"):
            assert override.partition("=")[0] in dict(recipe_fields())
    assert seen > 10


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_path_on_a_page_exists(language):
    text = "\n".join(chapter.body for chapter in read_page(language))
    for path in set(re.findall(r"\b(?:configs|releases)/[\w.-]*", text)) | {"requirements.txt", "Makefile"}:
        assert (ROOT / path).exists(), path
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert f"Python {needed.removeprefix('>=')}" in text


@pytest.mark.slow
def test_the_python_code_runs(tmp_path):
    """As a user runs it: in a folder without this project's code."""
    (tmp_path / "releases").symlink_to(BUNDLED.parent)
    (code,) = blocks("\n".join(chapter.body for chapter in read_page("en")), "python")
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "8"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_description_of_the_api_matches_it(bundled, language):
    page = render_all(bundled, language)["http"]
    named = {path for _, path in re.findall(r"`(GET|POST) (/\S+)`", page)}
    assert named == {route.path for route in build_routes(None, None) if "{" not in route.path}
    parameters = [name for name in rows(page) if re.fullmatch(r"[a-z_]+", name)]
    assert len(parameters) == 9
    assert {*parameters, "stop", "stream", "logprobs", "routing"} <= PARAMETERS["completion"] & PARAMETERS["chat"]
    assert f" {BURST} " in page and f" {STARTS_PER_MINUTE} " in page


# ---------------------------------------------------------------------------------------------------------- the browser


@pytest.fixture
def documentation(page):
    page.get_by_role("tab", name="API").click()
    page.wait_for_selector("#doc-recipe table")
    return page


@pytest.mark.browser
def test_contents_lead_to_every_chapter(documentation):
    links = documentation.locator(".ax-contents a")
    assert links.all_text_contents() == [chapter.title for chapter in read_page("en")]
    links.nth(8).click()
    documentation.wait_for_function("document.activeElement.id === 'doc-experts'")
    documentation.wait_for_function("Math.abs(document.getElementById('doc-experts').getBoundingClientRect().top) < 60")
    assert urlsplit(documentation.url)[2:] == ("/", "", "doc-experts")  # still on the same page
    assert links.nth(0).bounding_box()["y"] >= 0  # the contents stay visible


@pytest.mark.browser
def test_formulas_are_rendered_and_nothing_is_loaded_from_other_hosts(browser, server):
    asked: list[str] = []
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.address}/?lang=pt")
    page.wait_for_selector(".axion-view:not([data-state=empty])")
    page.get_by_role("radio", name="PT").wait_for(state="attached")
    page.wait_for_function("document.documentElement.lang === 'pt'")
    page.locator(".overflow-menu button").first.click()
    page.get_by_role("button", name="API").last.click()
    page.wait_for_selector("#doc-attention .katex")
    assert page.locator("#doc-what h2").text_content().strip() == read_page("pt")[0].title
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    assert not [url for url in asked if not url.startswith((server.address, "data:", "blob:"))]
    page.close()


@pytest.mark.browser
def test_the_numbers_follow_the_chosen_model(documentation, releases):
    def chosen(name: str) -> str:
        return chapter_markdown(read_page("en")[7], open_model(releases / name), "en", PARAMETER_NAMES)

    assert chosen("plain") != chosen("endless")
    documentation.locator("#model input").click()
    documentation.get_by_role("option", name="endless", exact=True).click()
    context = json.loads((releases / "endless" / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"]
    documentation.wait_for_function(
        "wanted => document.querySelector('#doc-attention th:last-child').textContent.includes(wanted)",
        arg=f"{context:,}",
    )
    documentation.locator("#model input").click()
    documentation.get_by_role("option", name="broken", exact=True).click()
    documentation.wait_for_selector("#doc-attention", state="hidden")
