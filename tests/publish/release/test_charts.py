"""The pictures are drawn from the log, and the same log gives the same bytes."""

import matplotlib.image
import pytest

from axion.inference.routing import RoutingRow
from axion.training.metrics import read_metrics
from publish.release import charts

METRICS = """step,epoch,tokens,train_loss,val_loss,val_bits_per_byte
10,0.1,40960,5.5,,
20,0.2,81920,4.5,4.4,2.7
30,0.3,122880,4.0,,
40,0.4,163840,3.5,3.6,2.2
"""


@pytest.fixture
def metrics(tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    return read_metrics(tmp_path / "metrics.csv")


def test_the_curve_is_reproducible(metrics, tmp_path):
    for name in ("one.png", "two.png"):
        charts.draw_training_curve(metrics, "training", tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert matplotlib.image.imread(tmp_path / "one.png").std() > 0.05  # not a blank page


def test_the_curve_shows_the_figures_that_it_is_given(metrics, tmp_path):
    charts.draw_training_curve(metrics, "training", tmp_path / "one.png")
    metrics["val_loss"][-1] = 3.0
    charts.draw_training_curve(metrics, "training", tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "two.png").read_bytes()


def test_a_run_that_never_evaluated_still_has_a_curve(tmp_path):
    (tmp_path / "metrics.csv").write_text("\n".join(METRICS.splitlines()[:2]))
    metrics = read_metrics(tmp_path / "metrics.csv")
    charts.draw_training_curve(metrics, "training", tmp_path / "one.png")
    assert (tmp_path / "one.png").is_file()


@pytest.mark.parametrize("experts", [4, 16])
def test_the_load_is_drawn_for_few_and_for_many_experts(experts, tmp_path):
    rows = [RoutingRow(1), RoutingRow(2)]
    charts.draw_expert_load([[1.0] * experts, [0.9, 1.1] * (experts // 2)], rows, "load", tmp_path / "load.png")
    assert matplotlib.image.imread(tmp_path / "load.png").std() > 0.05


def test_layers_are_numbered_as_in_the_model(tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr(charts.Axes, "set_xticks", lambda axes, places, labels: names.append(labels))
    for rows in ([RoutingRow(3), RoutingRow(4)], [RoutingRow(2), RoutingRow(2, loop=2), RoutingRow(3)]):
        charts.draw_expert_load([[1.0] * 4] * len(rows), rows, "load", tmp_path / "load.png")
    assert names == [["3", "4"], ["2\nloop 1", "2\nloop 2", "3"]]
