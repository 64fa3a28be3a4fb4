"""The documentation page: playground/content/pages in the chosen language, with numbers of the chosen model.

A page is Markdown with Jinja in it, in sections that each begin with `<!-- anchor -->` and a heading. What is filled in
is a number, or a text that this module made; a value out of a release's files is shown only where it is nothing but a
number or a plain word, since Markdown can be markup.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import gradio as gr
from jinja2 import Environment, StrictUndefined

from axion.data.format import Problem
from axion.errors import AxionError
from axion.inference.routing import routers
from axion.model.configuration_axion import AxionConfig
from axion.recipe import recipe_fields
from playground.api.requests import LENGTHS, SETTINGS
from playground.generate.catalogue import OpenModel
from playground.generate.rate_limits import BURST, STARTS_PER_MINUTE
from playground.generate.request import LIMITS
from playground.locales import DEFAULT, Language
from playground.locales.controls import TEXT as CONTROLS
from playground.locales.documentation import TEXT
from playground.server.context import House, Panel
from playground.server.markup import SERVER, render, script

PAGES = Path(__file__).parent / "pages"
FORMULAS = [{"left": "$$", "right": "$$", "display": True}, {"left": "$", "right": "$", "display": False}]
MANY_EXPERTS = 8
"""Beyond, a layer's biases are told by the lowest and the highest."""

_BEGIN = re.compile(r"^<!-- (\w+) -->\n## (.+)$", re.MULTILINE)
_ARGUMENT = re.compile(r"^        (\w[\w, ]*): (.+(?:\n            .+)*)", re.MULTILINE)
_WORD = re.compile(r"[\w.+-]{1,40}")

WORKED = {
    "en": Problem(
        "Tom has 3 boxes with 6 pencils in each. He gives 4 pencils to Mia. How many pencils does Tom have left?",
        "14",
        "Tom has 3 * 6 = 18 pencils.\nHe has 18 - 4 = 14 pencils left.",
    ),
    "pt": Problem(
        "Ana tem 12 maçãs e compra mais 8. Depois dá metade a Pedro. Com quantas maçãs Ana fica?",
        "10",
        "Ana tem 12 + 8 = 20 maçãs.\nDá 20 / 2 = 10 maçãs a Pedro.",
    ),
}
"""A problem in the form of the training data."""


class Written(str):
    """Markdown of this module's own making, which may stand in a page as it is."""


@dataclass(frozen=True)
class Chapter:
    """One section of a page."""

    anchor: str
    title: str
    body: str
    """Its Markdown, a Jinja template, without the heading."""


@cache
def read_page(language: Language) -> tuple[Chapter, ...]:
    """The chapters of a page, in their order."""
    _, *parts = _BEGIN.split((PAGES / f"{language}.md").read_text(encoding="utf-8"))
    return tuple(Chapter(anchor, title, body.strip()) for anchor, title, body in zip(*[iter(parts)] * 3, strict=True))


def build(house: House) -> list[Panel]:
    """Add the documentation to the open page: a table of contents, and a card for each chapter."""
    panels = []
    with gr.Row(elem_classes="ax-doc"):
        with gr.Column(scale=0, min_width=200, elem_classes="ax-doc-contents"):
            contents = gr.HTML(
                contents_html(DEFAULT),
                js_on_load=script("contents", SERVER),
                apply_default_css=False,
                elem_id="doc-contents",
            )
            house.labels.add(contents, lambda language: {"value": contents_html(language)})
        with gr.Column(scale=1, min_width=300, elem_classes="ax-doc-chapters"):
            for index, chapter in enumerate(read_page(DEFAULT)):
                card = gr.Markdown(
                    latex_delimiters=FORMULAS, elem_id=f"doc-{chapter.anchor}", elem_classes="ax-doc-card"
                )
                panels.append(Panel(card, _filler(index), broken=lambda _: gr.update(value="", visible=False)))
    return panels


def contents_html(language: Language) -> str:
    """The table of contents."""
    chapters = [(f"#doc-{chapter.anchor}", chapter.title) for chapter in read_page(language)]
    return render("contents.html", chapters=chapters, text=TEXT[language])


def _filler(index: int) -> Callable[[OpenModel, Language], object]:
    return lambda model, language: gr.update(
        value=chapter_markdown(read_page(language)[index], model, language), visible=True
    )


def _finalize(value: object) -> str:
    """Numbers and what this module wrote, nothing else. Raises AxionError."""
    if isinstance(value, Written):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AxionError("the documentation shows numbers, and something else stands in their place")
    return f"{value:,}"


_templates = Environment(undefined=StrictUndefined, trim_blocks=True, finalize=_finalize, autoescape=False)


def chapter_markdown(chapter: Chapter, model: OpenModel, language: Language) -> str:
    """A chapter with the numbers of `model`."""
    template = _templates.from_string(chapter.body)
    return f"## {chapter.title}\n\n{template.render(values(model, language))}"


def values(model: OpenModel, language: Language) -> dict[str, object]:
    """What a page may name: counts of the chosen model, and the generated tables."""
    config, facts = model.release.config, model.facts
    latent_values, plain_values = model.release.family.cache_values(config)
    shape = {
        "heads": config.num_attention_heads,
        "key": config.qk_nope_head_dim + config.qk_rope_head_dim,
        "nope": config.qk_nope_head_dim,
        "rope": config.qk_rope_head_dim,
        "value": config.v_head_dim,
        "latent": config.kv_lora_rank,
        "query_rank": config.q_lora_rank,
        "expert_width": config.moe_intermediate_size,
        "normalised": config.norm_topk_prob,
        "scaling": config.routed_scaling_factor,
        "all_layers": config.num_hidden_layers,
    }
    cache_room = {
        "latent_values": latent_values,
        "plain_values": plain_values,
        "latent_bytes": facts.cache_bytes,
        "plain_bytes": facts.plain_cache_bytes,
        "latent_context_bytes": facts.cache_bytes * facts.context,
        "plain_context_bytes": facts.plain_cache_bytes * facts.context,
        "cache_share": _percent(facts.cache_bytes / facts.plain_cache_bytes),
        "context": facts.context,
    }
    mixture = {
        "layers": facts.layers,
        "experts": facts.experts,
        "per_token": facts.experts_per_token,
        "shared": facts.shared_experts,
        "total": facts.total,
        "active": facts.active,
        "active_share": _percent(facts.active / facts.total),
        "fair_share": _percent(facts.experts_per_token / facts.experts) if facts.experts else 0,
        "bias": bias_table(model, language),
    }
    made = {
        "problem": Written(WORKED[language].document()),
        "parameters": parameter_table(language),
        "config": config_table(config, language),
        "recipe": recipe_table(language),
    }
    return {**shape, **cache_room, **mixture, **made, "burst": BURST, "per_minute": STARTS_PER_MINUTE}


def _percent(share: float) -> int | float:
    """In per cent, with one decimal where it is not a whole number."""
    rounded = round(100 * share, 1)
    return int(rounded) if rounded == int(rounded) else rounded


# ------------------------------------------------------------------------------------------------- the generated tables


def bias_table(model: OpenModel, language: Language) -> Written:
    """What balancing adds to the affinity of each expert, by layer."""
    biases = {row: router.e_score_correction_bias.tolist() for row, router in routers(model.release.model).items()}
    if not biases:
        return Written("")
    experts = len(next(iter(biases.values())))
    many = experts > MANY_EXPERTS
    names = [TEXT[language][key] for key in ("lowest", "highest")] if many else [f"E{n + 1}" for n in range(experts)]
    rows = (
        [f"L{row.layer}", *(f"{bias:+.3f}" for bias in ((min(values), max(values)) if many else values))]
        for row, values in biases.items()
    )
    return _table([TEXT[language]["layer"], *names], rows)


def parameter_table(language: Language) -> Written:
    """What can be set of a generation over HTTP, under the names there, and the range of each."""
    words, names = TEXT[language], CONTROLS[language]
    theirs = {**SETTINGS, "max_new_tokens": LENGTHS[0]}
    rows = (
        [f"`{theirs[name]}`", f"{limit.low:,} – {limit.high:,}", f"{names[name]}. {names[f'{name}_hint']}."]
        for name, limit in LIMITS.items()
    )
    return _table([words["parameter"], words["range"], words["meaning"]], rows)


def config_table(config: AxionConfig, language: Language) -> Written:
    """Every field of AxionConfig: type, default, what it is in this model, and its sentence in the docstring."""
    words, meanings = TEXT[language], field_meanings()
    rows = (
        [
            f"`{name}` *{_type_name(kind)}*",
            _shown(getattr(AxionConfig, name, None)),
            _shown(getattr(config, name)),
            meanings.get(name, ""),
        ]
        for name, kind in inspect.get_annotations(AxionConfig).items()
    )
    return _table([words["field"], words["default"], words["here"], words["meaning"]], rows)


def field_meanings() -> dict[str, str]:
    """Field → its sentence in AxionConfig's docstring, for those that have one."""
    arguments = (AxionConfig.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
    return {
        name.strip(): " ".join(sentence.split())
        for names, sentence in _ARGUMENT.findall(arguments)
        for name in names.split(",")
    }


def recipe_table(language: Language) -> Written:
    """Every key of a recipe: type, default, and its sentence."""
    words = TEXT[language]
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
    """A type as people write it: `int or None`, `list of str`, `muon or adamw`."""
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


def _shown(value: object) -> str:
    """A field's value, where it is a number or a plain word: it may come out of a stranger's file."""
    if isinstance(value, Mapping):
        pairs = [f"{name}: {part}" for name, part in value.items() if _is_plain(name) and _is_plain(part)]
        return ", ".join(f"`{pair}`" for pair in pairs) or "…"
    if isinstance(value, list | tuple):
        return f"`{', '.join(map(str, value))}`" if all(map(_is_plain, value)) else "…"
    return f"`{value}`" if _is_plain(value) else "…"


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, int | float) or bool(isinstance(value, str) and _WORD.fullmatch(value))


def _table(head: list[str], rows: Iterator[list[str]]) -> Written:
    lines = [head, ["---"] * len(head), *rows]
    return Written("\n".join(f"| {' | '.join(cell.replace('|', '∣') for cell in line)} |" for line in lines))
