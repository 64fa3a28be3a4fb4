"""Temporary folders: removed at the end, and by the next run where a process was killed."""

import tempfile

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
