"""The performance benchmarks' arithmetic, worker protocol and tables. No speed is asserted."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch

from axion.model.configuration_axion import AxionConfig
from axion.model.mixture_axion import AxionMoE
from axion.model.modeling_axion import AxionForCausalLM
from axion.params import count_parameters
from axion.recipe import Recipe, load_recipe
from axion.training.metrics import Metrics
from benchmarks import (
    decoding,
    growth,
    limits,
    neighbours,
    performance,
    processors,
    starting,
    trainers,
    training,
    waiting,
)
from benchmarks.figures import (
    FULL,
    QUICK,
    Contender,
    Effort,
    Field,
    Figure,
    best,
    leaders,
    ratios,
    read_figures,
    speed_table,
    to_try,
)
from benchmarks.report import DOCS, Row, to_markdown
from benchmarks.sizes import SIZES, config_of, recipe_of
from benchmarks.workers import Done, Gone, Worker, interleave, repeat

FAKE = "tests.support.fake_contender"


def figure(name: str, group: str, *values: float, size="v0.1", kind="step", threads=2) -> Figure:
    return Figure(name, group, threads, size, kind, values)


def say(_: str) -> None: ...


# --- Figures and ratios -----------------------------------------------------------------------------------------------


def test_best_picks_the_highest_median():
    slow, fast, other = figure("a", "x", 1, 9, 1), figure("b", "x", 2, 2, 2), figure("c", "y", 5, 5, 5)
    assert best([slow, fast, other], ["x"]) is fast
    assert best([slow, fast, other], ["x", "y"], size="v0.1") is other
    assert best([slow, fast, other], ["x"], size="M") is None


def test_ratios_are_taken_round_by_round():
    assert ratios(figure("a", "x", 4, 9), figure("b", "x", 2, 3)) == (2, 3)
    with pytest.raises(ValueError):
        ratios(figure("a", "x", 4, 9), figure("b", "x", 2))  # different numbers of rounds


def test_a_leader_in_one_kind_of_work_stays():
    writes, reads = figure("a", "x", 9, kind="decode"), figure("b", "x", 9, kind="prefill")
    beaten = [figure("c", "x", 1, kind=kind) for kind in ("decode", "prefill")]
    assert {who.name for who in leaders([writes, reads, *beaten])} == {"a", "b"}


def test_a_table_has_a_row_per_contender_and_a_column_per_processor():
    here = [figure("a", "x", 1000, 3000, 2000), figure("b", "x", 5, size="M"), figure("a", "x", 7, size="M")]
    there = [figure("a", "x", 8), figure("c", "y", 9)]
    assert speed_table({"P": here, "Q": there}, {"a": "Ours"}, "size").splitlines() == [
        "| size | | threads | P | Q |",
        "| --- | --- | ---: | ---: | ---: |",
        "| v0.1 | Ours | 2 | 2,000 (1,000 to 3,000) | 8 |",
        "| v0.1 | c | 2 | – | 9 |",
        "| M | b | 2 | 5 | – |",
        "| M | Ours | 2 | 7 | – |",
    ]


def test_figures_survive_json():
    rows = [figure("a", "x", 1.5, 2.5)]
    assert read_figures(json.loads(json.dumps([asdict(row) for row in rows]))) == rows


def test_a_row_may_have_a_goal_beyond_its_target():
    rows = [Row("a", (value,), "×", at_least=3.3, aim=5) for value in (3, 4, 6)]
    assert [line.split("| ")[-1] for line in to_markdown(rows).splitlines()[2:]] == [
        "**missed** |",
        "met |",
        "aim met |",
    ]
    assert rows[0].target == "≥ 3.3, aim 5"


def test_a_quick_run_tries_one_setting_of_each_engine():
    contenders = [Contender(name, group, 1) for name, group in (("a", "x"), ("a:eager", "x"), ("b", "y"))]
    assert to_try(contenders, QUICK) == [contenders[0], contenders[2]]
    assert to_try(contenders, FULL) == contenders


# --- Workers ----------------------------------------------------------------------------------------------------------


def test_work_is_repeated_for_the_requested_time():
    answer = repeat(lambda: Done(10, 0.25), 0.6)
    assert (answer["tokens"], answer["seconds"]) == (30, 0.75)
    assert repeat(lambda: Done(1, 0.0), 0.0)["tokens"] == 1
    assert answer["peak_bytes"] > 1e6


@pytest.fixture
def fake():
    """Starts workers with made-up answers, and closes them afterwards."""
    workers = []

    def start(name: str) -> Worker:
        workers.append(Worker(FAKE, name, threads=1))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


def test_a_worker_answers_and_its_prints_are_ignored(fake):
    worker = fake("fast")
    assert worker.ready == {"kinds": ["step"], "threads": "1"}
    assert worker.ask("step", 0.0)["tokens"] == 100


def test_an_unavailable_contender_says_why():
    with pytest.raises(Gone, match="there is no compiler"):
        Worker(FAKE, "missing", threads=1)
    with pytest.raises(Gone, match="ValueError: two lines"):
        Worker(FAKE, "broken", threads=1)


def test_a_contender_that_dies_does_not_affect_the_others(fake):
    workers = {name: fake(name) for name in ("fast", "dying")}
    answers, gone = interleave(workers, ["step"], 3, 0.0)
    assert list(answers) == [("fast", "step")] and len(answers["fast", "step"]) == 3
    assert "exited with 3" in gone["dying"] and "out of luck" in gone["dying"]


def test_a_silent_contender_times_out(fake, monkeypatch):
    worker = fake("silent")
    monkeypatch.setattr("benchmarks.workers.ANSWER_SECONDS", 0.2)
    with pytest.raises(Gone, match="no answer"):
        worker.ask("step", 0.0)


def test_only_the_fastest_of_a_group_is_measured():
    told = []
    with Field("v0.1", ["step"], 0.0, told.append) as field:
        for name in ("slow", "fast", "missing"):
            field.enter(Contender(name, "one", 1), lambda name=name: Worker(FAKE, name, threads=1))
        field.enter(Contender("slow", "another", 1), lambda: Worker(FAKE, "slow", threads=1))
        measured = field.run(2)
    assert [(f.name, f.group, len(f.values)) for f in measured] == [("fast", "one", 2), ("slow", "another", 2)]
    assert [f.name for f in field.tried] == ["slow", "fast", "slow"]
    assert field.left_out == ["v0.1, missing, 1 thread: there is no compiler"]
    assert any("left out" in line for line in told)


# --- Training ---------------------------------------------------------------------------------------------------------


def test_the_token_loop_matches_the_model():
    torch.manual_seed(0)
    mixture = AxionMoE(config_of("v0.1"))
    for parameter in mixture.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    hidden = torch.randn(2, 5, 64)
    torch.testing.assert_close(trainers.token_loop(mixture)(hidden), mixture(hidden))


@pytest.mark.parametrize(("bf16", "is_tried"), [(90.0, False), (110.0, True)])
def test_bf16_is_compiled_only_where_it_was_not_slower_before(bf16, is_tried):
    tried = [
        Figure(name, "g", 2, "L", "step", (speed,))
        for name, speed in {"transformers": 100.0, "transformers+bf16": bf16, "transformers+compile": 200.0}.items()
    ]
    why = training.hopeless(Contender("transformers+compile+bf16", "g", 2), tried)
    assert why is None if is_tried else "90 against 100" in why
    for name in ("transformers+compile", "transformers+bf16", "axion-native"):
        assert training.hopeless(Contender(name, "g", 2), tried) is None


def test_every_contender_has_a_label():
    for size in performance.TRAINING_TARGETS:
        for name, _ in training.contenders(size, compiled=True):
            assert name in training.LABELS
    for size in SIZES:
        for contender in decoding.contenders(size, (1, 2), llama=True):
            assert contender.name in decoding.LABELS
    assert not any("compile" in name for name, _ in training.contenders("v0.1", compiled=False))


def test_a_contender_with_a_different_loss_is_excluded():
    told = {Contender(name, "x", 1): {"loss": loss} for name, loss in (("transformers", 7.0), ("a", 7.01), ("b", 9.0))}
    assert list(training.mismatches(told)) == ["b"]
    told[Contender("c", "x", 1)] = {"loss": float("nan")}
    assert set(training.mismatches(told)) == {"b", "c"}


def test_the_speed_of_a_run_excludes_its_first_quarter():
    seconds = np.array([0, 50, 51, 52, 53, 54, 55, 56, 57.0])
    assert training.speed_after_warm_up(Metrics({"tokens": 100 * np.arange(9.0), "seconds": seconds})) == 100


# --- Generation and limits --------------------------------------------------------------------------------------------


def test_texts_agree_up_to_the_first_difference():
    assert decoding.agreement({"transformers": [1, 2, 3], "a": [1, 2, 3], "b": [1, 5, 3]}) == {
        "transformers": 3,
        "a": 3,
        "b": 1,
    }


def test_a_contender_finds_its_folder(monkeypatch, tmp_path):
    asked = []

    class Fake:
        def __init__(self, module, *arguments, **options):
            asked.append((arguments[2], options.get("python")))
            self.ready = {"text": [1]}

    monkeypatch.setattr(decoding, "Worker", Fake)
    folders = {name: tmp_path / name for name in ("axion", "remote", "transformers", "llama")}
    for name in decoding.LABELS:
        decoding.start(Contender(name, "x", 1), folders, "python-of-llama")
    engines = {name: folder.rpartition("/")[2] for name, (folder, _) in zip(decoding.LABELS, asked, strict=True)}
    assert engines["axion-native+bf16"] == "axion" and engines["remote-code"] == "remote"
    assert engines["transformers:eager"] == "transformers" and engines["llama-q8_0"] == "llama"
    assert [python for _, python in asked].count("python-of-llama") == 2


def test_operations_and_bytes_per_token():
    config = config_of("v0.1")
    assert limits.training_operations(config, 512) == 6 * 245_920 + 3 * 4 * 4 * 32 * 512
    for size in (2, 4):
        assert limits.decoding_bytes(config, 512, size) == size * 245_920 + 4 * 512 * 12 * 4


@pytest.mark.parametrize(
    "fields",
    [
        {"attention": "gqa", "num_key_value_heads": 2, "first_k_dense_replace": 4},
        {"first_k_dense_replace": 2, "tie_word_embeddings": False},
    ],
    ids=["dense", "mixture"],
)
def test_a_layer_that_runs_three_times_counts_three_times(fields):
    looped = AxionConfig(**{"num_shared_layers": 2, "num_loops": 3, **fields})
    once = AxionConfig(**{"num_shared_layers": 2, "num_loops": 1, **fields})
    shared = [layer for index, layer in enumerate(AxionForCausalLM(once).model.layers) if index in once.shared_layers]
    weights = sum(
        parameter.numel() * (once.num_experts_per_tok / once.n_routed_experts if ".experts." in name else 1)
        for layer in shared
        for name, parameter in layer.named_parameters()
    )
    assert limits.weights_read(looped) == limits.weights_read(once) + 2 * weights
    attention = 3 * 4 * 4 * (16 + 16) * 512
    assert limits.training_operations(looped, 512) - limits.training_operations(once, 512) == 12 * weights + attention
    counts = count_parameters(once)
    assert limits.weights_read(once) + 1 == (
        counts.active if once.tie_word_embeddings else counts.active - counts.embedding
    )  # without the gate of the loops


def test_the_share_of_the_limit():
    config = config_of("v0.1")
    trained = figure("axion-native", "growth", 10, kind="train 512")
    written = figure("axion-native", "growth", 10, kind="write 512")
    found = {
        "2": {
            "operations": 20 * limits.training_operations(config, 512),
            "read": {str(growth.bytes_read(written)): 40 * limits.decoding_bytes(config, 512, 4)},
        }
    }
    assert growth.share(trained, found) == 0.5 and growth.share(written, found) == 0.25


# --- The report -------------------------------------------------------------------------------------------------------


def made_up_parts() -> dict:
    """The parts of a report in which all contenders have the same speed."""
    common = {"left_out": ["L, x: why"], "machine": {"processor": "P", "cores": 2}, "measured": "2026-01-01"}
    trained = [
        figure(name, group, 2.0, 3.0, size=size)
        for size in performance.TRAINING_TARGETS
        for name, group in training.contenders(size, True)
    ]
    whole = [figure(training.WHOLE, training.WHOLE, 9.0), figure("axion-native+recipe", "bare step", 10.0)]
    written = [
        Figure(who.name, who.group, who.threads, size, kind, (1.0, 2.0))
        for size in SIZES
        for who in decoding.contenders(size, (1, 2), llama=True)
        for kind in decoding.KINDS
    ]
    beside = [
        Figure(name, group, threads, "v0.1", f"{work} {count}", (12.0 / (count + 1), 12.0 / (count + 1)))
        for work, threads in (("training", 2), ("writing", 1), ("reading", 1))
        for name, group in (("axion-native", neighbours.AXION), ("transformers", neighbours.TRANSFORMERS))
        for count in neighbours.COUNTS
    ]
    grown = [figure("axion-native", "growth", 5.0, kind="train 512")]
    shapes = {"v0.1": {"parameters": 3, "active": 2, "cache_bytes": {"ours": 1, "theirs": 1}}}
    steps = {"batch": 8, "window": 512, "rounds": 2, "whole_steps": 400, "backend": "native"}

    def records(rows):
        return [asdict(row) for row in rows]

    return {
        "training": common | steps | {"figures": records(trained), "tried": records(trained), "whole": records(whole)},
        "decoding": common
        | {
            "figures": records(written),
            "tried": records(written),
            "rounds": 2,
            "losses": {"fp32": 1.0, "bf16": 1.1},
            "texts": {"v0.1": {"a": 1}},
        },
        "neighbours": common | {"figures": records(beside), "rounds": 2},
        "starting": common | {"seconds": {starting.GENERATE: [2.0, 4.0], starting.TRANSFORMERS: [6.0, 6.0]}},
        "growth": common | {"figures": records(grown), "shapes": shapes, "limits": None, "tokens": 4096},
    }


def test_every_target_has_a_row():
    rows = {row.name: row for row in performance.target_rows(made_up_parts())}
    assert len(rows) == 5 + 1 + 11 + 2 + 3 * (2 + 2) + 1
    beside = {name: rows.pop(name) for name in list(rows) if "busy process" in name}
    assert rows.pop("the first token of `axion generate`, sooner than transformers' by").values == (3.0, 1.5)
    assert {row.median for row in rows.values()} == {1.0, 0.9}
    assert all(row.at_least for row in rows.values())
    assert [name for name, row in rows.items() if not row.aim] == [
        "training dense ÷ transformers' best, bf16 and compiled too",
        "training mini ÷ Axion's PyTorch model at its best",
        "generation dense ÷ transformers",
        "generation dense ÷ llama.cpp",
        "generation mini ÷ Axion in PyTorch",
        "generation L with int8 weights ÷ with bf16 weights",
        "`generate` v0.1 with Axion's code ÷ transformers' own",
    ]
    shares = [(row.median, row.at_least) for name, row in beside.items() if name.endswith("÷ alone")]
    assert shares == [(0.5, 0.5), (1 / 3, 0.45)] * 3


def test_a_missing_contender_has_no_row():
    parts = made_up_parts()
    parts["decoding"]["figures"] = [r for r in parts["decoding"]["figures"] if not r["name"].startswith("llama")]
    rows = list(performance.target_rows({"decoding": parts["decoding"]}))
    assert len(rows) == 8 and not any("llama" in row.name for row in rows)


def made_up_report(processor: str, measured: str, parts: dict) -> dict:
    machine = {"processor": processor, "cores": 2}
    libraries = {"torch": "1", "transformers": "2"}
    return {"machine": machine, "libraries": libraries, "measured": measured, "backend": "native: g++", "parts": parts}


def test_a_run_replaces_the_results_of_its_own_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(processors, "FOLDER", tmp_path)
    for processor, measured in (("AMD EPYC", "2026-01-01"), ("Intel(R) Xeon(R) Processor", "2026-01-02")):
        processors.save_results(made_up_report(processor, measured, made_up_parts()))
    processors.save_results(made_up_report("AMD EPYC", "2026-01-03", {}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["amd-epyc-2-cores.json", "intel-xeon-2-cores.json"]
    results = processors.read_results(tmp_path)
    assert list(results) == ["Intel Xeon, 2 cores", "AMD EPYC, 2 cores"]  # the latest last
    assert not results["AMD EPYC, 2 cores"]["parts"]


def test_every_block_has_a_column_for_each_processor():
    few = {name: part for name, part in made_up_parts().items() if name in ("training", "starting")}
    few["training"]["figures"] = few["training"]["figures"][:2]
    results = {"P": made_up_report("P", "2026-01-01", made_up_parts()), "Q": made_up_report("Q", "2026-01-02", few)}
    found = performance.blocks(results)
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    for name in [performance.NAME, *performance.PARTS]:
        assert f"<!-- {name}:start -->" in page and f"<!-- {name}:end -->" in page
    assert set(found) == {performance.NAME, *performance.PARTS}
    assert "- L, x: why" in found["training"] and "Q: 2026-01-01." in found["training"]
    assert all("| P | Q |" in found[name] for name in (performance.NAME, "training", "starting"))
    assert all("Q" not in found[name] for name in ("decoding", "neighbours", "growth"))
    trained = [line for line in found[performance.NAME].splitlines() if line.startswith("| training M ÷")]
    assert trained[0].endswith("| ≥ 2.5, aim 5 | 1 × (1 to 1), **missed** | – |")
    assert "| training | Axion | 2 | 12, 50%, 33% |" in found["neighbours"]


def test_the_docs_have_the_measured_tables():
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert all(block in page for block in performance.blocks(processors.read_results()).values())


@pytest.mark.slow
def test_without_a_compiler_the_report_says_so(monkeypatch):
    """For the kernels and the limits there is a line instead of a figure."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("AXION_KERNELS", os.devnull)
    tiny = Effort(**{**vars(QUICK), "rounds": 1, "seconds": 0.0, "window": 16, "batch": 1, "contexts": ()})
    found = growth.measure(tiny, say)
    assert found["limits"] is None
    assert {row["name"] for row in found["figures"]} == {"axion-torch"}
    assert any("no-such-compiler" in line for line in found["left_out"])
    assert growth.tables({"this processor": found})


@pytest.mark.slow
def test_a_quick_run_measures_everything(tmp_path):
    """One setting of every engine available on this machine, in two minutes."""
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.performance", "--quick", "--json", str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=1200)
    report = json.loads(out.read_text(encoding="utf-8"))
    assert set(report["parts"]) == set(performance.PARTS)
    assert all(row.median > 0 for row in performance.target_rows(report["parts"]))


def test_the_table_of_waiting_has_the_shares_of_the_speed_alone():
    figures = [
        figure(name, "waiting", 4.0 + at - busy, kind=f"{spins} {busy}")
        for name in waiting.TRAINERS
        for at, spins in enumerate(waiting.SPINS)
        for busy in waiting.BESIDE
    ]
    machine = {"processor": "P", "cores": 2}
    report = {
        "machine": machine,
        "libraries": {"torch": "2"},
        "measured": "2026-01-01",
        "figures": [*map(asdict, figures)],
    }
    lines = waiting.table(report).splitlines()
    assert lines[2] == "| training v0.1 | | 0 | 1,000 | 2,000 | 5,000 | 10,000 | 300,000 |"
    assert lines[4] == "| with the kernels | alone | 0.44 | 0.56 | 0.67 | 0.78 | 0.89 | 1.00 |"
    assert lines[9].startswith("| with PyTorch | beside two | 0.22 |")


def test_mini_has_the_shape_of_its_recipe():
    ours, recipe = config_of("mini"), load_recipe("mini-axion1-0.9m").build_config()
    fields = ("hidden_size", "intermediate_size", "num_loops", "projection_rank", "vocab_size", "num_key_value_heads")
    assert all(getattr(ours, name) == getattr(recipe, name) for name in fields) and ours.dropout == 0
    Recipe(**recipe_of("mini", steps=1, batch=1))
