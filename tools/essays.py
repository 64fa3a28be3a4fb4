"""The essays in docs/, with their pictures: `python -m tools.essays [NAME …]` writes them from saved measurements.

python -m tools.essays                               all essays whose figures are there
python -m tools.essays --measure --data DIR          measures v0.1 first, in a minute

An essay is a template in tools/templates/, whose figures come from recipes and from the JSON files in docs/. No figure
is typed by hand. An essay whose runs have not been made yet is left out.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.pyplot as plt
import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from axion.drawing import BLUE, GREEN, INK, ORANGE, PALE, STYLE, save
from axion.errors import AxionError
from axion.evaluation.subject import Subject, with_copies
from axion.families import cache_values
from axion.files import read_json, write_json, write_text
from axion.inference.routing import count_reads, expert_favourites
from axion.params import report as count
from axion.recipe import load_recipe
from axion.release import Release, open_release
from axion.series import series
from benchmarks import quality
from benchmarks.report import DOCS

TEMPLATES = Path(__file__).parent / "templates"
BUNDLED = "axion1-v0.1"
Figures = dict[str, Any]


# --- Why MLA makes small models' caches small -------------------------------------------------------------------------


def measure_cache(release: Release, _: Subject) -> Figures:
    """The bytes of the tensors that transformers' cache holds after a text as long as the context."""
    context = release.config.max_position_embeddings
    ids = torch.zeros(1, context, dtype=torch.long)
    with torch.inference_mode():
        cache = release.model(ids, use_cache=True).past_key_values
    held = sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values) if tensor is not None)
    return {"release": release.name, "tokens": context, "bytes": held}


def cache_figures() -> Figures:
    """The cache of every recipe of the series, beside that of other kinds of attention with the same heads."""
    rows = []
    for version in read_versions():
        config = load_recipe(version).build_config()
        kept, plain = cache_values(config)
        head = config.qk_head_dim + config.v_head_dim
        rows.append(
            {
                **{"name": version, "counts": count(version, config), "context": config.max_position_embeddings},
                **{"kept": kept, "plain": plain, "one_head": head, "heads": config.num_attention_heads},
                **{"latent": config.kv_lora_rank, "rotary": config.qk_rope_head_dim},
            }
        )
    return {"rows": rows, "measured": read_json(DOCS / "cache.json")}


def draw_cache(figures: Figures, path: Path) -> None:
    """Values per token and layer: latent attention, one shared head, every head."""
    rows, width = figures["rows"], 0.27
    kinds = (("plain", "a key and a value of every head", ORANGE), ("one_head", "of one head, shared", GREEN))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots()
        for place, (name, label, colour) in enumerate((*kinds, ("kept", "MLA: the latent and the rotary key", BLUE))):
            places = [row + (place - 1) * width for row in range(len(rows))]
            bars = axes.bar(places, [row[name] for row in rows], 0.92 * width, color=colour, label=label)
            axes.bar_label(bars, fontsize=8, padding=1)
        axes.set_xticks(range(len(rows)), [row["name"].removeprefix("axion1-") for row in rows])
        axes.set(yscale="log", ylabel="numbers per token and layer", title="What the cache holds")
        axes.set_ylim(top=2 * max(row["plain"] for row in rows))
        axes.grid(axis="y", color=PALE, lw=0.7)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, fontsize=9)
        save(figure, path)


# --- Do four experts specialise? --------------------------------------------------------------------------------------

CLASSES = ("digits", "operators", "line breaks", "words", "pieces of words", "other")
MIN_SEEN = 20


def class_of(token: str) -> str:
    """What kind of text a token is, one of CLASSES."""
    text = token.strip(" ")
    if "\n" in text:
        return "line breaks"
    if text.isdigit():
        return "digits"
    if text and all(sign in "+-*/×÷=<>%$" for sign in text):
        return "operators"
    if text.isalpha():
        return "words" if token[0] == " " or text[0].isupper() else "pieces of words"
    return "other"


def measure_experts(release: Release, subject: Subject) -> Figures:
    """How far the token alone tells which experts read it, and which kinds of token each expert reads.

    The most frequent expert of each token in one half of the held-out documents is guessed for the other half.
    """
    documents = [document.ids.tolist() for document in subject.validation]
    (first_LEV, first_V), (second_LEV, second_V) = (count_reads(release.model, documents[half::2]) for half in (0, 1))
    guess_LV = first_LEV.argmax(dim=1)
    known_V = first_V > 0
    seen = int(second_V[known_V].sum())
    right_L = second_LEV.gather(1, guess_LV.unsqueeze(1)).squeeze(1)[:, known_V].sum(dim=1) / seen
    busiest_L = first_LEV.sum(dim=-1).argmax(dim=1)
    blind_L = second_LEV[torch.arange(len(busiest_L)), busiest_L][:, known_V].sum(dim=1) / seen
    reads_LEV, seen_V = first_LEV + second_LEV, first_V + second_V
    kinds = kinds_of(release.tokenizer, len(seen_V))
    shares = {
        kind: (reads_LEV[..., chosen].sum(dim=-1) / seen_V[chosen].sum().clamp(min=1)).tolist()
        for kind, chosen in ((kind, torch.tensor([each == kind for each in kinds])) for kind in CLASSES)
    }
    favourites = expert_favourites(release.model, release.tokenizer, documents, top=6, min_count=MIN_SEEN)
    return {
        **{"release": release.name, "documents": len(documents), "tokens": int(seen_V.sum())},
        **{"experts": release.config.n_routed_experts, "chosen": release.config.num_experts_per_tok},
        "layers": [
            {"by_token": right, "blind": blind} for right, blind in zip(right_L.tolist(), blind_L.tolist(), strict=True)
        ],
        "seen": {kind: int(sum(seen_V[index] for index, each in enumerate(kinds) if each == kind)) for kind in CLASSES},
        "shares": shares,
        "favourites": [
            {"layer": each["layer"], "expert": each["expert"], "tokens": [token["text"] for token in each["tokens"]]}
            for each in favourites
        ],
    }


def kinds_of(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> list[str]:
    """The class of every token of the vocabulary."""
    return [class_of(str(tokenizer.decode([token]))) for token in range(vocabulary)]


def experts_figures() -> Figures:
    """What was measured, and where each layer's experts differ most."""
    figures = read_json(DOCS / "experts.json")
    fair = figures["chosen"] / figures["experts"]
    extremes = [
        {"layer": layer, "expert": expert, "kind": kind, "times": share / fair}
        for kind, shares in figures["shares"].items()
        for layer, row in enumerate(shares, start=1)
        for expert, share in enumerate(row, start=1)
        if figures["seen"][kind] >= 1000
    ]
    extremes.sort(key=lambda each: each["times"])
    favourites = [each | {"tokens": [_shown(token) for token in each["tokens"]]} for each in figures["favourites"]]
    return figures | {
        **{"fair": fair, "most": extremes[-1], "least": extremes[0], "favourites": favourites},
        "best": max(figures["layers"], key=lambda layer: layer["by_token"]),
        "worst": min(figures["layers"], key=lambda layer: layer["by_token"]),
    }


def _shown(token: str) -> str:
    """A token in a Markdown table: its spaces and line breaks are visible."""
    visible = token.replace(" ", "␣").replace("\n", "↵").replace("|", "\\|")
    return f"`{visible}`"


def draw_experts(figures: Figures, path: Path) -> None:
    """For each layer, the share of each kind of token that each expert reads, as a multiple of the fair share."""
    kinds = [kind for kind in CLASSES if figures["seen"][kind] >= 1000]
    layers = len(figures["layers"])
    style: dict[Any, Any] = {**STYLE, "figure.figsize": (2.2 * layers + 1.2, 3.4)}
    with plt.rc_context(style):
        figure, all_axes = plt.subplots(1, layers, sharey=True)
        for layer, axes in enumerate(all_axes):
            table = np.array([figures["shares"][kind][layer] for kind in kinds]) / figures["fair"]
            axes.imshow(table, cmap="PuOr_r", vmin=0, vmax=2, aspect="auto")
            for row, column in np.ndindex(table.shape):
                value = table[row, column]
                colour = "white" if abs(value - 1) > 0.7 else INK
                axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=9)
            axes.set_title(f"layer {layer + 1}", fontsize=10.5)
            axes.set_xticks(range(figures["experts"]), range(1, figures["experts"] + 1))
            axes.tick_params(length=0)
        all_axes[0].set_yticks(range(len(kinds)), kinds)
        figure.supxlabel("expert", fontsize=10.5)
        save(figure, path)


# --- Is the mixture worth it? -----------------------------------------------------------------------------------------

ASKED = ("dense-active", "dense-total", "no-shared", "top-1", "experts-8", "experts-16", "balance-none", "balance-loss")
"""The variations that the essay is about."""
NEEDED = ("dense-active", "dense-total")
"""Without these, with three seeds, there is nothing to say."""


def mixture_figures() -> Figures:
    """The variations of the mixture in the longest table of docs/quality.json that has the dense twins."""
    content = read_json(quality.RESULTS)
    _, speeds = next(reversed(content.get("speeds", {}).items()), (None, {}))
    for (base, tokens), runs in quality.comparable(content["runs"]).items():
        measured = speeds.get("variations", {}) if speeds.get("base") == base else {}
        compared = quality.compare(runs, measured)
        if all(name in compared and len(compared[name].losses) >= 3 for name in (quality.BASE.name, *NEEDED)):
            rows = [compared[name] for name in ASKED if name in compared]
            return {"tokens": tokens, "base": compared[quality.BASE.name], "rows": rows, "compared": compared}
    raise FileNotFoundError(f"three seeds of {' and '.join(NEEDED)} in {quality.RESULTS.name}")


def draw_mixture(figures: Figures, path: Path) -> None:
    """The difference of each variation to v0.1 with its interval, by tokens and by the clock."""
    rows = figures["rows"]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots()
        for shift, colour, label, name in (
            (0.12, BLUE, "after the same tokens", "by_tokens"),
            (-0.12, ORANGE, "after the same time", "by_clock"),
        ):
            shown = [(place, getattr(row, name)) for place, row in enumerate(reversed(rows)) if getattr(row, name)]
            if shown:
                means = [found.mean for _, found in shown]
                halves = [found.interval[1] - found.mean if found.interval else 0 for _, found in shown]
                places = [place + shift for place, _ in shown]
                axes.errorbar(means, places, xerr=halves, fmt="o", color=colour, capsize=3, label=label)
        axes.axvline(0, color=INK, lw=1.2, ls="--")
        axes.set_yticks(range(len(rows)), [row.variation.name for row in reversed(rows)])
        axes.set(xlabel="nats per token above v0.1 (right is worse)", title="Variations of the mixture")
        axes.grid(axis="x", color=PALE, lw=0.7)
        axes.legend()
        save(figure, path)


# --- What happens at 1.5M parameters ----------------------------------------------------------------------------------


def size_figures() -> Figures:
    """The report of `axion scale`, whose file is docs/size.json."""
    from axion.evaluation import scaling

    report = read_json(DOCS / "size.json")["report"]
    return {"report": report, "table": scaling.table(report), "target": scaling.TARGET}


def draw_size(figures: Figures, path: Path) -> None:
    """The plot of `axion scale`."""
    from axion.evaluation import scaling

    scaling.draw(figures["report"], path)


# --- All essays -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Essay:
    """A page in docs/ and its picture, both of the essay's name."""

    figures: Callable[[], Figures]
    """Reads what the template needs; raises FileNotFoundError where it has not been measured."""
    draw: Callable[[Figures, Path], None]
    measure: Callable[[Release, Subject], Figures] | None = None
    """Measures what docs/NAME.json holds, in a minute."""


ESSAYS = {
    "cache": Essay(cache_figures, draw_cache, measure_cache),
    "experts": Essay(experts_figures, draw_experts, measure_experts),
    "mixture": Essay(mixture_figures, draw_mixture),
    "size": Essay(size_figures, draw_size),
}


def read_versions() -> list[str]:
    """The versions of the Axion1 series that have a recipe."""
    return [member.name for member in series("axion1") if member.is_counted]


def render(name: str, figures: Mapping[str, Any]) -> str:
    """The Markdown of an essay."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{name}.md.j2").render(**figures)


def write(name: str) -> bool:
    """Writes an essay and its picture; False where its figures are not there yet."""
    essay = ESSAYS[name]
    try:
        figures = essay.figures()
    except FileNotFoundError as missing:
        print(f"{name}: left out, since it needs {missing.filename or missing}", file=sys.stderr)
        return False
    essay.draw(figures, DOCS / f"{name}.png")
    write_text(DOCS / f"{name}.md", render(name, figures))
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(ESSAYS)}; all by default")
    parser.add_argument("--measure", action="store_true", help="measure first what takes a minute")
    parser.add_argument("--data", type=Path, metavar="DIR", help="a folder with gsm8k/train.jsonl; else from the Hub")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in ESSAYS]:
        parser.error(f"there is no essay {unknown[0]!r}; known: {', '.join(ESSAYS)}")
    names = options.names or list(ESSAYS)
    if options.measure:
        release = open_release(BUNDLED)
        assert release.recipe_file is not None
        data = load_recipe(release.recipe_file).data
        try:
            subject = Subject(release, with_copies(data, options.data) if options.data else data)
            for name in names:
                if measure := ESSAYS[name].measure:
                    write_json(DOCS / f"{name}.json", measure(release, subject))
        except AxionError as error:
            parser.error(str(error))
    written = [write(name) for name in names]
    return int(bool(options.names) and not all(written))


if __name__ == "__main__":
    sys.exit(main())
