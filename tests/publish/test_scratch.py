"""Temporary folders: removed at the end, also at SIGTERM, and by the next run where a process was killed."""

import signal
import sys
import tempfile

import pytest

from publish.cli import main
from publish.scratch import scratch_folder


def test_what_a_killed_process_left_behind_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder("verify") as killed:
        pass
    (killed / "inside").mkdir(parents=True)
    with scratch_folder("verify") as folder:
        assert list(tmp_path.iterdir()) == [folder]
        with scratch_folder("verify") as other:
            assert folder.is_dir() and other != folder
    assert list(tmp_path.iterdir()) == []


def test_sigterm_ends_a_command_with_one_line_and_removes_its_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["axion-publish", "check", str(tmp_path)])

    def lint(_):
        with scratch_folder("check") as folder:
            (folder / "half").write_text("x")
            signal.raise_signal(signal.SIGTERM)
            pytest.fail("it goes on")

    monkeypatch.setattr("publish.check.lint.lint", lint)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
        signal.raise_signal(signal.SIGTERM)  # a second one does not interrupt the clean-up
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143 and list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "terminated; run the same command again to continue\n")
