"""A fine-tuned release and its adapter: what they say of their origin, and their way to a local Hub."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from axion.errors import AxionError
from axion.evaluation import speed
from axion.recipe import LoraRecipe, load_recipe
from axion.release import open_release
from axion.training.finetune import Settings, finetuning_recipe
from axion.training.run import train
from publish import pipeline
from publish.check.lint import lint
from publish.pipeline import PublishRequest, publish
from publish.release import adapter, measure
from publish.release.build import Ingredients, build_release, refresh
from publish.steps import Steps
from tests.support.measured import write_info

REPO_ID, BASE_ID = "someone/Axion-tiny-Chat", "someone/Axion-tiny"


@pytest.fixture(scope="module")
def work(tiny_release, tmp_path_factory) -> Path:
    """A working folder with the base under releases/, conversations, and a run with LoRA."""
    folder = tmp_path_factory.mktemp("work")
    base = shutil.copytree(tiny_release, folder / "releases" / "axion-tiny")
    write_info(base, name="axion-tiny", family="axion1", repo_id=BASE_ID, tag="v0.1", title="Axion tiny", license="mit")
    rows = [{"instruction": f"Diga {n % 7}", "output": f"{n % 7}!"} for n in range(60)]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = Settings(epochs=4, batch_size=2, lora=LoraRecipe(rank=4))
        recipe = finetuning_recipe(open_release("axion-tiny"), ["chats.jsonl"], settings)
        run = train(recipe, start=open_release("axion-tiny"))
        patch.setattr(speed, "REPETITIONS", 1)
        patch.setattr(speed, "NEW_TOKENS", 2)
        with_files = load_recipe(run / "recipe.yaml", ["data.sources.chat.files=chats.jsonl"])
        measure.measure(run, with_files, [].append)
    return folder


@pytest.fixture(scope="module")
def run(work) -> Path:
    return work / "runs" / "axion-tiny-chat"


@pytest.fixture(scope="module")
def release(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "axion-tiny-chat"
    build_release(Ingredients(run, json.loads((run / measure.RESULTS_FILE).read_text()), REPO_ID), folder)
    return folder


def front_matter(folder: Path) -> dict:
    return ModelCard.load(folder / "README.md").data.to_dict()


def test_the_release_says_what_it_was_made_from(release, work):
    assert lint(release) == []
    metadata = front_matter(release)
    assert (metadata["base_model"], metadata["base_model_relation"]) == (BASE_ID, "finetune")
    card, info = (release / "README.md").read_text(encoding="utf-8"), json.loads((release / "release.json").read_text())
    assert f"fine-tuned from [{BASE_ID}](https://huggingface.co/{BASE_ID}) on conversations" in card
    assert "from scratch" not in card and "do zero" not in card and "apply" not in card.split("## Usage")[0]
    assert f"`chats.jsonl` (sha256 `{info['data']['files'][0]['sha256'][:16]}" in card
    assert f"Started from [{BASE_ID}](https://huggingface.co/{BASE_ID}) at `v0.1`" in card
    assert info["start"]["sha256"] in card and "LoRA of rank 4" in card
    assert f"python -m axion finetune {BASE_ID}@v0.1 --data chats.jsonl --lora --rank 4 --epochs 4" in card
    assert (release / "chat_template.jinja").is_file() and info["samples"][0]["prompt"].startswith("user: ")
    assert info["results"].keys() == {"validation", "expert_load", "experts", "speed"}
    assert json.loads((release / "trace.json").read_text())["prompt"].endswith("<|end|><|assistant|>")


def test_refreshing_it_keeps_what_it_is(release, tmp_path):
    refresh(release, REPO_ID, tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").iterdir()} == {path.name for path in release.iterdir()}
    assert front_matter(tmp_path / "again") == front_matter(release)


def test_the_adapter_names_the_model_it_belongs_to(release, run, work, tmp_path, monkeypatch):
    monkeypatch.chdir(work)
    built = adapter.build_adapter(run, release, REPO_ID, tmp_path)
    assert built.repo_id == f"{REPO_ID}-LoRA" and lint(built.folder) == []
    metadata = front_matter(built.folder)
    assert (metadata["base_model"], metadata["base_model_relation"], metadata["library_name"]) == (
        BASE_ID,
        "adapter",
        "peft",
    )
    config = json.loads((built.folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (BASE_ID, "v0.1")

    def spoil(change) -> list[str]:
        text = (built.folder / "README.md").read_text(encoding="utf-8")
        (built.folder / "README.md").write_text(change(text), encoding="utf-8")
        problems = [str(problem) for problem in lint(built.folder) if "sha256" not in str(problem)]
        (built.folder / "README.md").write_text(text, encoding="utf-8")
        return problems

    (problem,) = spoil(lambda text: text.replace("relation: adapter", "relation: finetune"))
    assert "has the base_model_relation 'finetune'" in problem and "write adapter" in problem
    (problem,) = spoil(lambda text: text.replace(f"base_model: {BASE_ID}", "base_model: other/model"))
    assert "has 'other/model' in base_model" in problem and BASE_ID in problem


def test_an_adapter_that_does_not_fit_is_not_published(release, run, work, tmp_path, monkeypatch):
    monkeypatch.chdir(work)
    other = shutil.copytree(run, tmp_path / "other")
    content = yaml.safe_load((other / "adapter" / "adapter_config.json").read_text())
    (other / "adapter" / "adapter_config.json").write_text(json.dumps(content | {"lora_alpha": 640}))
    with pytest.raises(AxionError, match="does not compute what axion-tiny-chat does"):
        adapter.build_adapter(other, release, REPO_ID, tmp_path)
    shutil.rmtree(other / "adapter")
    with pytest.raises(AxionError, match="has no adapter; fine-tune with --lora"):
        adapter.build_adapter(other, release, REPO_ID, tmp_path)
    start = json.loads((release / "release.json").read_text())["start"]
    with pytest.raises(AxionError, match=f"belongs to {BASE_ID}@v0.1, which is neither here nor on the Hub"):
        adapter.open_base(start | {"sha256": "0" * 64})


def test_both_reach_the_hub_under_one_tag(work, run, hub, monkeypatch):
    monkeypatch.chdir(work)
    monkeypatch.setattr("publish.hub.client.get_token", lambda: hub.token)
    monkeypatch.setattr(pipeline, "verify_release", lambda folder: f"verified {folder.name}")
    monkeypatch.setattr(pipeline, "verify_download", lambda download: f"verified {download.repo_id}")
    request = PublishRequest(
        str(run / "recipe.yaml"),
        REPO_ID,
        overrides=("data.sources.chat.files=chats.jsonl",),
        run=run,
        adapter=True,
    )
    summary = publish(request, Steps([].append))
    assert summary["exports"] == [f"{REPO_ID}-LoRA"]
    for name, relation in ((REPO_ID, "finetune"), (f"{REPO_ID}-LoRA", "adapter")):
        repo = hub.store.repos["models", name]
        files = repo.commits[repo.refs["refs/tags/v0.1"]].tree
        card = yaml.safe_load(files["README.md"].data.decode().split("---")[1])
        assert (card["base_model"], card["base_model_relation"]) == (BASE_ID, relation)
    assert "model.safetensors" not in files and hub.surprises == []


def test_what_cannot_be_published_is_refused_before_any_work(work, run):
    recipe = load_recipe(run / "recipe.yaml")
    with pytest.raises(AxionError, match="is made by `python -m axion finetune`; publish a finished run"):
        publish(PublishRequest(str(run / "recipe.yaml"), REPO_ID, recipe_files(), dry_run=True), Steps([].append))
    with pytest.raises(AxionError, match=r"axion1-v0\.1 has no adapter: it was not fine-tuned with --lora"):
        publish(PublishRequest("axion1-v0.1", REPO_ID, dry_run=True, skip_train=True, adapter=True), Steps([].append))
    assert recipe.start is not None and recipe.start.repo_id == BASE_ID


def recipe_files() -> tuple[str, ...]:
    return ("data.sources=[{kind: arithmetic, count: 300}]",)
