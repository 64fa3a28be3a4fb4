"""The card states what release.json says, and nothing else."""

import re
from copy import deepcopy

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from axion.errors import AxionError
from axion.recipe import load_recipe
from publish.markdown import plain_text
from publish.release.card import card_files, check_metadata, render_card
from publish.release.templates import TEMPLATES, duration, quantity

BLOCKS = re.compile(r"<!-- axion:start ([a-z-]+) -->\n(.*?)\n<!-- axion:end \1 -->", re.DOTALL)

NOT_SHOWN = re.compile(
    r"""
    format
    | architecture\.(intermediate_size|num_key_value_heads|topk_group|rope_parameters.*|rms_norm_eps|attention_dropout)
    | architecture\.(initializer_range|pad_token_id|bos_token_id|eos_token_id|head_dim|num_loops)
    | parameters\.(layers|depth)
    | parameters\.cache\..*bytes_per_.*  # the card states the cache in numbers, and in bytes as measured
    | data\.bytes_per_token\..* | data\..*\.bytes
    | training\.machine\.torch_threads | results\.speed\.machine\.torch_threads
    | training\.recipe\.(grad_accum|muon_momentum|weight_decay|adam_.*|final_rate|max_grad_norm|mtp_.*)
    | training\.recipe\.(evaluations|(keep_)?checkpoints|keep_best|distributed\..*)
    | results\.validation\.bytes
    | results\.arithmetic_reasoning\.scores\.\d\.digits  # the problems are those of results.arithmetic
    | results\.expert_load\.\w+\.layers\..*  # these are in the picture
    """,
    re.VERBOSE,
)
"""Numbers of release.json that the card leaves to recipe.yaml, metrics.csv and the pictures."""


@pytest.fixture
def info(info):
    """That of a version of the series."""
    info["roadmap"][0]["name"] = info["name"]
    return info


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def numbers(node, path=()):
    """(path, number) for every number in a JSON object."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from numbers(value, (*path, key))
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield path, node


def with_change(info: dict, path: tuple, value: object) -> dict:
    changed = deepcopy(info)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


def test_every_number_on_the_card_comes_from_release_json(info):
    before, shown = card_files(info), 0
    for path, number in numbers(info):
        name = ".".join(map(str, path))
        changed = card_files(with_change(info, path, 2 * number + 3)) != before
        assert changed != bool(NOT_SHOWN.fullmatch(name)), name
        shown += changed
    assert shown > 120


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("parameters.total", 987_654, "987,654"),
        ("parameters.active", 876_543, "876.543"),  # the Portuguese summary
        ("parameters.active_components.router", 4_321, "| 4,321 |"),
        ("parameters.cache.values_per_token_and_layer", 77, "latents only: 77 numbers"),
        ("training.seconds", 99.0, "99 seconds"),
        ("training.git_commit", "b" * 40, "b" * 40),
        ("training.curve.0.val_loss", 4.987, "| 4.987 |"),
        ("training.machine.processor", "Another One", "2 cores of Another One"),
        ("training.date", "2041-12-31", "year    = {2041}"),
        ("data.dropped_for_held_out_pairs", 31, "31 real problems"),
        ("data.train.by_source.gsm8k.tokens", 34_567, "| 34,567 |"),
        ("measured.date", "2041-12-31", "Measured on 2041-12-31"),
        ("measured.test_files.0.sha256", "0" * 64, "`0000000000000000…`"),
        ("results.validation.bits_per_byte", 1.234, "| 1.234 |"),
        ("results.validation.command", "some command", "`some command`"),
        ("results.arithmetic.scores.0.accuracy", 0.777, "| 77.7% |"),
        ("results.arithmetic.scores.0.interval", [0.111, 0.888], "11.1% to 88.8%"),
        ("results.gsm8k_test.accuracy", 0.345, "it solves 34.5%"),
        ("results.expert_load.together.highest", 1.777, "| 1.777 |"),
        ("results.speed.by_threads.0.decode_tokens_per_second", 4321.4, "| 4,321 tokens/s |"),
        ("results.speed.memory.peak_bytes", 987_600_000, "takes 987.6 MB at its peak"),
        ("results.speed.machine.processor", "Another One", "On 4 cores of Another One"),
        ("results.speed.command", "some command", "Measured with `some command`"),
        ("architecture.max_position_embeddings", 456, "It reads 456 tokens"),
        ("roadmap.4.parameters", 99_000_000, "| 99,000,000 |"),
        ("repo_id", "another/Name", '"another/Name"'),
        ("tag", "v7.7", 'revision = "someone/Axion-tiny", "v7.7"'),
    ],
)
def test_each_figure_is_in_its_place(info, path, value, text):
    path = tuple(int(key) if key.isdigit() else key for key in path.split("."))
    assert text not in render_card(info)
    assert text in render_card(with_change(info, path, value))


@pytest.mark.parametrize(("correct", "recommended"), [(99, "# Raciocínio:"), (1, "# Resposta:")])
def test_the_card_recommends_the_most_accurate_prompt_ending(info, correct, recommended):
    for score in info["results"]["arithmetic_reasoning"]["scores"]:
        score["correct"] = correct
    card = render_card(info)
    assert f"For sums, **end the prompt in `{recommended}`**" in card
    assert f"| sums and differences | `{recommended}` |" in card
    assert f"({correct} of 101; 25.0% to 75.0%) |" in card and "41.0% (41 of 100; 25.0% to 75.0%) |" in card


def test_a_prompt_ending_that_was_not_measured_is_not_recommended(info):
    del info["results"]["arithmetic_reasoning"]
    assert "end the prompt in" not in render_card(info) and "How much is 12 + 30?" in render_card(info)


def test_the_card_says_that_the_two_losses_are_over_different_texts(info):
    said = "must not be compared with each other"
    assert said in render_card(info) and "(real problems with their solutions)" in render_card(info)
    for split in ("train", "validation"):  # only synthetic text: both losses are over the same mixture
        del info["data"][split]["by_source"]["gsm8k"]
    assert said not in render_card(info)


def test_log_code_demo_and_collection_are_linked_at_the_top(info):
    top = dict(BLOCKS.findall(render_card(info)))["about"]
    assert "(metrics.csv)" in top and "(https://huggingface.co/someone/collections)" in top and "Demo" not in top
    top = dict(BLOCKS.findall(render_card(info | {"space": "someone/page", "code": "https://example.org/axion"})))[
        "about"
    ]
    assert "[Demo](https://huggingface.co/spaces/someone/page)" in top and "[Code](<https://example.org/axion>)" in top


def test_sample_outputs_are_shown_as_written(info):
    info["samples"] = [{"prompt": "# Pergunta:\nWhy?\n--\n# Resposta:\n", "output": "Because <b>of</b> {{ 3 }} |"}]
    assert "\n# Resposta:\nBecause <b>of</b> {{ 3 }} |\n```" in render_card(info)


def test_the_code_files_are_those_of_the_release(info, release):
    said = re.search(r"comes with the weights, in (\d) files\n\((.*)\); read it", render_card(info))
    names = re.findall(r"`(\w+\.py)`", said[2])
    assert int(said[1]) == len(names) and set(names) == {path.name for path in release.glob("*_axion.py")}


def test_the_template_has_no_figures():
    text = (TEMPLATES / "axion1.md.j2").read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)  # code to be run, not figures
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", text, flags=re.DOTALL)
    for name in ("DeepSeek-V3", "GSM8K", "deepseek_v3"):
        text = text.replace(name, "")
    assert re.findall(r".*\d.*", text) == []


def test_the_whole_body_is_in_sections(info):
    for exports in ([], ["native", "gguf"]):
        body = render_card(info | {"exports": exports}).split("---\n", 2)[2]
        names = [name for name, _ in BLOCKS.findall(body)]
        assert len(names) == len(set(names)) == body.count("<!-- axion:start") == body.count("<!-- axion:end")
        assert BLOCKS.sub("", body).strip("\n") == ""
        assert set(re.split(r"<!-- axion:start .*?<!-- axion:end [a-z-]+ -->", body, flags=re.DOTALL)) <= {"\n", "\n\n"}
        for _, text in BLOCKS.findall(body):
            assert len(re.findall(r"^##? ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)) == 1


def test_a_changed_figure_changes_its_own_section_only(info):
    before, after = (
        dict(BLOCKS.findall(render_card(each))) for each in (info, info | {"roadmap": info["roadmap"][:2]})
    )
    assert {name for name in before if before[name] != after[name]} == {"roadmap"}


def test_a_missing_figure_is_an_error_that_names_it(info):
    for path in (("training", "seconds"), ("measured", "date"), ("results", "speed", "machine")):
        broken = deepcopy(info)
        place = broken
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        with pytest.raises(AxionError, match=path[-1]):
            card_files(broken)


def test_the_front_matter_is_what_the_hub_reads(info, release):
    card = ModelCard.load(release / "README.md")
    data = front_matter(render_card(info))
    assert data["license"] == "mit" and data["language"] == ["en", "pt"]
    assert data["library_name"] == "transformers" and data["pipeline_tag"] == "text-generation"
    assert data["datasets"] == ["openai/gsm8k"] and data["metrics"] == ["exact_match"]
    assert {"axion1", "moe", "custom_code"} <= set(data["tags"])
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values["bits_per_byte"] == info["results"]["validation"]["bits_per_byte"]
    names = [(result.dataset_name, result.metric_type) for result in card.data.eval_results]
    assert len(names) == len(set(names)) == 7  # two losses, one test set, two by two arithmetic tests


def test_the_benchmark_result_has_the_hubs_format_and_unit(info):
    (entry,) = parse_eval_result_entries(yaml.safe_load(card_files(info)[".eval_results/gsm8k.yaml"]))
    assert (entry.dataset_id, entry.task_id) == ("openai/gsm8k", "gsm8k")
    assert entry.value == round(100 * 7 / 1319, 2)  # per cent
    assert entry.date == "2031-02-04" and entry.source_url == "https://huggingface.co/someone/Axion-tiny"
    assert "7 of 1319" in entry.notes


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("results", "gsm8k_test"), {"skipped": "no data"}),
        (("results", "gsm8k_test", "dataset"), "someone/gsm8k-pt"),
        (("results", "gsm8k_test", "total"), 1318),
    ],
    ids=["not measured", "another data set", "a part of it"],
)
def test_other_data_is_not_reported_as_the_benchmark(info, path, value):
    assert list(card_files(with_change(info, path, value))) == ["README.md"]


def test_tasks_that_were_not_measured_are_listed(info):
    info["results"]["gsm8k_test"] = {"skipped": "no network"}
    card = render_card(info)
    assert "- `gsm8k_test` was not measured: no network" in card
    assert "it solves" not in card
    assert all(result["dataset"].get("split") != "test" for result in front_matter(card)["model-index"][0]["results"])
    del info["results"]["speed"]
    assert "## Speed" not in render_card(info) and "axion:start speed" not in render_card(info)


def test_memory_that_was_not_measured_is_left_out(info):
    info["results"]["speed"]["memory"] = None
    card = render_card(info)
    assert "fresh process" not in card and "The weights take 1.2 MB" in card


def test_a_model_of_synthetic_data_names_no_dataset(info):
    info |= {"dataset": None, "datasets": []}
    card = render_card(info)
    assert "datasets" not in front_matter(card) and "huggingface.co/datasets" not in card


def test_every_dataset_is_named(info):
    several = info | {"datasets": ["openai/gsm8k", "someone/tales"]}
    card = render_card(several)
    assert front_matter(card)["datasets"] == several["datasets"]
    link = "[{0}](https://huggingface.co/datasets/{0})"
    assert " and ".join(map(link.format, several["datasets"])) in card and "on its page for each data set" in card
    del info["datasets"]  # a release of an earlier version
    assert front_matter(render_card(info))["datasets"] == ["openai/gsm8k"]


def test_a_model_outside_of_the_series_has_neither_roadmap_nor_collection(info):
    card = render_card(info | {"name": "my-tales"})
    assert "axion:start roadmap" not in card and "/collections" not in card


def test_names_are_shown_as_they_are(info):
    name = "a|b_*c* `d` <e> [f](g) _h_.txt"
    info["data"]["sources"] = [{"kind": "text", "local_files": [{"name": name, "sha256": "0" * 64}]}]
    info["data"]["files"] = info["data"]["sources"][0]["local_files"]
    for split in ("train", "validation"):
        info["data"][split]["by_source"] = {"text": info["data"][split]["by_source"]["gsm8k"]}
    info["results"]["validation"] |= {"data": name, "command": f"python -m axion eval '{name}'"}
    info |= {"title": "Tales | <b>mine</b>", "dataset": None, "datasets": [], "openings": ["Once"], "samples": []}
    card = render_card(info)
    rows = [
        [unescaped(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in card.splitlines()
        if line[:1] == "|"
    ]
    assert [f"text of {name}", "1,000"] in [row[:2] for row in rows] and ["", info["title"], "DeepSeek-V3"] in rows
    (loss, _) = (row for row in rows if f"eval '{name}'" in row[-1])
    assert len(loss) == 4 and loss[0] == f"{name}, held-out documents: bits per byte" and loss[3][:2] == "``"
    assert f"# {plain_text(info['title'])}\n" in card and f"the text of {plain_text(name)}:" in card
    assert plain_text("tiny_stories.txt") == "tiny_stories.txt"


def unescaped(cell: str) -> str:
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell.strip())


def test_released_documents_are_linked_and_private_ones_mentioned(info):
    assert "heldout.jsonl" not in render_card(info | {"held_out": 0})
    card = render_card(info | {"held_out": 200})
    assert "[heldout.jsonl](heldout.jsonl) has 200 of the held-out documents" in card and "also covers" in card
    private = "were read from local files and are not part of this release"
    assert private in render_card(info | {"held_out": 0, "has_local_text": True}) and private not in card


def test_the_original_release_is_named_where_there_was_one(info):
    assert "original release counts" not in render_card(info)
    info["name"] = "axion1-v0.1"
    assert "original release counts 343,616 parameters" in render_card(info)


def test_other_forms_are_linked_once_they_are_published(info):
    card = render_card(info)
    assert "someone/Axion-tiny-native" not in card and "llama" not in card.lower()
    card = render_card(info | {"exports": ["native", "gguf"]})
    assert "https://huggingface.co/someone/Axion-tiny-native" in card and "ollama run" in card
    assert "GGUF" not in render_card(info | {"exports": ["native"]})


def test_the_roadmap_marks_this_version_and_released_and_planned_ones(info):
    info["roadmap"][1] |= {"released": True, "active": 700_000, "parameters": 1_511_111}
    info["roadmap"][2] |= {"active": None, "parameters": 6_000_000}
    rows = [line for line in render_card(info).splitlines() if re.match(r"\| 0\.\d \|", line)]
    assert [row.split("|")[-2].strip() for row in rows] == ["this model", "released", *["planned"] * 3]
    assert "| 1,511,111 | 700,000 |" in rows[1] and "6,000,000, nominal" in rows[2]


def test_limitations_depend_on_the_size(info):
    said = [render_card(with_change(info, ("parameters", "total"), size)) for size in (344_224, 6_000_000, 100_000_000)]
    phrases = ("for a little arithmetic", "patterns of its training", "Fluency is no sign of knowledge")
    for card, phrase in zip(said, phrases, strict=True):
        assert [phrase in each for each in said].count(True) == 1 and phrase in card


def test_no_placeholder_is_left(info):
    card = render_card(info)
    assert not re.search(r"\{\{|\{%|More Information Needed|None|Undefined|TODO", card)
    assert "\n\n\n\n" not in card and not re.search(r"[ \t]+$", card, re.MULTILINE)


def test_an_unknown_family_is_reported_in_one_line(info):
    info["family"] = "nosuch"
    with pytest.raises(AxionError, match=r"family is .nosuch.; it must be one of: nano-deepseek-v3, axion1"):
        render_card(info)


def test_pinned_versions_have_no_local_build_tag(info):
    info["training"]["libraries"]["torch"] = "9.8.7+cpu"
    assert "pip install torch==9.8.7 transformers==" in render_card(info)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.8, "1 second"), (48, "48 seconds"), (570, "9.5 minutes"), (9000, "2.5 hours")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(344_224, "344,224"), (671e9, "671 billion"), (14.8e12, "14.8 trillion")])
def test_quantities(number, text):
    assert quantity(number) == text


def test_the_bundled_recipe_passes_before_training():
    check_metadata(load_recipe("axion1-v0.1"))
    check_metadata(load_recipe("axion1-v0.1", ["data.hub_id=null"]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("license=MIT", "license is 'MIT', which the Hub does not know"),
        ("license=other", "license is 'other'"),
        ("languages=[EN]", "languages has 'EN'"),
        ("languages=[english]", "languages has 'english'"),
        ("repo_name=Axion 1", "repo_name is 'Axion 1', not a valid name on the Hub"),
        ("version=0..1", r"version gives the tag 'v0\.\.1'"),
        ("version=one", "version gives the tag 'vone'"),
        ("data.hub_id=./gsm8k", r"data\.sources\.gsm8k\.hub_id is '\./gsm8k', not a valid name on the Hub"),
        ("data.hub_id=here/gsm8k", r"data\.sources\.gsm8k\.hub_id is 'here/gsm8k', which is a path of this machine"),
        ("data.sources=[{kind: text, hub_id: here/gsm8k}]", r"data\.sources\.text\.hub_id is 'here/gsm8k', which is a"),
        ("title=' Axion'", "title is ' Axion'"),
        ('title="a\\nb"', "write one line"),
    ],
)
def test_metadata_that_the_hub_would_refuse_is_an_error_before_training(override, message, tmp_path, monkeypatch):
    (tmp_path / "here" / "gsm8k").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AxionError, match=message) as caught:
        check_metadata(load_recipe("axion1-v0.1", [override]))
    assert "\n" not in str(caught.value)


def test_a_model_that_chooses_to_think_may_be_asked_without_a_heading(info):
    said = "the model chooses the heading by itself"
    assert said not in render_card(info)
    info["data"]["sources"] = [*info["data"].get("sources", []), {"kind": "phrasings", "thinking": True}]
    assert said in render_card(info)
