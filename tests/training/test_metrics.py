"""metrics.csv: round trip, dropping of incomplete rows, and truncation by a resumed run."""

import numpy as np
import pytest

from axion.errors import AxionError
from axion.training.metrics import EvaluationsFile, MetricsFile, read_metrics, row_interval


def test_rows_are_read_back_as_columns(tmp_path):
    file = MetricsFile(tmp_path / "metrics.csv", layers=range(1, 12))
    file.start()
    file.append({"step": 1, "tokens": 10, "train_loss": 0.1 + 0.2, "max_violation_layer_11": 0.5})
    file.append({"step": 2, "tokens": 20, "train_loss": float("nan"), "val_loss": 3.0})
    metrics = read_metrics(file.path)
    assert len(metrics) == 2 and list(metrics.columns) == file.columns
    assert metrics["train_loss"][0] == 0.1 + 0.2  # to the last bit
    assert np.isnan(metrics["val_loss"][0]) and np.isnan(metrics["no_such_column"]).all()
    assert metrics.curve("train_loss") == [(10, 0.1 + 0.2)] and metrics.curve("val_loss") == [(20, 3.0)]
    assert metrics.violation_columns == [f"max_violation_layer_{layer}" for layer in range(1, 12)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        ("tokens,train_loss\n", "has no rows"),
        ("step,train_loss\n1,2\n", "has no column tokens"),
        ("tokens,train_loss\n1,much\n", "could not convert"),
    ],
)
def test_a_file_that_is_not_a_log_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "metrics.csv").write_text(content)
    with pytest.raises(AxionError, match=rf"metrics\.csv .*{message}"):
        read_metrics(tmp_path / "metrics.csv")


def test_a_resumed_run_truncates_the_file(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.csv", layers=[1])
    assert metrics.start() == 0.0
    for step in (1, 2, 3):
        metrics.append({"step": step, "seconds": step * 1.5})
    with metrics.path.open("a") as file:
        file.write("4,0.1")  # a row cut off by a crash
    assert metrics.start(step=2) == 3.0
    assert [line.split(",")[0] for line in metrics.path.read_text().splitlines()] == ["step", "1", "2"]
    assert [row_interval(steps) for steps in (1, 400, 401, 12_000)] == [1, 1, 2, 30]


def test_a_resumed_run_renames_the_layers_of_an_earlier_version(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,tokens,seconds,max_violation_layer_1,max_violation_layer_2\n1,10,1.5,0.25,0.5\n")
    MetricsFile(path, layers=[3, 4]).start(step=1)
    metrics = read_metrics(path)
    assert metrics.violation_columns == ["max_violation_layer_3", "max_violation_layer_4"]
    assert [metrics[name][0] for name in metrics.violation_columns] == [0.25, 0.5]


@pytest.mark.parametrize(
    "rows",
    [
        *(
            "step,seconds\nsoon,1\n",
            "step,seconds\n1,a while\n",
            "step,seconds,speed\n1,1,1\n",
            "tokens,seconds\n1,1\n",
        ),
        *("step,seconds\n1,nan\n", "step,seconds,val_loss\n1,1,low\n", "step,seconds,lr\n1,1,6e-3\n1,2,?\n"),
    ],
)
def test_a_run_with_broken_rows_is_not_resumed(tmp_path, rows):
    (tmp_path / "metrics.csv").write_text(rows)
    with pytest.raises(AxionError, match=r"metrics\.csv is broken: .*; restore it, or start a new run with --out DIR"):
        MetricsFile(tmp_path / "metrics.csv", layers=[1]).start(step=1)
    assert (tmp_path / "metrics.csv").read_text() == rows


def test_a_full_disk_is_reported_in_one_line(tmp_path):
    (tmp_path / "metrics.csv").symlink_to("/dev/full")
    with pytest.raises(AxionError, match=r"metrics\.csv cannot be written: No space left on device; free some space"):
        MetricsFile(tmp_path / "metrics.csv", layers=[1]).append({"step": 1})


def test_evaluations_are_written_again_from_the_rows_that_a_resumed_run_keeps(tmp_path):
    metrics, evaluations = MetricsFile(tmp_path / "metrics.csv", layers=[1]), EvaluationsFile(tmp_path)
    metrics.start()
    evaluations.start()
    for step, loss in ((1, None), (2, 0.5), (3, 1000.0)):
        metrics.append({"step": step, "seconds": step} | ({} if loss is None else {"val_loss": loss}))
        if loss is not None:
            evaluations.append(evaluations.row(step, loss))
    expected = "step,loss,perplexity\n2,0.5,1.6487212707001282\n3,1000.0,inf\n"
    assert evaluations.path.read_text() == expected
    evaluations.path.unlink()  # a run of an earlier version has none
    metrics.start(step=3)
    evaluations.start()
    assert evaluations.path.read_text() == expected
    metrics.start(step=2)
    evaluations.start()
    assert evaluations.path.read_text().splitlines()[1:] == ["2,0.5,1.6487212707001282"]
