"""What each part of v0.1's recipe is worth: variations of it, trained on the same tokens and compared.

python -m benchmarks.quality                             trains the variations that have no result yet
python -m benchmarks.quality --only dense-active --seeds 5 --tokens 20M
python -m benchmarks.quality --speed                     measures training speed, which needs an idle machine
python -m benchmarks.quality --docs                      writes docs/quality.md from what is finished

A variation is a named list of overrides of axion1-v0.1. Results are kept in docs/quality.json: a finished run is never
repeated, and an interrupted one goes on from its last checkpoint.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import log2
from pathlib import Path
from statistics import mean, median, stdev

from axion.cli.exits import INTERRUPTED, MISTAKE
from axion.errors import AxionError
from axion.evaluation.experiments import (
    Difference,
    Experiment,
    Results,
    difference,
    hash_of,
    local_copies,
    parse_tokens,
    run_missing,
)
from axion.machine import machine
from axion.recipe import load_recipe
from benchmarks.processors import title
from benchmarks.report import DOCS, number, write_block
from benchmarks.sizes import BUNDLED
from benchmarks.steps import speed_of_run
from benchmarks.workers import Gone, Worker, interleave

PAGE, BLOCK, RESULTS = "quality.md", "quality", DOCS / "quality.json"
RUNS = Path("runs") / "quality"
TOKENS, SEEDS = "20M", 3
ROUNDS, SECONDS, TOGETHER = 5, 1.0, 5
"""Speed is measured in so many rounds, each kind of work for at least so long, so many variations beside v0.1."""
KINDS = ("short", "whole")
"""The kinds of work of benchmarks.steps."""
MEANINGS = {
    "lower": "the loss is clearly lower",
    "higher": "the loss is clearly higher",
    "not clear": "the difference is not clear",
}


@dataclass(frozen=True)
class Variation:
    """A named list of overrides of v0.1's recipe."""

    name: str
    label: str
    overrides: tuple[str, ...] = ()
    tokens_share: float = 1.0
    """Of the tokens of all others."""

    def experiment(self, tokens: int, seed: int, places: tuple[str, ...] = ()) -> Experiment:
        """Its run with a seed."""
        return Experiment(BUNDLED, self.overrides, round(tokens * self.tokens_share), seed, places)


def _architecture(**fields: object) -> tuple[str, ...]:
    return tuple(f"architecture.{name}={value}" for name, value in fields.items())


BASE = Variation("v0.1", "v0.1 as it is")
HALF = Variation("half-tokens", "v0.1 with half the tokens", tokens_share=0.5)
"""How much the loss falls where tokens double: what a faster variation would gain by the clock."""

GROUPS: dict[str, tuple[Variation, ...]] = {
    "Mixture or dense": (
        Variation(
            "dense-active",
            "dense, as many parameters as v0.1 has active ones",
            _architecture(first_k_dense_replace=4, intermediate_size=192),
        ),
        Variation(
            "dense-total",
            "dense, as many parameters as v0.1 has in total",
            _architecture(first_k_dense_replace=4, intermediate_size=320),
        ),
    ),
    "Shared expert": (
        Variation(
            "no-shared",
            "none: 3 of 5 routed experts, the same sizes",
            _architecture(n_shared_experts=0, n_routed_experts=5, num_experts_per_tok=3),
        ),
    ),
    "Experts per token": (
        Variation(
            "top-1",
            "1 instead of 2, weighed by its own score",
            _architecture(num_experts_per_tok=1, norm_topk_prob="false"),
        ),
    ),
    "Number of experts, the same sizes in total and active": (
        Variation(
            "experts-8",
            "4 of 8, half as wide",
            _architecture(n_shared_experts=2, n_routed_experts=8, num_experts_per_tok=4, moe_intermediate_size=32),
        ),
        Variation(
            "experts-16",
            "8 of 16, a quarter as wide",
            _architecture(n_shared_experts=4, n_routed_experts=16, num_experts_per_tok=8, moe_intermediate_size=16),
        ),
    ),
    "Balance": (
        Variation(
            "balance-loss",
            "an auxiliary loss (α = 0.01) instead of biases",
            ("training.bias_update_speed=0", "training.sequence_balance_weight=0.01"),
        ),
        Variation("balance-none", "none", ("training.bias_update_speed=0",)),
    ),
    "Attention": (
        Variation("kv-16", "latent of 16 instead of 8", _architecture(kv_lora_rank=16)),
        Variation("kv-32", "latent of 32", _architecture(kv_lora_rank=32)),
        Variation(
            "multi-head",
            "plain multi-head attention, as many heads of the same width",
            (
                "family=mini-axion1",
                "architecture={attention: gqa, hidden_size: 64, num_hidden_layers: 4, num_attention_heads: 4, "
                "n_shared_experts: 1, n_routed_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 64, "
                "max_position_embeddings: 512}",
            ),
        ),
    ),
    "Optimizer": (
        Variation("adamw", "AdamW, rate 0.006", ("training.optimizer=adamw",)),
        Variation("adamw-low", "AdamW, rate 0.003", ("training.optimizer=adamw", "training.learning_rate=3e-3")),
        Variation("weight-decay", "weight decay 0.1", ("training.weight_decay=0.1",)),
    ),
    "What is trained": (
        Variation("mtp", "multi-token prediction as well", _architecture(num_nextn_predict_layers=1)),
        Variation("document-mask", "documents do not attend to each other", ("training.document_mask=true",)),
    ),
}
"""Question → its variations."""

VARIATIONS = {each.name: each for each in (BASE, HALF, *(one for group in GROUPS.values() for one in group))}
NAMES = {each.overrides: each.name for each in VARIATIONS.values() if each is not HALF}


def chosen(names: str | None) -> list[Variation]:
    """The variations that --only names, and always v0.1 itself, with all tokens and with half; all without --only.

    Raises:
        AxionError: there is no such variation.
    """
    wanted = [name.strip() for name in names.split(",")] if names else list(VARIATIONS)
    if unknown := [name for name in wanted if name not in VARIATIONS]:
        raise AxionError(f"there is no variation {unknown[0]!r}; known: {', '.join(VARIATIONS)}")
    return [each for name, each in VARIATIONS.items() if name in {BASE.name, HALF.name, *wanted}]


# --- Speed ------------------------------------------------------------------------------------------------------------


def measure_speed(
    variations: Sequence[Variation], places: Sequence[str], threads: int, say: Callable[[str], None]
) -> tuple[dict[str, dict], list[str]]:
    """Tokens per second of training, beside those of v0.1 in the same rounds.

    Returns:
        Variation → "ratios" to v0.1's speed and "tokens_per_second", one for each round; what could not be measured,
        and why.
    """
    speeds, left_out = {}, []
    others = [each for each in variations if each not in (BASE, HALF)]
    for group in (others[first : first + TOGETHER] for first in range(0, len(others), TOGETHER)):
        workers: dict[str, Worker] = {}
        try:
            for each in (BASE, *group):
                settings = [part for one in (*each.overrides, *places) for part in ("--set", one)]
                try:
                    workers[each.name] = Worker("benchmarks.steps", BUNDLED, *settings, threads=threads)
                except Gone as why:
                    left_out.append(f"{each.name}: {why}")
            answers, gone = interleave(workers, KINDS, ROUNDS, SECONDS)
        finally:
            for worker in workers.values():
                worker.close()
        left_out += [f"{name}: {why}" for name, why in gone.items()]
        measured = {name: run_speeds(VARIATIONS[name], answers) for name in workers if name not in gone}
        if (base := measured.get(BASE.name)) is None:
            continue
        for name, values in measured.items():
            ratios = [mine / other for mine, other in zip(values, base, strict=True)]
            speeds[name] = {"ratios": ratios, "tokens_per_second": values}
            say(f"{name}: {number(median(values))} tokens/s, {median(ratios):.2f} times v0.1's")
    return speeds, left_out


def run_speeds(variation: Variation, answers: Mapping[tuple[str, str], Sequence[Mapping]]) -> list[float]:
    """Tokens per second of a whole run in each round, from the answers of a variation's worker."""
    training = load_recipe(BUNDLED, variation.overrides).training
    kinds = [[each["tokens"] / each["seconds"] for each in answers[variation.name, kind]] for kind in KINDS]
    return [speed_of_run(training, short, whole) for short, whole in zip(*kinds, strict=True)]


# --- Tables -----------------------------------------------------------------------------------------------------------

Runs = Mapping[str, Mapping[int, Mapping]]
"""Variation → seed → the result of its run."""


@dataclass(frozen=True)
class Compared:
    """A variation beside v0.1 on the same tokens."""

    variation: Variation
    losses: dict[int, float]
    """Seed → validation loss at the end, in nats per token."""
    parameters: Mapping[str, int]
    by_tokens: Difference | None = None
    """To v0.1 after the same tokens; None for v0.1 itself."""
    speed: float | None = None
    """How many times v0.1's; None where it is not measured."""
    by_clock: Difference | None = None
    """To v0.1 after the same time, see `compare`."""

    @property
    def spread(self) -> str:
        """Mean ± standard deviation over the seeds."""
        values = list(self.losses.values())
        return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def comparable(runs: Mapping[str, Mapping]) -> dict[tuple[str, int], Runs]:
    """Hash of v0.1's recipe and tokens → the runs that can be compared, with the most tokens first.

    A recipe that has changed gives other runs; those of earlier ones are kept, and shown apart.
    """
    groups: dict[tuple[str, int], dict[str, dict[int, Mapping]]] = {}
    for run in runs.values():
        if (name := NAMES.get(tuple(run["overrides"]))) and run["version"] == BUNDLED:
            groups.setdefault((run["base"], run["tokens"]), {}).setdefault(name, {})[run["seed"]] = run
    for (base, tokens), group in groups.items():
        any_run = next(iter(next(iter(group.values())).values()))
        half = int(any_run["steps"] * HALF.tokens_share) * (tokens // any_run["steps"])
        if found := groups.get((base, half), {}).get(BASE.name):
            group[HALF.name] = found
    shown = {place: group for place, group in groups.items() if group.keys() - {BASE.name, HALF.name}}
    return dict(sorted(shown.items(), key=lambda item: (-item[0][1], item[0][0])))


def compare(runs: Runs, speeds: Mapping[str, Mapping]) -> dict[str, Compared]:
    """Every variation that has results → how it compares.

    By the clock, a variation that trains r times as fast as v0.1 reads r times the tokens in the same time. The loss
    that this would give is worked out from the fall of v0.1's own loss from half the tokens to all of them, each with a
    whole learning-rate schedule, seed by seed: L + (L_v0.1 − L_half) · log2 r.

    Args:
        runs: of one length.
        speeds: variation → its measured speed.
    """
    losses = {name: {seed: run["val_loss"] for seed, run in by_seed.items()} for name, by_seed in runs.items()}
    base, half = losses.get(BASE.name, {}), losses.get(HALF.name, {})
    compared = {}
    for name in (name for name in VARIATIONS if name in runs):
        mine, parameters = losses[name], next(iter(runs[name].values()))["parameters"]
        if name == BASE.name:
            compared[name] = Compared(BASE, mine, parameters)
            continue
        speed, by_clock = None, None
        if measured := speeds.get(name):
            speed = median(measured["ratios"])
            seeds = mine.keys() & base.keys() & half.keys()
            at_that_time = {seed: mine[seed] + (base[seed] - half[seed]) * log2(speed) for seed in seeds}
            by_clock = difference(at_that_time, base)
        compared[name] = Compared(VARIATIONS[name], mine, parameters, difference(mine, base), speed, by_clock)
    return compared


def table(compared: Mapping[str, Compared]) -> str:
    """A Markdown table: v0.1, half of its tokens, then the variations of each question that have results."""
    heads = "variation", "parameters, active", "seeds", "nats per token", "after the same tokens", "training speed"
    lines = [f"| {' | '.join([*heads, 'after the same time'])} |", f"| --- |{' ---: |' * len(heads)}"]
    for question, variations in {"": (BASE, HALF), **GROUPS}.items():
        rows = [compared[each.name] for each in variations if each.name in compared]
        if rows and question:
            lines.append(f"| **{question}** |{' |' * len(heads)}")
        for row in rows:
            counts = f"{row.parameters['total']:,}, {row.parameters['active']:,}"
            speed = "–" if row.speed is None else f"{row.speed:.2f} ×"
            cells = [f"`{row.variation.name}`: {row.variation.label}", counts, str(len(row.losses)), row.spread]
            lines.append(f"| {' | '.join([*cells, _shown(row.by_tokens), speed, _shown(row.by_clock)])} |")
    return "\n".join(lines) + "\n"


def _shown(found: Difference | None) -> str:
    """A difference with its interval; bold where it is clear."""
    if found is None:
        return "–"
    if found.interval is None:
        return f"{found.mean:+.4f}"
    low, high = found.interval
    text = f"{found.mean:+.4f} ({low:+.4f} to {high:+.4f})"
    return text if found.verdict == "not clear" else f"**{text}**"


def verdicts(compared: Mapping[str, Compared]) -> str:
    """Which variations are clearly better and worse than v0.1, by tokens and by the clock."""
    others = {name: row for name, row in compared.items() if name not in (BASE.name, HALF.name)}
    lines = []
    for when, found in (
        ("After the same tokens", {name: row.by_tokens for name, row in others.items() if row.by_tokens}),
        ("After the same time", {name: row.by_clock for name, row in others.items() if row.by_clock}),
    ):
        for verdict, meaning in MEANINGS.items():
            if names := [f"`{name}`" for name, each in found.items() if each.verdict == verdict]:
                lines.append(f"- {when}, {meaning}: {', '.join(names)}.")
    return "\n".join([*lines, ""])


def block(content: Mapping) -> str:
    """The generated part of docs/quality.md.

    Args:
        content: of docs/quality.json.
    """
    text, used = "", []
    where, speeds = next(reversed(content.get("speeds", {}).items()), (None, {}))
    groups = comparable(content["runs"])
    for (base, tokens), runs in groups.items():
        measured = speeds.get("variations", {}) if speeds.get("base") == base else {}
        compared = compare(runs, measured)
        several = f", recipe {base}" if len({each for each, _ in groups}) > 1 else ""
        text += f"### {tokens / 1e6:.1f} million tokens a run{several}\n\n{table(compared)}\n{verdicts(compared)}\n"
        if any(row.speed for row in compared.values()):
            threads = speeds["threads"]
            text += f"Training speed: {where}, {threads} thread{'s' * (threads != 1)}, {speeds['date']}.\n\n"
        used += [run for by_seed in runs.values() for run in by_seed.values()]
    if not used:
        return "Nothing has been measured yet.\n"
    machines = ", ".join(sorted({title(run["machine"]) for run in used}))
    torches = ", ".join(sorted({run["torch"] for run in used}))
    dates = sorted({run["date"] for run in used})
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{text}Trained on: {machines}; torch {torches}; {days}.\n"


# --- The command line -------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--tokens", default=TOKENS, help=f"of each run, such as {TOKENS} (the default) or 500k")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"1 to this number; {SEEDS} by default")
    parser.add_argument("--only", metavar="NAME,…", help=f"some of {', '.join(VARIATIONS)}; v0.1 is always included")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, each with its share of the threads")
    parser.add_argument("--data", type=Path, metavar="DIR", help="a folder with gsm8k/train.jsonl; else from the Hub")
    parser.add_argument("--out", type=Path, default=RUNS, help=f"where unfinished runs are kept; {RUNS} by default")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of results; docs/quality.json")
    parser.add_argument("--speed", action="store_true", help="measure training speed, and train nothing")
    parser.add_argument("--docs", action="store_true", help=f"write docs/{PAGE} from the results, and train nothing")
    options = parser.parse_args(arguments)
    for name in ("seeds", "jobs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}; it must be at least 1")
    try:
        return run(options)
    except AxionError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return INTERRUPTED


def run(options: argparse.Namespace) -> int:
    """Does what the command line asks for; returns its exit code. Raises AxionError for bad input."""
    results, variations = Results(options.results), chosen(options.only)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if options.docs:
        write_block(PAGE, BLOCK, block(results.read()))
        return 0
    tokens, places = parse_tokens(options.tokens), local_copies(load_recipe(BUNDLED), options.data)
    if options.speed:
        where = machine()
        speeds, left_out = measure_speed(variations, places, where["cores"], say)

        def record(content: dict) -> None:
            base = hash_of(load_recipe(BUNDLED, places))
            earlier = content.setdefault("speeds", {}).pop(title(where), {})
            kept = earlier.get("variations", {}) if earlier.get("base") == base else {}
            content["speeds"][title(where)] = {
                **{"base": base, "date": datetime.now(UTC).date().isoformat(), "threads": where["cores"]},
                "variations": kept | speeds,
            }

        results.change(record)
        for line in left_out:
            say(f"not measured: {line}")
        return int(bool(left_out))
    experiments = [each.experiment(tokens, seed, places) for seed in range(1, options.seeds + 1) for each in variations]
    failed = run_missing(experiments, results, options.out, options.jobs, say)
    print(block(results.read()))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
