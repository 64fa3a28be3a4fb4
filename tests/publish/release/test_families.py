"""The release of each family: its card reads as that family's, and has the files and sections that it needs."""

import json
import re
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from axion import originals
from axion.families import FAMILIES, has_experts
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.recipe import load_recipe
from axion.release import open_release
from publish.check.lint import lint
from publish.hub.verify import verify_release
from publish.manifest import EXPERT_LOAD, files_in
from publish.markdown import python_snippets
from publish.release import exports
from publish.release.build import Ingredients, build_release, refresh
from publish.release.card import python_of_card, render_card, template_files
from tests.publish.conftest import MEASURED, REPO_ID, RUN
from tests.publish.release.test_card import BLOCKS

GROUPED = "attention: gqa, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8, intermediate_size: 32"
LATENT = "num_attention_heads: 2, q_lora_rank: null, kv_lora_rank: 8, qk_nope_head_dim: 12, qk_rope_head_dim: 4"
YARN = "{rope_type: yarn, factor: 10, original_max_position_embeddings: 64, beta_fast: 16, beta_slow: 1, mscale: 1}"
SHAPES = {
    "axiom-dense": f"num_hidden_layers: 2, first_k_dense_replace: 2, {GROUPED}",
    "mini-axion1": f"num_hidden_layers: 6, first_k_dense_replace: 6, {GROUPED}, projection_rank: 4, "
    "num_shared_layers: 2, num_loops: 3, dropout: 0.05",
    "nano-deepseek-v3": f"num_hidden_layers: 4, first_k_dense_replace: 2, {LATENT}, v_head_dim: 16, "
    f"moe_intermediate_size: 16, intermediate_size: 32, rope_parameters: {YARN}, num_nextn_predict_layers: 1",
}
RECIPE = """name: {family}-tiny
title: Tiny
family: {family}
version: "0.1"
repo_name: Axion-tiny
architecture: {{hidden_size: 32, max_position_embeddings: 128, {shape}}}
tokenizer: {{vocab_size: 320}}
training: {{window: 128, optimizer: adamw}}
"""


def make_run(family: str, tiny_release: Path, folder: Path) -> Path:
    """A finished run with random weights."""
    (folder / "recipe.yaml").write_text(RECIPE.format(family=family, shape=SHAPES[family]))
    recipe = load_recipe(folder / "recipe.yaml")
    final = shutil.copytree(tiny_release, folder / "run" / "final")
    torch.manual_seed(0)
    sizes = {"vocab_size": recipe.tokenizer.num_tokens, **recipe.tokenizer.special_ids}
    model = AxionForCausalLM(AxionConfig(**sizes, **recipe.architecture))
    if model.config.num_nextn_predict_layers:
        model.attach_mtp()
    model.save_pretrained(final)
    (final.parent / "metrics.csv").write_text("step,tokens,train_loss,val_loss,val_bits_per_byte\n1,9,5.5,5,3\n")
    (final.parent / "run.json").write_text(json.dumps(RUN | {"recipe": recipe.to_yaml()}))
    return final.parent


def measured(run: Path) -> dict:
    result = deepcopy(MEASURED)
    if not has_experts(open_release(run / "final").config):
        del result["results"]["expert_load"]
    return result


@pytest.fixture(scope="module")
def releases(tiny_release, tmp_path_factory) -> dict[str, Path]:
    """Family → the folder of a release of it."""
    folder = tmp_path_factory.mktemp("families")
    built = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AXION_BACKEND", "torch")  # no kernels are compiled for these shapes
        for family in SHAPES:
            (folder / family).mkdir()
            run, target = make_run(family, tiny_release, folder / family), folder / family / "release"
            build_release(Ingredients(run, measured(run), REPO_ID), built.setdefault(family, target))
    return built


def card_of(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("family", SHAPES)
def test_a_release_of_every_family_is_complete_and_can_be_written_again(releases, family, tmp_path):
    folder = releases[family]
    assert lint(folder) == []
    assert (EXPERT_LOAD in files_in(folder)) == (family == "nano-deepseek-v3")
    assert bool(json.loads((folder / "trace.json").read_text())["favourites"]) == (family == "nano-deepseek-v3")
    refresh(folder, REPO_ID, tmp_path / "again")
    assert card_of(tmp_path / "again") == card_of(folder) and lint(tmp_path / "again") == []
    card = card_of(folder)
    assert not re.search(r"\{\{|\{%|\bNone\b|Undefined|\n\n\n\n", card) and not re.search(
        r"[ \t]+$", card, re.MULTILINE
    )
    body = card.split("---\n", 2)[2]
    assert BLOCKS.sub("", body).strip("\n") == "" and "\n\n\n" not in body


@pytest.mark.slow
@pytest.mark.parametrize("family", SHAPES)
def test_a_release_of_every_family_loads_in_a_clean_process(releases, family):
    assert "the card's snippets run" in verify_release(releases[family])


@pytest.mark.parametrize("family", SHAPES)
def test_a_dense_card_says_nothing_of_routing_but_that_there_is_none(releases, family):
    card, is_dense = card_of(releases[family]), family != "nano-deepseek-v3"
    assert ("no experts and no router" in card) == is_dense
    for words in (
        "expert load",
        "active per token",
        "the routers",
        "mixture of experts",
        "latents only",
        "expert-load.png",
    ):
        assert not (is_dense and words in card.lower()), words
    assert ("deepseek" in card.lower()) != is_dense


def test_the_missing_chart_of_a_mixture_is_reported(releases, tmp_path):
    shutil.copytree(releases["nano-deepseek-v3"], broken := tmp_path / "broken")
    (broken / EXPERT_LOAD).unlink()
    assert any(problem.file == EXPERT_LOAD for problem in lint(broken))


def test_the_dense_card_has_its_shape(releases):
    card = card_of(releases["axiom-dense"])
    for line in ("| attention heads | 4 |", "| key-value heads | 2 |", "| feed-forward width | 32 |"):
        assert line in card, line
    assert "| cached numbers per token and layer | 32 (plain attention: 64) |" in card
    assert "transformers' `llama`" in card and "It is a base model" in card


def test_the_looped_card_says_what_loops_cost(releases):
    folder = releases["mini-axion1"]
    card, info = card_of(folder), json.loads((folder / "release.json").read_text())
    assert "| entry + shared + exit layers | 2 + 2 + 2 |" in card and "| rank of every matrix | 4 |" in card
    rows = re.findall(r"^\| (\d+)( \(default\))? \| (\d+) \| (\d+) \|$", card, re.MULTILINE)
    assert [(int(loops), int(depth), int(kept)) for loops, _, depth, kept in rows] == [
        (loops, 4 + 2 * loops, 32 * (4 + 2 * loops)) for loops in (1, 2, 3, 4, 8)
    ]
    assert [loops for loops, default, *_ in rows if default] == ["3"]
    assert "was not measured" in card and "`<THINK>`" in card and "Dropout 5.0% in training" in card
    figures = {"bits_per_byte": 1.5, "tokens_per_second": 4321.5}
    losses = [{"loops": loops, "nats_per_token": loops + 0.25, **figures} for loops in (1, 5)]
    info["results"]["loops"] = {"documents": 77, "scores": losses, "command": "some command"} | {
        "machine": {"processor": "A Laptop", "cores": 3}
    }
    card = render_card(info)
    assert "| 5 | 14 | 448 | 5.250 | 1.500 | 4,322 |" in card and "the same 77 held-out" in card
    assert "read on 3 cores of A Laptop; `some command`" in card and "was not measured" not in card
    assert "solved" not in card
    losses[1]["problems"] = {"correct": 3, "total": 8, "accuracy": 0.375, "interval": [0.1, 0.7]}
    card = render_card(info)
    assert "| 5 | 14 | 448 | 5.250 | 1.500 | 4,322 | 37.5% |" in card and "problems of several steps solved |" in card
    table = card.partition("## Loops")[2].partition("The losses")[0]
    assert {line.count("|") for line in table.splitlines() if line.startswith("|")} == {8}


def test_the_reasoning_card_says_only_what_its_shape_has(releases):
    info = json.loads((releases["mini-axion1"] / "release.json").read_text())
    looped = render_card(info)
    plain = info["architecture"] | {"num_shared_layers": 0, "num_loops": 1, "projection_rank": None}
    card = render_card(info | {"architecture": plain})
    for words in ("looped", "## Loops", "low rank", "posto baixo", "used several times", "usadas várias vezes"):
        assert words in looped and words not in card.partition("---\n\n")[2], words
    assert (
        "uses grouped queries" in card and "a dense decoder." in card and not re.search(r"[ \t]+$|\n\n\n", card, re.M)
    )


def test_the_nano_card_lists_every_setting_of_the_original(releases):
    card = card_of(releases["nano-deepseek-v3"])
    for setting in originals.NANO_SETTINGS:
        assert f"| `{setting.name}` |" in card
    assert "| `model.num_layers` | 6 | `num_hidden_layers` | 4 |" in card
    assert originals.own_value(originals.NANO_SETTINGS[0], {}, {}) == originals.ABSENT
    assert "no latent attention" in card and "| 10 | `rope_parameters.factor` | 10 |" in card
    assert "| YaRN | factor 10 from 64 tokens | factor 40 from 4,096 tokens |" in card


def test_a_release_keeps_the_layer_of_multi_token_prediction(releases):
    folder = releases["nano-deepseek-v3"]
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert any(name.startswith("model.layers.4.") for name in file.keys())  # noqa: SIM118 (no dict)
    size = sum(weight.numel() for weight in open_release(folder).mtp_model.mtp.parameters())
    assert f"multi-token prediction has {size:,} more" in card_of(folder)
    assert "| multi-token prediction depth | 1 | 1 |" in card_of(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_template_of_its_own(family):
    files = [path.name for path in template_files(family)]
    assert files[0] == f"{family}.md.j2" and files[1] == "base.md.j2" and len(files) > 10


@pytest.mark.parametrize("family", SHAPES)
def test_the_snippets_of_a_card_are_those_of_its_template(releases, family):
    info = json.loads((releases[family] / "release.json").read_text())
    snippets = python_snippets(card_of(releases[family]))
    assert snippets and set(snippets) <= set(python_of_card(info, REPO_ID))
    for snippet in snippets:
        compile(snippet, "card", "exec")


@pytest.mark.parametrize(
    ("family", "form", "written_as"),
    [("axiom-dense", "native", "llama"), ("nano-deepseek-v3", "native", "deepseek_v3")],
)
def test_the_card_of_another_form_names_its_architecture(releases, family, form, written_as):
    info = json.loads((releases[family] / "release.json").read_text())
    facts = exports._facts(info, open_release(releases[family]), releases[family], form, REPO_ID)
    card = exports.render_card(facts)
    assert f"transformers' own `{written_as}`" in card and ("expert" in card) == (family == "nano-deepseek-v3")
