"""The documentation: playground/content/pages in the chosen language, with the numbers of the chosen model.

A page is a Jinja template of Markdown, in chapters that each start with `<!-- anchor -->` and a heading. Only numbers
and texts that this module made are filled in. A value from a release's files is shown only if it is a number or a plain
word, since Markdown can contain markup.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jinja2 import Environment, StrictUndefined

from axion import originals
from axion.errors import AxionError
from axion.families import cache_values, family_of
from axion.inference.routing import routers
from axion.kernels.dimensions import ALTERNATIVES
from axion.model.configuration_axion import AxionConfig
from axion.model.shape_axion import AxionShape
from axion.recipe import recipe_fields
from playground.content.experts import FEW_EXPERTS
from playground.content.markup import render
from playground.generate.catalogue import OpenModel
from playground.generate.presets import WORKED
from playground.generate.rate_limits import BURST, SHARING, STARTS_PER_MINUTE
from playground.generate.request import LIMITS, Limit
from playground.locales import Language, format_number, format_percent, texts

PAGES = Path(__file__).parent / "pages"
_BEGIN = re.compile(r"^<!-- (\w+) -->\n## (.+)$", re.MULTILINE)
_ARGUMENT = re.compile(r"^        (\w[\w, ]*): (.+(?:\n            .+)*)", re.MULTILINE)
_WORD = re.compile(r"[\w.+-]{1,40}")


class Written(str):
    """Text that this module made, which goes into a page unchanged."""


@dataclass(frozen=True)
class Chapter:
    """One section of a page."""

    anchor: str
    title: str
    body: str
    """Its Markdown, a Jinja template, without the heading."""


@cache
def read_page(language: Language) -> tuple[Chapter, ...]:
    """The chapters of a page, in order."""
    _, *parts = _BEGIN.split((PAGES / f"{language}.md").read_text(encoding="utf-8"))
    return tuple(Chapter(anchor, title, body.strip()) for anchor, title, body in zip(*[iter(parts)] * 3, strict=True))


def contents_html(language: Language) -> str:
    """The table of contents."""
    chapters = [(f"#doc-{chapter.anchor}", chapter.title) for chapter in read_page(language)]
    return render("contents.html", language, chapters=chapters, text=texts("documentation", language))


@cache
def _environment(language: Language) -> Environment:
    """Templates in which only numbers and `Written` text may be filled in; anything else raises AxionError."""

    def finalize(value: object) -> str:
        if isinstance(value, Written):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise AxionError("the documentation shows numbers, and a value is not one")
        return format_number(value, language)

    return Environment(undefined=StrictUndefined, trim_blocks=True, finalize=finalize, autoescape=False)


def chapter_markdown(chapter: Chapter, model: OpenModel, language: Language, parameter_names: Mapping[str, str]) -> str:
    """A chapter with the numbers of `model`.

    Args:
        parameter_names: each setting's name → that of its parameter in the HTTP API.
    """
    template = _environment(language).from_string(chapter.body)
    return f"## {chapter.title}\n\n{template.render(values(model, language, parameter_names))}"


def values(model: OpenModel, language: Language, parameter_names: Mapping[str, str]) -> dict[str, object]:
    """The names that a page may use: numbers of the model, and the generated tables."""
    values = _numbers(model, language)
    made = {
        "problem": Written(WORKED[language].document()),
        "parameters": parameter_table(language, parameter_names),
        "config": config_table(model.release.config, language),
        "recipe": recipe_table(language),
        "bias": bias_table(model, language),
        "family": family_page(model, language, values),
    }
    limits = {"burst": BURST, "per_minute": STARTS_PER_MINUTE, "sharing": SHARING, "alternatives": ALTERNATIVES}
    return {**values, **made, **limits}


def _numbers(model: OpenModel, language: Language) -> dict[str, object]:
    """The model's own numbers."""
    config, facts = model.release.config, model.facts
    kept_values, plain_values = cache_values(config)
    shape = {
        "attention": config.attention,
        "heads": facts.heads,
        "groups": facts.key_value_heads,
        "heads_per_group": facts.heads // facts.key_value_heads,
        "key": config.qk_head_dim,
        "nope": config.qk_nope_head_dim,
        "rope": config.qk_rope_head_dim,
        "value": config.head_dim if config.v_head_dim is None else config.v_head_dim,
        "latent": config.kv_lora_rank,
        "query_rank": config.q_lora_rank,
        "rank": config.projection_rank,
        "expert_width": config.moe_intermediate_size,
        "normalised": config.norm_topk_prob,
        "scaling": config.routed_scaling_factor,
        "all_layers": facts.all_layers,
        "dense_layers": config.first_k_dense_replace,
        "looped_layers": facts.shared_layers,
        "loops": facts.loops,
        "depth": config.depth(),
        "embedding": facts.embedding,
    }
    cache_room = {
        "saves": facts.cache_bytes < facts.plain_cache_bytes,
        "kept_values": kept_values,
        "plain_values": plain_values,
        "kept_bytes": facts.cache_bytes,
        "plain_bytes": facts.plain_cache_bytes,
        "kept_context_bytes": facts.cache_bytes * facts.context,
        "plain_context_bytes": facts.plain_cache_bytes * facts.context,
        "cache_share": Written(format_percent(facts.cache_bytes / facts.plain_cache_bytes, language)),
        "context": facts.context,
    }
    mixture = {
        "layers": facts.mixture_layers,
        "experts": facts.experts,
        "per_token": facts.experts_per_token,
        "shared": facts.shared_experts,
        "total": facts.total,
        "active": facts.active,
        "active_share": Written(format_percent(facts.active / facts.total, language)),
        "fair_share": Written(format_percent(facts.experts_per_token / max(facts.experts, 1), language)),
    }
    return {**shape, **cache_room, **mixture}


def family_page(model: OpenModel, language: Language, values: Mapping[str, object]) -> Written:
    """What there is to know of the model's family.

    Args:
        values: the model's own numbers.
    """
    try:
        family = model.release.family
    except AxionError:  # other parts of the page report a broken recipe
        family = family_of(model.release.config)
    page = (PAGES / "families" / f"{family.name}.{language}.md").read_text(encoding="utf-8").strip()
    links = {"nano_url": Written(originals.NANO_URL), "nano_settings_url": Written(originals.NANO_SETTINGS_URL)}
    tables = {
        "nano_settings": nano_table(model, language),
        "nano_remarks": nano_remarks(language),
    }
    return Written(_environment(language).from_string(page).render({**values, **links, **tables}))


def nano_table(model: OpenModel, language: Language) -> Written:
    """The settings of the Nano DeepSeek-V3 project beside those of the model."""
    words = texts("documentation", language)
    architecture = {name: getattr(model.release.config, name) for name in inspect.get_annotations(AxionShape)}
    training = model.release.info.get("training") or {}
    recipe = training.get("recipe") if isinstance(training, Mapping) else None
    recipe = recipe if isinstance(recipe, Mapping) else {}
    rows = (
        [
            f"`{setting.name}`",
            _show(setting.value),
            f"`{setting.ours.removeprefix('architecture.')}`" if setting.ours else "",
            _show_setting(originals.own_value(setting, architecture, recipe)) if setting.ours else "",
        ]
        for setting in originals.NANO_SETTINGS
    )
    return _table([words[key] for key in ("original_key", "original_value", "key", "here")], rows)


def _show_setting(value: object) -> str:
    """A value as a recipe writes it."""
    return originals.ABSENT if value == originals.ABSENT else "`null`" if value is None else _show(value)


def nano_remarks(language: Language) -> Written:
    """What differs between the project and this family, and why: an item for each setting that needs a word."""
    notes = texts("originals", language)
    items = [
        f"- `{setting.name}`: {notes[setting.name]}" for setting in originals.NANO_SETTINGS if setting.name in notes
    ]
    return Written("\n".join([*items, f"- {notes['beyond']}"]))


def bias_table(model: OpenModel, language: Language) -> Written:
    """The bias that load balancing adds to the affinity of each expert, by layer."""
    words = texts("documentation", language)
    biases = {
        row: router.get_buffer("e_score_correction_bias").tolist()
        for row, router in routers(model.release.model).items()
    }
    if not biases:
        return Written("")
    experts = len(next(iter(biases.values())))
    many = experts > FEW_EXPERTS  # then only the lowest and the highest bias are shown
    names = [words[key] for key in ("lowest", "highest")] if many else [f"E{n + 1}" for n in range(experts)]

    def write(bias: float) -> str:
        return format_number(bias, language, 3, signed=True)

    rows = (
        [f"L{row.layer}", *map(write, (min(values), max(values)) if many else values)] for row, values in biases.items()
    )
    return _table([words["layer"], *names], rows)


def parameter_table(language: Language, parameter_names: Mapping[str, str]) -> Written:
    """The sampling parameters of the HTTP API, with their ranges."""
    words, names = texts("documentation", language), texts("controls", language)

    def span(limit: Limit) -> str:
        return " – ".join(format_number(end, language) for end in (limit.low, limit.high))

    rows = (
        [f"`{parameter_names[name]}`", span(limit), f"{names[name]}. {names[f'{name}_hint']}."]
        for name, limit in LIMITS.items()
    )
    return _table([words["parameter"], words["range"], words["meaning"]], rows)


def config_table(config: AxionConfig, language: Language) -> Written:
    """Every field of a config: type, default, value in this model, and its sentence in the docstring."""
    words, meanings = texts("documentation", language), field_meanings()
    rows = (
        [
            f"`{name}` *{_type_name(kind)}*",
            _show(getattr(AxionShape, name, None)),
            _show(getattr(config, name)),
            meanings.get(name, ""),
        ]
        for name, kind in inspect.get_annotations(AxionShape).items()
    )
    return _table([words["field"], words["default"], words["here"], words["meaning"]], rows)


def field_meanings() -> dict[str, str]:
    """Field → its sentence in AxionShape's docstring, for those that have one."""
    arguments = (AxionShape.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
    return {
        name.strip(): " ".join(sentence.split())
        for names, sentence in _ARGUMENT.findall(arguments)
        for name in names.split(",")
    }


def recipe_table(language: Language) -> Written:
    """Every key of a recipe: type, default, and description."""
    words = texts("documentation", language)
    rows = (
        [
            f"`{key}` *{_type_name(field.annotation)}*",
            _default(field, words),
            " ".join((field.description or "").split()),
        ]
        for key, field in recipe_fields()
    )
    return _table([words["key"], words["default"], words["meaning"]], rows)


def _default(field: Any, words: Mapping[str, str]) -> str:
    return words["needed"] if field.is_required() else f"`{field.default}`".replace("'", "")


def _type_name(kind: object) -> str:
    """A type in words: `int or None`, `list of str`, `muon or adamw`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " or ".join(map(_type_name, arguments))
    if origin in (list, tuple):
        return f"list of {_type_name(arguments[0])}"
    if kind is NoneType:
        return "None"
    return "dict" if origin is dict else getattr(kind, "__name__", str(kind))


def _show(value: object) -> str:
    """A field's value if it is a number or a plain word, since it may come from a stranger's file."""
    if isinstance(value, Mapping):
        pairs = [f"{name}: {part}" for name, part in value.items() if _is_plain(name) and _is_plain(part)]
        return ", ".join(f"`{pair}`" for pair in pairs) or "…"
    if isinstance(value, list | tuple):
        return f"`{', '.join(map(str, value))}`" if all(map(_is_plain, value)) else "…"
    return f"`{value}`" if _is_plain(value) else "…"


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, int | float) or bool(isinstance(value, str) and _WORD.fullmatch(value))


def _table(head: list[str], rows: Iterable[list[str]]) -> Written:
    cells = ([cell.replace("|", "\\|") for cell in line] for line in [head, ["---"] * len(head), *rows])
    return Written("\n".join(f"| {' | '.join(line)} |" for line in cells))
