"""The Model tab: the figures on the page match the release's files."""

import csv
import json
import re
from dataclasses import replace
from functools import partial
from html import unescape

import pytest

from axion.data.sources import SOURCES
from axion.errors import AxionError
from axion.evaluation.results import result_rows
from axion.families import COMPONENTS
from axion.params import report
from axion.release import RELEASES, open_release
from axion.series import families, series
from playground.content.charts import SIZE, curve, linear_axis, log_axis, span_axis
from playground.content.experts import describe_experts
from playground.content.metrics import read_curves, smooth, thin
from playground.content.model import model_html
from playground.content.roadmap import compare_sizes, read_roadmap
from playground.content.training import (
    MOST_POINTS,
    draw_overload,
    draw_training,
    final_overload,
    list_evaluations,
    list_facts,
)
from playground.generate.catalogue import Catalogue
from playground.locales import LocaleNumbers, by_language, fill, format_number, format_percent, format_short, texts
from tests.support.measured import VALIDATION, make_release, measured_info, write_history, write_info, write_metrics

short = partial(format_short, language="en")
TEXT = by_language("model")

BUNDLED = RELEASES / "axion1-v0.1"
TRAINING = {
    "steps": 9836,
    "tokens": 40_288_256,
    "seconds": 7384.2,
    "date": "2026-11-21",
    "machine": {"processor": "A Processor", "cores": 2},
    "python": "3.11.7",
    "libraries": {"torch": "2.13.0"},
    "git_commit": "da0a4c9d986e83333cef60943fd7290b38ff087c",
    "recipe": {"epochs": 17},
    "command": "python -m axion train recipe.yaml",
}
DATA = {"train": {"tokens": 2_370_181, "by_source": {"word_problems": {"tokens": 246_323}}}}
needs_bundled = pytest.mark.skipif(not BUNDLED.is_dir(), reason="releases/axion1-v0.1 is not built")


@pytest.fixture
def folder(tiny_release, tmp_path):
    return make_release(tiny_release, tmp_path / "measured")


def opened(folder):
    return Catalogue([str(folder)]).open(folder.name)


def words(html: str) -> str:
    """The visible text of a page, with single spaces."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


# ------------------------------------------------------------------------------------------------------------- the page


@needs_bundled
@pytest.mark.parametrize("language", ["en", "pt"])
def test_numbers_of_the_bundled_release_match_its_files(language):
    model = Catalogue().open("axion1-v0.1")
    shown = words(model_html(model, language))
    info = json.loads((BUNDLED / "release.json").read_text())
    counted = report("axion1-v0.1", model.release.config)
    for count in (*counted["components"].values(), *counted["active_components"].values(), counted["total"]):
        assert format_number(count, language) in shown
    for row in result_rows(info["results"], texts("results", language), LocaleNumbers(language)):
        assert f"{row.label} {row.value} {row.note}" in shown and row.command in shown
    for row in info["training"]["curve"]:
        losses = (format_number(row[name], language, 4) for name in ("val_loss", "val_bits_per_byte"))
        assert " ".join([format_number(row["tokens"], language), *losses]) in shown
    for name in ("tokens", "steps"):
        assert format_number(info["training"][name], language) in shown
    assert "python -m axion reproduce axion1-v0.1" in shown
    numbers = {
        "en": ("344,224", "1.323", "97.6% to 100.0%", "12 of 1,319"),
        "pt": ("344.224", "1,323", "97,6% a 100,0%", "12 de 1.319"),
    }
    assert all(number in shown for number in numbers[language])


def test_measured_values_are_shown_and_escaped(folder):
    score = {"digits": 2, "language": "pt", "correct": 96, "total": 100, "accuracy": 0.96, "interval": [0.9, 0.98]}
    results = {"arithmetic": {"scores": [score]}, "gsm8k_test": {"skipped": "<b>no data</b>"}}
    write_info(folder, results=results)
    html = model_html(opened(folder), "en")
    assert "96.0%" in html and "96 of 100" in html and "test set" not in html
    assert "96 de 100" in model_html(opened(folder), "pt")

    loss = {"documents": 3, "tokens": 40, "nats_per_token": 2.0, "bits_per_byte": 1.5}
    write_info(folder, results={"validation": loss | {"data": "arithmetic, word problems, mine.txt"}})
    assert "sums and differences, word problems, mine.txt, held-out" in model_html(opened(folder), "en")
    assert "somas e diferenças, problemas de vários passos, mine.txt, doc" in model_html(opened(folder), "pt")

    results["arithmetic"]["scores"][0]["language"] = "<img>"
    write_info(folder, results=results)
    with pytest.raises(AxionError, match=r"release\.json is broken"):
        model_html(opened(folder), "en")


@pytest.mark.parametrize("commit", [TRAINING["git_commit"], None])
def test_an_unknown_commit_has_no_row(folder, commit):
    write_info(folder, training=TRAINING | {"git_commit": commit})
    labels = [label for label, *_ in list_facts(opened(folder), "en")]
    assert (TEXT["en"]["commit"] in labels) == (commit is not None) and TEXT["en"]["steps"] in labels


def test_a_bare_release_lists_what_is_missing(folder):
    shown = words(model_html(opened(folder), "en"))
    assert "has not been measured" in shown and "without metrics.csv" in shown
    assert TEXT["en"]["roadmap"] not in shown and TEXT["en"]["scaling"] not in shown


def test_a_dense_model_uses_every_weight(tiny_release, tmp_path):
    folder = make_release(tiny_release, tmp_path / "dense", first_k_dense_replace=2)
    shown = words(model_html(opened(folder), "en"))
    assert f"{report('dense', open_release(folder).config)['total']:,} parameters" in shown
    assert "dense feed-forward" in shown and "routed" not in shown


@pytest.mark.parametrize(
    ("shared", "said"),
    [(0, "in each layer with experts, 2 of"), (1, "the shared expert and 2 of"), (3, "3 shared experts and 2 of")],
)
def test_the_shared_experts_are_counted(folder, shared, said):
    model = opened(folder)
    model = replace(model, facts=replace(model.facts, shared_experts=shared))
    assert f"{said} the 4 routed experts" in words(model_html(model, "en"))


def test_the_cache_size_is_shown_per_token_and_for_the_whole_context(folder):
    model = opened(folder)
    shown = words(model_html(model, "en"))
    assert f"latent cache {model.facts.cache_bytes} B" in shown
    assert f"latent cache {model.facts.cache_bytes * 128 / 1000:.1f} kB" in shown  # 128 tokens of context


def test_every_kind_of_source_has_a_name_in_every_language():
    assert all(f"source_{kind}" in text for kind in SOURCES for text in TEXT.values())


def test_every_component_has_a_name_in_every_language():
    for name in {component for _, component in COMPONENTS}:
        assert all(f"component_{name}" in text for text in TEXT.values())


# ------------------------------------------------------------------------------------------------------------- training


def test_facts_match_the_release(folder):
    write_info(folder, seed=7, dataset="openai/gsm8k", training=TRAINING, data=DATA)
    facts = {name: (value, note) for name, value, note, _ in list_facts(opened(folder), "en")}
    assert facts["Training tokens"] == ("40,288,256", "17 epochs of 2,370,181")
    for steps, epochs in ((7_000, "17 epochs"), (59, "0.051 epochs"), (1_157, "1 epoch")):
        stopped = TRAINING | {"tokens": steps * 2_048, "recipe": TRAINING["recipe"] | {"max_steps": steps}}
        if steps == 7_000:
            stopped["tokens"] = TRAINING["tokens"]
        write_info(folder, training=stopped, data=DATA)
        assert list_facts(opened(folder), "en")[0][2] == f"{epochs} of 2,370,181"
    write_info(folder, seed=7, dataset="openai/gsm8k", training=TRAINING, data=DATA)
    assert facts["Time"] == ("2 h 3 min", f"{40_288_256 / 7384:,.0f} tokens/s")
    assert facts["Machine"] == ("A Processor", "2 cores")
    assert facts["Seed"] == ("7", "")
    assert facts["Data"] == ("openai/gsm8k", "word problems: 246 k tokens")
    own = {"train": {"by_source": {"gsm8k": {"tokens": 1_400_000}, "text": {"tokens": 2_000}}}}
    write_info(folder, data=own)  # local files in that data set's format
    assert "gsm8k" not in words(model_html(opened(folder), "en")).lower()
    assert "problems with their solutions: 1.4 M tokens text: 2 k tokens" in words(model_html(opened(folder), "en"))
    assert facts["Code"] == ("commit da0a4c9d", "2026-11-21")
    assert facts["Libraries"] == ("python 3.11.7 · torch 2.13.0", "")


def test_facts_missing_from_a_release_are_left_out(folder):
    write_info(folder, seed=7, training={"tokens": 5})
    assert [fact[:2] for fact in list_facts(opened(folder), "en")] == [("Training tokens", "5"), ("Seed", "7")]
    for broken in ([1], {"tokens": "many"}, {"tokens": 5, "seconds": "x"}, {"machine": 3}):
        write_info(folder, training=broken)
        with pytest.raises(AxionError, match=r"release\.json is broken"):
            model_html(opened(folder), "en")


def test_curves_match_the_columns_of_the_file(folder):
    rows = write_metrics(folder)
    metrics = read_curves(folder / "metrics.csv")
    assert metrics.train_loss == tuple((row["tokens"], row["train_loss"]) for row in rows)
    evaluated = [row for row in rows if row["val_loss"] != ""]
    assert metrics.validation_loss == tuple((row["tokens"], row["val_loss"]) for row in evaluated)
    assert metrics.bits_per_byte == tuple((row["tokens"], row["val_bits_per_byte"]) for row in evaluated)
    for layer, points in enumerate(metrics.overload, start=1):
        assert points == tuple((row["tokens"], row[f"max_violation_layer_{layer}"]) for row in rows)
    assert list_evaluations(metrics) == [
        (row["tokens"], row["val_loss"], row["val_bits_per_byte"]) for row in evaluated
    ]


def test_charts_draw_the_curves(folder):
    write_metrics(folder, rows=2000)
    metrics = read_curves(folder / "metrics.csv")
    loss, bits = draw_training(metrics, "en")
    raw, train, validation = loss.curves
    assert (train.label, validation.label) == ("training", "validation") and not raw.label
    for line in (*loss.curves, *bits.curves):
        assert 2 <= len(line.points) <= MOST_POINTS
        x, y = map(float, line.path.removeprefix("M").split("L")[-1].split())
        chart = loss if line in loss.curves else bits
        assert x == pytest.approx(SIZE * line.points[-1][0] / chart.x.high, abs=0.51)
        share = (line.points[-1][1] - chart.y.low) / (chart.y.high - chart.y.low)
        assert y == pytest.approx(SIZE * (1 - share), abs=0.51)
    overload = draw_overload(metrics, 3, "en")
    assert [name for name, *_ in overload] == ["L3", "L4"]  # counted from the first layer with experts


@pytest.mark.parametrize("language", ["en", "pt"])
def test_a_change_of_windows_and_two_figures_of_load_are_explained(folder, language):
    write_metrics(folder, rows=1000)
    recipe = {"window": 512, "short_window": 256, "short_share": 0.75}
    load = {"together": {"layers": [[1.1, 0.9]], "highest": 1.0981, "lowest": 0.9}}
    training = TRAINING | {"tokens": 1_000_000, "recipe": recipe}
    write_info(folder, training=training, results={"expert_load": load})
    page, text = model_html(opened(folder), language), TEXT[language]
    change = {"tokens": format_short(750_000, language), "short": 256, "window": 512}
    assert fill(text["window_change"], language, **change) in words(page)
    assert 'class="ax-change" style="left: 75.00%"' in page
    metrics = read_curves(folder / "metrics.csv")
    overload = final_overload(metrics)
    assert overload == max(last for *_, last in draw_overload(metrics, 1, language))
    values = {"overload": format_percent(overload, language, 1), "times": format_number(1.0981, language, 2)}
    assert fill(text["overload_beside"], language, **values) in words(page)
    write_info(folder, training=training | {"recipe": recipe | {"short_window": None}})
    assert "ax-change" not in model_html(opened(folder), language)
    assert describe_experts(opened(folder))["overload"] == overload


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no rows"),
        (b"tokens,train_loss\n", "no rows"),
        (b"step,train_loss\n1,2\n", "no column tokens"),
        (b"tokens,train_loss\n1,much\n", "could not convert"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b'tokens,train_loss\n1,"' + b"x" * 200_000, "cannot be read"),
    ],
)
def test_a_broken_log_is_reported_on_the_page(folder, content, told):
    (folder / "metrics.csv").write_bytes(content)
    with pytest.raises(AxionError, match=told) as caught:
        read_curves(folder / "metrics.csv")
    assert "\n" not in str(caught.value)
    shown = words(model_html(opened(folder), "en"))
    assert "measured: metrics.csv" in shown and "parameters" in shown  # everything else is shown


def test_a_log_that_diverged_or_was_cut_off_still_shows(folder):
    rows = write_metrics(folder, rows=8)
    path = folder / "metrics.csv"
    text = path.read_text().replace(str(rows[2]["train_loss"]), "nan", 1)
    path.write_text(text + "225,9000,0.6")
    metrics = read_curves(path)
    assert len(metrics.train_loss) == 7 and metrics.train_loss[-1][0] == 8000
    assert "<path" in model_html(opened(folder), "en")


def test_a_log_with_one_row_is_shown(folder):
    with (folder / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["tokens", "train_loss", "max_violation_layer_1"], [0, 0, 0]])
    assert "<path" in model_html(opened(folder), "en")


# --------------------------------------------------------------------------------------------------------------- charts


def test_what_was_written_while_it_learned(folder):
    for language in ("en", "pt"):  # a release without history.json
        assert TEXT[language]["learning"] not in model_html(opened(folder), language)
    write_history(folder, [["x<b>", "y"], ["", "18"], ["42", "19"]])
    shown = model_html(opened(folder), "pt")
    assert "passo 1.000 · 4 M tokens · perda 2,750 question 0 42 question 1 19" in words(shown)
    moments = json.loads(unescape(re.search(r'data-learning="([^"]*)"', shown)[1]))
    assert moments == [
        {"label": "antes do treinamento", "answers": ["x<b>", "y"]},
        {"label": "passo 500 · 2 M tokens · perda 5,500", "answers": ["(nada)", "18"]},
        {"label": "passo 1.000 · 4 M tokens · perda 2,750", "answers": ["42", "19"]},
    ]
    assert "<b>" not in shown.partition("data-learning")[2].partition("</section>")[0]


@pytest.mark.parametrize(
    "wrong",
    [[], {"prompts": []}, {"checkpoints": [{}]}, {"checkpoints": [{"step": "1"}]}, {"prompts": [{"shown": 5}]}],
)
def test_a_broken_history_is_reported_on_the_page(folder, wrong):
    write_history(folder, [["x"], ["y"]])
    content = json.loads((folder / "history.json").read_text())
    (folder / "history.json").write_text(json.dumps(content | wrong if isinstance(wrong, dict) else wrong))
    shown = words(model_html(opened(folder), "en"))
    told = "measured: history.json is broken: it has not the form that training writes"
    assert (told in shown) == (wrong != {"prompts": []})
    (folder / "history.json").write_text("{")
    assert told in words(model_html(opened(folder), "en"))


def test_axes_end_on_round_numbers_and_their_ticks_differ():
    for values in ([1.3, 1.74], [0.02, 0.031], [6.2, 1.4], [5], [0], [1e6, 3.4e7]):
        axis = linear_axis(values)
        assert axis.low <= min(values) and max(values) <= axis.high and axis.low < axis.high
        assert len({label for _, label in axis.ticks}) == len(axis.ticks) >= 2
        for place, label in axis.ticks:
            assert axis.place(float(label.replace(",", ""))) == pytest.approx(place, abs=1e-6)
    axis = span_axis([40_288_256], short)
    assert (axis.low, axis.high) == (0, 40_288_256) and [label for _, label in axis.ticks][-1] == "40 M"


def test_equal_factors_are_equally_far_apart_on_a_logarithmic_axis():
    axis = log_axis([344_224, 1_500_000, 6_000_000], short)
    assert axis.place(2e6) - axis.place(1e6) == pytest.approx(axis.place(4e6) - axis.place(2e6))
    assert [label for _, label in axis.ticks] == ["500 k", "1 M", "2 M", "5 M"]
    assert axis.low < 344_224 and axis.high > 6_000_000


def test_smoothing_keeps_a_straight_line_and_thinning_the_ends():
    line = tuple((float(x), 2.0 * x) for x in range(50))
    assert smooth(line, 5)[2:-2] == line[2:-2] and smooth(line, 1) == line
    thinned = thin(line, 10)
    assert len(thinned) == 10 and (thinned[0], thinned[-1]) == (line[0], line[-1])
    axis = linear_axis([0, 100])
    assert curve("style", (), axis, axis).path == ""


@pytest.mark.parametrize(
    ("count", "written"),
    [(0, "0"), (999, "999"), (344_224, "344 k"), (1.5e6, "1.5 M"), (1e8, "100 M"), (999_900, "1 M")],
)
def test_counts_are_abbreviated(count, written):
    assert short(count) == written


# --------------------------------------------------------------------------------------------------- series and scaling


def test_the_roadmap_matches_the_series(folder):
    for family in families():
        stops = read_roadmap({"family": family, "name": series(family)[0].name})
        assert [(s.name, s.parameters, s.active, s.released) for s in stops] == [
            (m.name, m.parameters, m.active, m.released) for m in series(family)
        ]
        first = stops[0]
        write_info(folder, name=first.name, family=family)
        html = model_html(opened(folder), "en")
        assert html.count('aria-current="true"') == 1
        for stop in stops:
            assert f"{stop.parameters:,} parameters {stop.active:,} active per token" in words(html)
        assert words(html).count("active per token planned") == sum(not stop.released for stop in stops[1:])


def test_without_the_recipes_the_release_provides_the_roadmap(monkeypatch):
    monkeypatch.setattr("playground.content.roadmap.families", lambda: [])
    entry = {"name": "a-v1", "version": "1", "title": "A", "parameters": 5, "active": None, "released": False}
    (stop,) = read_roadmap({"family": "axion1", "name": entry["name"], "roadmap": [entry]})
    assert (stop.name, stop.parameters, stop.active, stop.released) == ("a-v1", 5, None, False)
    assert read_roadmap({"family": "axion1"}) == read_roadmap({}) == []
    assert read_roadmap({"family": "axion1", "name": "my-tales", "roadmap": [entry]}) == []
    with pytest.raises(AxionError, match="roadmap"):
        read_roadmap({"roadmap": [{}]})


def test_sizes_are_compared_only_on_the_same_documents():
    small, large = measured_info("s", 1000, 1.5), measured_info("l", 5000, 1.25)
    other = measured_info("o", 3000, 9.9)
    other["results"]["validation"] = VALIDATION | {"bits_per_byte": 9.9, "documents": 7}
    strangers = [
        ("none", {}),
        ("odd", {"results": 3}),
        ("listed", {"results": {"validation": []}}),
        ("unsized", {"results": large["results"]}),
        ("other", other),
    ]
    points = compare_sizes("large", large, [("small", small), ("large", large), *strangers])
    assert [(p.name, p.parameters, p.bits_per_byte, p.documents) for p in points] == [
        ("small", 1000, 1.5, 392),
        ("large", 5000, 1.25, 392),
    ]
    assert compare_sizes("bare", {}, [("small", small)]) == []


def test_the_scaling_chart_appears_with_the_second_measured_release(tiny_release, tmp_path):
    folders = [make_release(tiny_release, tmp_path / name) for name in ("one", "two", "three")]
    for place, folder in enumerate(folders):
        write_info(folder, **measured_info(folder.name, 1000 * 10**place, 2 - place / 4))
    catalogue = Catalogue([str(folder) for folder in folders])
    model = catalogue.open("two")  # the other models are not loaded
    html = words(model_html(model, "en", catalogue.describe_others()))
    assert TEXT["en"]["scaling"] in html
    for label in ("one 1 k · 2.000", "two 10 k · 1.750", "three 100 k · 1.500"):
        assert label in html
    assert TEXT["en"]["scaling"] not in words(model_html(model, "en", []))


def test_models_that_are_broken_or_not_downloaded_are_not_described(tiny_release, tmp_path):
    good, broken = (make_release(tiny_release, tmp_path / name) for name in ("good", "broken"))
    write_info(good, name="good")
    (broken / "release.json").write_text("{")
    catalogue = Catalogue([str(good), str(broken), f"someone/model@{'0' * 40}"])
    described = dict(catalogue.describe_others())
    assert described["good"] == {"name": "good"} and not {"broken", "someone/model@00000000"} & set(described)
