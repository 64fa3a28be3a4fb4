"""The scaling law: its fit, the sizes of the protocol, the report. Nothing is trained, except in a slow test."""

import json
from functools import partial

import pytest

from axion.cli import app, run
from axion.errors import AxionError
from axion.evaluation import scaling
from axion.evaluation.scaling import BASE, SIZES, TOKENS, analyse, draw, experiments, protocol, table
from axion.evaluation.scaling_law import Law, Point, bootstrap, fit, interval
from axion.params import count_parameters
from axion.recipe import load_recipe

TRUE = Law(floor=1.1, log_a=5.0, alpha=0.5, log_b=6.0, beta=0.45)


def points(law=TRUE, sizes=(1e5, 2e5, 4e5, 1e6, 3e6), tokens=(2.5e6, 5e6, 1e7)):
    return [Point(size, length, law(size, length)) for size in sizes for length in tokens]


@pytest.fixture(scope="module")
def fitted() -> Law:
    return fit(points())


def test_the_fit_finds_the_law_that_made_the_points(fitted):
    for size, length in ((6e6, 2.5e6), (6e6, 1e7), (1e5, 5e6)):
        assert fitted(size, length) == pytest.approx(TRUE(size, length), abs=1e-3)
    assert fitted.alpha == pytest.approx(TRUE.alpha, abs=0.03) and fitted.floor == pytest.approx(TRUE.floor, abs=0.03)


def test_the_bootstraps_interval_contains_the_prediction(fitted):
    noisy = [point._replace(loss=point.loss + 0.004 * (-1) ** index) for index, point in enumerate(points())]
    laws = bootstrap(noisy, fitted, resamples=3)
    low, high = interval(laws, 6e6, 1e7)
    assert low < high and low - 0.02 < TRUE(6e6, 1e7) < high + 0.02
    assert interval(bootstrap(noisy, fitted, resamples=3), 6e6, 1e7) == (low, high)


def test_a_fit_needs_two_sizes_and_two_lengths():
    for few in (points()[:4], points(sizes=(1e5,), tokens=(1e6, 2e6, 3e6, 4e6, 5e6)), [points()[0]] * 9):
        with pytest.raises(AxionError, match="too few for a fit"):
            fit(few)


def test_the_sizes_grow_from_0_1_to_6_million_parameters_with_v0_1_among_them():
    counts = [count_parameters(load_recipe(BASE, size.overrides).build_config()).total for size in SIZES]
    assert counts == sorted(counts) and 0.9e5 < counts[0] < 1.1e5 and 5.8e6 < counts[-1] < 6.3e6 and len(counts) >= 6
    assert count_parameters(load_recipe(BASE).build_config()).total in counts


def test_learning_rates_fall_with_the_root_of_the_width():
    narrow, wide = (load_recipe(BASE, scaling.Size(width, 4).overrides).training for width in (64, 256))
    assert narrow == load_recipe(BASE).training
    for name in ("learning_rate", "muon_learning_rate", "router_learning_rate"):
        assert getattr(wide, name) == pytest.approx(getattr(narrow, name) / 2)


def test_no_run_reads_a_document_twice():
    wanted = experiments(SIZES[:2], TOKENS)
    assert len({each.key for each in wanted}) == len(wanted) == 6
    assert all(each.recipe.data.max_tokens >= max(TOKENS) and not each.recipe.data.trains_by_shard for each in wanted)
    assert len({str(each.recipe.data.identity()) for each in wanted}) == 1
    assert load_recipe(BASE, protocol(TOKENS, ["tokenizer.vocab_size=2048"])).tokenizer.vocab_size == 2048


@pytest.fixture(scope="module")
def report():
    runs = [
        {
            "parameters": {"total": int(size), "active": int(0.7 * size)},
            "tokens": int(length),
            "seed": 1,
            "val_loss": loss,
        }
        for size, length, loss in points(sizes=(1e5, 4e5, 1e6, 6e6), tokens=(2.5e6, 1e7))
    ]
    before, scaling.bootstrap = scaling.bootstrap, partial(bootstrap, resamples=3)
    try:
        return json.loads(json.dumps(analyse(runs)))
    finally:
        scaling.bootstrap = before


def test_the_largest_size_is_predicted_without_it(report, tmp_path):
    assert report["held_out"] == 6_000_000
    for found in report["laws"].values():
        assert len(found["held_out"]) == 2 and found["error"] < scaling.TARGET
        assert [each["name"] for each in found["predictions"]] == ["axion1-v0.4", "axion1-v0.5"]
    by_name = {each["name"]: each for each in report["laws"]["total"]["predictions"]}
    assert by_name["axion1-v0.4"]["tokens"] == 400_000_000 and by_name["axion1-v0.4"]["parameters"] == 23_969_280
    shown = table(report)
    assert "| 6,000,000 (held out) | 4,200,000 |" in shown and "axion1-v0.5 | active parameters" in shown
    draw(report, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


def test_lengths_are_named_exactly(report):
    points = [{**report["points"][0], "tokens": tokens} for tokens in (40_000, 12_500_000, 100_000_000, 2_000_000_000)]
    heads = table({**report, "points": points}).partition("\n")[0].split(" | ")[2:]
    assert [head.split()[0] for head in heads] == ["0.04", "12.5", "100", "2,000"]


def test_an_interval_beside_its_prediction_is_drawn_where_it_is(report, tmp_path, monkeypatch):
    [prediction, *_] = report["laws"]["total"]["predictions"]
    prediction = {**prediction, "predicted": 1.0, "interval": (1.2, 1.3)}
    found = {**report["laws"]["total"], "predictions": [prediction]}
    drawn = []
    monkeypatch.setattr("axion.drawing.save", lambda figure, path: drawn.extend(figure.axes[0].lines))
    draw({**report, "laws": {"total": found}}, tmp_path / "scaling.png")
    bars = [sorted(line.get_ydata()) for line in drawn if {*line.get_xdata()} == {prediction["parameters"]}]
    assert bars == [[1.2, 1.3], [1.0]]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--tokens", "5M"], "--tokens names one length"),
        (["--tokens", "5M,many"], "'many' is not a number of tokens"),
        (["--quick", "--tokens", "1M,2M"], "--quick has lengths of its own"),
        (["--plot", "law.jpeg2"], "--plot law.jpeg2 must end in .png or .svg"),
    ],
)
def test_bad_options_are_refused_in_one_line(arguments, reason, capsys):
    assert run(app, ["scale", *arguments]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.slow
def test_a_smoke_test_trains_fits_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AXION_KERNELS_FLAGS", "-O1")  # the kernels are compiled in half the time
    monkeypatch.setattr(scaling, "bootstrap", partial(bootstrap, resamples=3))
    command = ["scale", "--quick", "--set", "data.max_validation_bytes=20_000"]
    assert run(app, [*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["points"]) == 9 and (tmp_path / "runs" / "scale" / "quick" / "scaling.png").is_file()
    assert run(app, command) == 0  # nothing is trained again
    printed = capsys.readouterr()
    assert printed.err == "" and "axion1-v0.4" in printed.out
