"""The benchmark of models that are too large to train here, on one that is not."""

import json

from axion.training.recorder import Recorder
from benchmarks import large_step


def test_two_steps_are_measured_and_the_whole_step_is_estimated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = Recorder.on_step_end
    monkeypatch.setenv("AXION_KERNELS_FLAGS", "-O1")  # compiled in half the time
    settings = ("training.batch_size=40", "training.grad_accum=20", "data.sources=[{kind: arithmetic, count: 2000}]")
    large_step.main(["axiom-dense-debug", *(part for setting in settings for part in ("--set", setting))])
    assert Recorder.on_step_end is before
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert captured.err.count("micro-batch ") == 4  # two steps of two
    assert found["tokens_per_micro_batch"] == 2 * 64 and found["micro_batches_per_step"] == 20
    assert found["peak_gib"] > 0.1 and found["machine"]["processor"]
    expected = found["seconds_per_micro_batch"] * 20 + found["seconds_per_optimizer_step"]
    assert abs(found["seconds_per_step"] - expected) <= 1
