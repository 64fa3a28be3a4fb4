"""The card says what release.json says, and nothing else."""

import re

import pytest
import yaml
from huggingface_hub import ModelCard

from axion.errors import AxionError
from publish.card import TEMPLATES, duration, quantity, render_card


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_a_figure_that_changes_in_release_json_changes_in_the_card(info):
    results = info["results"]
    changes = [
        (info["parameters"], "total", 987_654, "987,654"),
        (info["parameters"], "active", 876_543, "876.543"),  # the Portuguese summary
        (info["parameters"]["active_components"], "router", 4_321, "| 4,321 |"),
        (info["parameters"]["cache"], "values_per_token_and_layer", 77, "latents only: 77 numbers"),
        (info["training"], "seconds", 99.0, "99 seconds"),
        (info["training"], "git_commit", "b" * 40, "b" * 40),
        (info["training"]["curve"][0], "val_loss", 4.987, "| 4.987 |"),
        (info["training"]["machine"], "processor", "Another One", "2 cores of Another One"),
        (info["data"], "dropped_for_held_out_pairs", 31, "31 real problems"),
        (info["data"]["train"]["by_source"]["gsm8k"], "tokens", 34_567, "| 34,567 |"),
        (results["gsm8k_validation"], "bits_per_byte", 1.234, "| 1.234 |"),
        (results["gsm8k_validation"], "command", "some command", "`some command`"),
        (results["arithmetic"]["scores"][0], "accuracy", 0.777, "| 77.7% ("),
        (results["arithmetic"]["scores"][0], "interval", [0.111, 0.888], "11.1% to 88.8%"),
        (results["gsm8k_test"], "accuracy", 0.345, "it solves 34.5%"),
        (results["expert_load"]["together"], "highest", 1.777, "1.777 times its fair share"),
        (info["architecture"], "max_position_embeddings", 456, "It reads 456 tokens"),
        (info, "repo_id", "another/Name", '"another/Name"'),
        (info, "tag", "v7.7", 'revision = "another/Name", "v7.7"'),
    ]
    for place, key, value, text in changes:
        before = render_card(info)
        assert text not in before, text
        place[key] = value
        assert text in render_card(info), text


def test_the_template_states_no_figure_of_its_own():
    for template in TEMPLATES.glob("*.md.j2"):
        text = template.read_text(encoding="utf-8")
        text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)  # code to be run, not figures
        text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", text, flags=re.DOTALL)
        for name in ("DeepSeek-V3", "GSM8K"):
            text = text.replace(name, "")
        assert re.findall(r".*\d.*", text) == [], f"{template.name} has a figure that release.json does not rule"


def test_a_missing_figure_is_an_error_that_names_it(info):
    del info["training"]["seconds"]
    with pytest.raises(AxionError, match="seconds"):
        render_card(info)


def test_the_front_matter_is_what_the_hub_reads(info, release):
    card = ModelCard.load(release / "README.md")
    data = front_matter(render_card(info))
    assert data["license"] == "mit" and data["language"] == ["en", "pt"]
    assert data["library_name"] == "transformers" and data["pipeline_tag"] == "text-generation"
    assert data["datasets"] == ["openai/gsm8k"]
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values["bits_per_byte"] == info["results"]["gsm8k_validation"]["bits_per_byte"]
    names = [(result.dataset_name, result.metric_type) for result in card.data.eval_results]
    assert len(names) == len(set(names)) == 7  # two losses, one test set, two by two sums


def test_what_was_not_measured_is_said_to_be_so(info):
    info["results"]["gsm8k_test"] = {"skipped": "no network"}
    card = render_card(info)
    assert "- `gsm8k_test` was not measured: no network" in card
    assert "it solves" not in card
    assert all(result["dataset"].get("split") != "test" for result in front_matter(card)["model-index"][0]["results"])


def test_a_model_of_synthetic_data_names_no_dataset(info):
    info["dataset"] = None
    card = render_card(info)
    assert "datasets" not in front_matter(card) and "huggingface.co/datasets" not in card


def test_the_original_release_is_named_where_there_was_one(info):
    assert "original release counts" not in render_card(info)
    info["name"] = "axion1-v0.1"
    assert "original release counts 343,616 parameters" in render_card(info)


def test_no_placeholder_is_left(info):
    card = render_card(info)
    assert not re.search(r"\{\{|\{%|More Information Needed|None|Undefined|TODO", card)
    assert "\n\n\n\n" not in card


def test_a_family_without_a_template_is_one_line(info):
    info["family"] = "nosuch"
    with pytest.raises(AxionError, match=r"model_cards/nosuch\.md\.j2"):
        render_card(info)


def test_pip_is_told_versions_that_it_can_find(info):
    info["training"]["libraries"]["torch"] = "9.8.7+cpu"
    assert "pip install torch==9.8.7 transformers==" in render_card(info)


@pytest.mark.parametrize(("seconds", "text"), [(48, "48 seconds"), (570, "9.5 minutes"), (9000, "2.5 hours")])
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(344_224, "344,224"), (671e9, "671 billion"), (14.8e12, "14.8 trillion")])
def test_quantities(number, text):
    assert quantity(number) == text
