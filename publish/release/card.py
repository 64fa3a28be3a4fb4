"""The model card: a template filled from `release.json` alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import yaml
from huggingface_hub import ModelCardData
from pydantic import TypeAdapter, ValidationError

from axion import originals
from axion.data.format import ANSWER, REASONING, prompt
from axion.data.sources import SOURCES, AnySource, FileSource, Source
from axion.errors import AxionError, one_line
from axion.evaluation.results import (
    LOAD_SETS,
    measured,
    result_rows,
    skipped_tasks,
    with_current_names,
)
from axion.families import ROUTED_EXPERTS, get_family
from axion.recipe import Recipe
from publish.manifest import EVAL_RESULTS, REMOTE_CODE
from publish.markdown import plain_text, python_snippets
from publish.release.architecture import DEEPSEEK_ARXIV, compare_architecture, shape_of
from publish.release.metadata import check_dataset, check_front_matter, check_repo_name, check_tag
from publish.release.results import benchmark_results, evaluation_results
from publish.release.templates import TEMPLATES, environment

OWN_SECTIONS = {"arithmetic_reasoning", "expert_load", "loops", "speed"}
"""Tasks with a section of their own."""


def card_files(info: dict) -> dict[str, str]:
    """README.md, and `.eval_results/gsm8k.yaml` if that benchmark was measured: file name → text.

    Args:
        info: the content of `release.json`.

    Raises:
        AxionError: the family is unknown, or `info` lacks a value that the card needs.
    """
    files = {"README.md": render_card(info)}
    if results := benchmark_results(info):
        files[EVAL_RESULTS] = yaml.safe_dump(results, sort_keys=False, allow_unicode=True)
    return files


def render_card(info: dict) -> str:
    """The card as Markdown with YAML front matter; its body consists of sections (see `publish.markdown`).

    Args:
        info: the content of `release.json`.

    Raises:
        AxionError: the family is unknown, or `info` lacks a value that the template needs.
    """
    try:
        arithmetic = measured(info["results"], "arithmetic") or {"scores": []}
        load = with_current_names(info["results"]).get("expert_load", {})
        text = _template(info["family"]).render(
            info=info,
            parameters=info["parameters"],
            cache=info["parameters"]["cache"],
            training=info["training"],
            data=count_documents(info["data"]),
            results=[row for row in result_rows(info["results"]) if row.task not in OWN_SECTIONS],
            skipped=skipped_tasks(info["results"]),
            imperfect_scores=[score for score in arithmetic["scores"] if score["correct"] < score["total"]],
            loss_data=_loss_data(info),
            ways=_ways_of_asking(info["results"]),
            template_prompt=TEMPLATE_PROMPT,
            chooses=any(getattr(source, "thinking", False) for source in sources_of(info["data"])),
            prompt=example_prompt(info),
            problems=is_of_problems(info),
            hub_problems=info["dataset"] is not None and is_of_problems(info),
            datasets=datasets_of(info),
            in_series=info["name"] in {member["name"] for member in info["roadmap"]},
            chats=bool(info.get("chats")),
            start=_start(info),
            text_name=plain_text(", ".join(dict.fromkeys(source.data_name for source in sources_of(info["data"])))),
            collections=f"https://huggingface.co/{info['repo_id'].partition('/')[0]}/collections",
            code_files=REMOTE_CODE,
            tokenizer=_tokenizer(info),
            gsm8k_test=measured(info["results"], "gsm8k_test"),
            speed=measured(info["results"], "speed"),
            load={label: load.get(name) for name, label in LOAD_SETS.items()},
            load_command=load.get("command", ""),
            pins=[pin(name, info["training"]["libraries"][name]) for name in ("torch", "transformers")],
            architecture=compare_architecture(info),
            shape=shape_of(info),
            mixture=has_routed_experts(info),
            native=get_family(info["family"]).exports.get("native"),
            loops=_loops(info),
            thinks="reasoning" in info["data"]["train"]["by_source"],
            nano=_beside_nano(info),
            deepseek_arxiv=DEEPSEEK_ARXIV,
            original=originals.AXION1.get(info["name"]),
        )
        metadata = card_metadata(info)
    except (jinja2.UndefinedError, KeyError) as error:
        raise AxionError(f"the card of {info['name']} needs a value that release.json lacks: {error}") from None
    return f"---\n{metadata.to_yaml()}\n---\n\n{text}"


EXAMPLE_PROMPT = prompt("Quanto é 5 + 3?")
EXAMPLE_CHAT = "<|user|>Quem é você?<|end|><|assistant|>"


def is_of_problems(info: dict) -> bool:
    """Whether a release was made to be asked problems, and not to continue text or to chat."""
    return not info.get("openings") and not info.get("chats")


def datasets_of(info: dict) -> list[str]:
    """The data sets on the Hub that a release was trained on; earlier releases name one."""
    one = info.get("dataset")
    return list(info.get("datasets", [one] if one else []))


def _start(info: dict) -> dict | None:
    """The release that this one started from, with its name as a link where it is on the Hub."""
    if not (start := info.get("start")):
        return None
    repo_id = start["repo_id"]
    return {**start, "link": f"[{repo_id}](https://huggingface.co/{repo_id})" if repo_id else start["name"]}


def example_prompt(info: dict) -> str:
    """The prompt of a card's examples: a sum, for a model of text an opening, and a question for one that can chat."""
    if info.get("chats"):
        return EXAMPLE_CHAT
    openings = info.get("openings")
    first = openings[0] if isinstance(openings, list) and openings else None
    return first if isinstance(first, str) else EXAMPLE_PROMPT


def sources_of(data: dict) -> Sequence[Source]:
    """The sources of a release, from the `data` of its release.json; none for those before data.json listed them.

    Raises:
        AxionError: they are malformed.
    """
    try:
        return TypeAdapter(list[AnySource]).validate_python(data.get("sources", []))
    except ValidationError as error:
        raise AxionError(f"release.json is broken: its data.sources are malformed: {one_line(error)}") from None


ASKING = {"arithmetic": ANSWER, "arithmetic_reasoning": REASONING}
"""Task → what its prompts end in."""
TEMPLATE_PROMPT = prompt("How much is 12 + 30?").strip()
"""For readers who ask in English."""


def _ways_of_asking(results: dict) -> list[dict] | None:
    """The same sums asked in each way, with the heading that the prompt ends in; None if not all ways were measured.

    The way that was right most often comes first; it is the one to recommend.
    """
    tasks = {task: result for task in ASKING if (result := measured(results, task))}
    if len(tasks) < len(ASKING):
        return None
    ways = [
        {
            "heading": ASKING[task].strip().rpartition("\n")[2],
            "scores": result["scores"],
            "correct": sum(score["correct"] for score in result["scores"]),
            "command": result["command"],
        }
        for task, result in tasks.items()
    ]
    return sorted(ways, key=lambda way: -way["correct"])


def _loss_data(info: dict) -> dict[str, str] | None:
    """What the two losses of the training curve are over; None if both are over the same kinds of text."""
    kinds = [kind for kind in SOURCES if kind in info["data"]["train"]["by_source"]]
    real = [kind for kind in kinds if SOURCES[kind].is_real]
    if real in ([], kinds):
        return None
    labels = _labels(info["data"])
    return {
        "training": "; ".join(labels[kind] for kind in kinds),
        "validation": "; ".join(labels[kind] for kind in real),
    }


def _template(family: str) -> jinja2.Template:
    return environment().get_template(get_family(family).card_template)


def template_files(family: str) -> list[Path]:
    """The files that the card of a family is made from: its template, and those that it extends or includes.

    Raises:
        AxionError: the family is unknown.
    """
    names = [get_family(family).card_template]
    for name in names:
        tree = environment().parse((TEMPLATES / name).read_text(encoding="utf-8"))
        names += [found for found in jinja2.meta.find_referenced_templates(tree) if found and found not in names]
    return [TEMPLATES / name for name in names]


def python_of_card(info: dict, repo_id: str) -> list[str]:
    """The Python snippets of a card, from the template alone: no other values of `release.json` get in.

    Args:
        info: the content of `release.json`; of it, the family picks the template, and the tag and the prompt are filled
            in. The prompt becomes a string literal, whatever is in it.
        repo_id: USER/NAME on the Hub.

    Raises:
        AxionError: the family is unknown.
    """
    sources = [path.read_text(encoding="utf-8") for path in template_files(str(info.get("family")))]
    values = {"info": {"repo_id": repo_id, "tag": info["tag"]}, "prompt": example_prompt(info)}
    snippets = [code for source in sources for code in python_snippets(source)]
    return [environment().from_string(code).render(**values) for code in snippets]


def card_metadata(info: dict) -> ModelCardData:
    """The card's front matter, by which the Hub sorts and filters models."""
    results = evaluation_results(info)
    return ModelCardData(
        license=info["license"],
        language=info["languages"] or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        datasets=datasets_of(info) or None,
        metrics=sorted({result.metric_type for result in results} & HUB_METRICS) or None,
        tags=["axion", info["family"], *get_family(info["family"]).tags, "tiny", "cpu", "custom_code"],
        model_name=info["title"],
        eval_results=results or None,
        **base_metadata(info.get("start"), "finetune"),
    )


def base_metadata(start: dict | None, relation: str) -> dict[str, Any]:
    """The keys that place a model below another one in the Hub's model tree; none where the other is not on the Hub.

    Args:
        start: `recipe.start` as JSON.
        relation: one of the Hub's: adapter, finetune, merge, quantized.
    """
    if not start or not start["repo_id"]:
        return {}
    return {"base_model": start["repo_id"], "base_model_relation": relation}


HUB_METRICS = {"exact_match"}
"""Our metrics that https://huggingface.co/metrics lists."""


def check_metadata(recipe: Recipe) -> None:
    """Check, before any training, that the Hub will accept the card's metadata.

    Raises:
        AxionError: licence, languages, title, data set, version or names are invalid, or there is no card template.
    """
    check_repo_name(recipe.repo_name)
    check_tag(f"v{recipe.version}")
    if recipe.title != " ".join(recipe.title.split()) or not recipe.title:
        raise AxionError(f"title is {recipe.title!r}; write one line without spaces around it")
    _template(recipe.family)
    known = recipe.model_dump(include={"license", "languages", "title", "family", "start"})
    for source in recipe.data.sources:
        if isinstance(source, FileSource):
            check_dataset(source)
    metadata = card_metadata(known | {"datasets": recipe.data.hub_ids, "results": {}})
    check_front_matter(yaml.safe_load(metadata.to_yaml()))


def count_documents(data: dict) -> list[dict]:
    """The rows of the data table: label, training counts, validation counts."""
    splits, nothing = ("train", "validation"), {"documents": 0, "tokens": 0}
    return [
        {"label": label, **{split: data[split]["by_source"].get(kind, nothing) for split in splits}}
        for kind, label in _labels(data).items()
        if any(kind in data[split]["by_source"] for split in splits)
    ]


def _tokenizer(info: dict) -> dict:
    """What the card says of the tokenizer: whether it was trained with the model, else whose it is."""
    section = info.get("tokenizer") or {}
    name, revision = section.get("id"), section.get("revision")
    return {
        "own": section.get("kind", "bpe") in ("bpe", "start"),
        "name": f"tiktoken's {section['encoding']}" if section.get("encoding") else f"that of {name}",
        "revision": revision,
    }


def _labels(data: dict) -> dict[str, str]:
    """Kind of source → what its documents are."""
    described = {kind: [each.description for each in sources_of(data) if each.kind == kind] for kind in SOURCES}
    labels = {kind: "; ".join(dict.fromkeys(described[kind])) or source.label for kind, source in SOURCES.items()}
    return {kind: plain_text(label) for kind, label in labels.items()}


def has_routed_experts(info: dict) -> bool:
    """Whether a release has routed experts, so that their load and routing can be shown."""
    return ROUTED_EXPERTS in info["parameters"]["components"]


def _loops(info: dict) -> dict[str, Any] | None:
    """The loops of a model with shared layers: what each number of them costs, and the losses where they were measured.

    None for a model without shared layers.
    """
    if not (shape := shape_of(info)).num_shared_layers:
        return None
    result = measured(info["results"], "loops")
    losses = {score["loops"]: score for score in (result or {}).get("scores", [])}
    counts = sorted({1, 2, 4, 8, shape.num_loops, *losses})
    kept = info["parameters"]["cache"]["values_per_token_and_layer"]
    rows = []
    for count in counts:
        depth = shape.num_hidden_layers + (count - 1) * shape.num_shared_layers
        rows.append({"loops": count, "depth": depth, "cache": depth * kept, "score": losses.get(count)})
    solves = any("problems" in score for score in losses.values())
    return {"default": shape.num_loops, "rows": rows, "measured": result, "solves": solves}


def _beside_nano(info: dict) -> dict[str, Any]:
    """The settings of the Nano DeepSeek-V3 project beside those of this model."""

    def row(setting: originals.Setting) -> dict[str, Any]:
        value = originals.own_value(setting, info["architecture"], info["training"]["recipe"])
        return {
            "key": setting.name,
            "original": setting_value(setting.value),
            "ours_key": setting.ours.removeprefix("architecture."),
            "ours": "" if not setting.ours else setting_value(value),
            "note": originals.NOTES.get(setting.name, ""),
        }

    return {
        "url": originals.NANO_URL,
        "settings_url": originals.NANO_SETTINGS_URL,
        "settings": [row(setting) for setting in originals.NANO_SETTINGS],
        "beyond": originals.NOTES["beyond"],
    }


def setting_value(value: object) -> str:
    """A value of a settings file for readers: 50,257, 0.0003, null."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    return "null" if value is None else str(value)


def pin(name: str, version: str) -> str:
    """A requirement for pip, without a local build tag such as +cpu."""
    return f"{name}=={version.partition('+')[0]}"
