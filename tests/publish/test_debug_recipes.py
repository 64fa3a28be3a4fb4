"""The debug recipe of each family, all the way: trained, published to a local Hub, verified, and shown on the page."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from axion.evaluation import speed
from axion.families import FAMILIES, has_experts
from axion.files import read_json
from axion.inference.sampling import Sampling
from axion.inference.stream import stream
from axion.recipe import load_recipe
from axion.release import Release, open_release
from playground.api.requests import PARAMETER_NAMES
from playground.content.documentation import chapter_markdown, read_page
from playground.content.experts import describe_experts
from playground.content.model import model_html
from playground.generate.catalogue import Catalogue, OpenModel
from playground.generate.comparison import compared_events
from playground.generate.events import live_events, recorded_events
from playground.generate.presets import first_prompt
from playground.generate.request import read_request
from playground.locales import LANGUAGES
from publish.hub import clean_process, verify
from publish.hub.delivery import Download
from publish.pipeline import PublishRequest, publish
from publish.release import measure
from publish.steps import Steps
from tests.hub.fixtures import point_client
from tests.hub.server import Hub

DEBUG = {family: f"{family}-debug" for family in FAMILIES}
"""Family → its debug recipe."""
WITH_CHECKPOINTS = "nano-deepseek-v3"
"""The family whose checkpoints are published too; they have a layer of multi-token prediction."""
STEPS = ["preflight", "train", "evaluate", "build", "lint", "reload", "push", "verify", "tag", "announce"]


def run_here(
    folder: Path, scratch: Path, python: str = sys.executable, download: Download | None = None
) -> dict[str, torch.Tensor]:
    """What `publish.hub.verify.run_clean` does, in this process, which saves the start of another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)  # a snippet imports the release's own tokenizer.py
        patch.delitem(sys.modules, "tokenizer", raising=False)
        computed = clean_process.compute(download.repo_id, download.commit) if download else clean_process.compute(".")
        for snippet in verify._snippets(folder, by_name=False):
            exec(compile(snippet, "snippet", "exec"), {"__name__": "snippet"})
    return computed


@pytest.fixture(scope="module")
def work(tmp_path_factory, hub_server: Hub) -> Iterator[tuple[Path, dict[str, list[str]]]]:
    """A working folder with the four runs and releases, all published to a local Hub; family → the steps it took."""
    folder, steps = tmp_path_factory.mktemp("debug"), {}
    hub_server.reset()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in hub_server.variables.items():
            patch.setenv(name, value)
        point_client(hub_server, patch)
        patch.setattr("publish.hub.client.get_token", lambda: hub_server.token)
        patch.chdir(folder)
        patch.setenv("AXION_KERNELS_FLAGS", "-O1")  # the kernels are compiled in half the time
        patch.setattr("axion.evaluation.subject.ARITHMETIC_PROMPTS", 3)
        patch.setattr(speed, "REPETITIONS", 1)
        patch.setattr(speed, "NEW_TOKENS", 2)
        patch.setattr(speed, "measure_memory", lambda *_: None)
        patch.setattr(measure, "SAMPLE_TOKENS", 8)
        patch.setattr(verify, "run_clean", run_here)
        patch.setattr("axion.training.history.FEWEST_STEPS", 12)
        for family, name in DEBUG.items():
            request = PublishRequest(name, f"someone/{name}", history=family == WITH_CHECKPOINTS)
            publish(request, Steps(steps.setdefault(family, []).append))
        yield folder, steps
    assert hub_server.surprises == []


@pytest.fixture(scope="module", params=DEBUG)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def release(work, family) -> Release:
    return open_release(work[0] / "releases" / DEBUG[family])


@pytest.fixture(scope="module")
def model(work, release) -> OpenModel:
    catalogue = Catalogue([str(release.folder)])
    return catalogue.open(release.name)


def test_it_is_trained_published_and_verified(work, family, hub_server):
    more = {WITH_CHECKPOINTS: ["history"]}.get(family, [])
    assert [line.split()[0] for line in work[1][family]] == [*STEPS[:-1], *more, STEPS[-1]]
    refs = hub_server.snapshot()["repos"][f"models/someone/{DEBUG[family]}"]["refs"]
    assert f"refs/tags/v{load_recipe(DEBUG[family]).version}" in refs
    assert ("refs/heads/step12-tokens0M" in refs) == (family == WITH_CHECKPOINTS)


def test_it_carries_what_the_model_wrote_as_it_learned(release):
    moments = read_json(release.history_file)["checkpoints"]
    assert [moment["step"] for moment in moments] == [0, 16, 24]
    assert "history.json" in release.info["files"] and "history.json" in (release.folder / "README.md").read_text()


def test_it_learned_something_and_generates(release):
    losses = [row["val_loss"] for row in release.info["training"]["curve"]]
    assert losses[-1] < losses[0]
    sampling = Sampling(max_new_tokens=4, min_new_tokens=4)
    steps = list(stream(release.model, release.tokenizer, "# Pergunta:\n", sampling))
    rows = len(steps[0].routing.experts)
    assert sum(not step.is_prompt for step in steps) == 4
    assert (rows > 0) == has_experts(release.config) and {len(step.routing.experts) for step in steps} == {rows}


def test_the_page_shows_it(model, family):
    facts, release = model.facts, model.release
    assert (facts.layers > 0) == has_experts(release.config)
    recorded = list(recorded_events(model))
    assert recorded[0]["rows"] == [list(row) for row in facts.rows] and recorded[-1]["kind"] == "end"
    assert json.dumps(describe_experts(model), allow_nan=False)
    assert release.knows_questions and not release.openings  # all four were taught problems
    for language in LANGUAGES:
        shown = model_html(model, language)
        assert f"{facts.total:,}".replace(",", {"en": ",", "pt": "."}[language]) in shown
        pages = {
            chapter.anchor: chapter_markdown(chapter, model, language, PARAMETER_NAMES)
            for chapter in read_page(language)
        }
        assert {"axion1": "Axion1", "mini-axion1": "MiniAxion1", "axiom-dense": "Axiom-Dense"}.get(
            family, "Nano-DeepSeek-V3"
        ) in pages["families"]
        assert ("no experts" in pages["experts"] or "não tem especialistas" in pages["experts"]) == (facts.layers == 0)


def test_the_page_generates_and_compares_with_it(work, release):
    catalogue = Catalogue([str(release.folder)])
    asked = {"model": release.name, "prompt": first_prompt(release, "en").text, "sampling": {"max_new_tokens": 3}}
    request = read_request(catalogue, asked)
    kinds = [event["kind"] for event in live_events(catalogue.open(release.name), request)]
    assert kinds[0] == "start" and kinds[-1] == "end" and "error" not in kinds
    compared = list(compared_events(catalogue, {"a": request, "b": request}))
    assert {event["side"] for event in compared} == {"a", "b"} and "error" not in {event["kind"] for event in compared}
