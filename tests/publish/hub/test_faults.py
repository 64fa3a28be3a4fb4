"""Deliveries under failures: every request fails in every way, and the process is killed in every state of the Hub.

Whatever happened, running the same command again must end in the same state as an undisturbed delivery: nothing lost,
nothing duplicated, and the tag on a commit that was downloaded and verified.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from axion.errors import AxionError
from publish.hub import client as publish_hub
from publish.hub import errors
from tests.publish import uploads
from tests.publish.uploads import OLD_REPO, REPO, make_folder, send
from tests.support.fork_server import fork_server

FAULTS = ("503", "reset before", "reset after")
"""Other transient statuses are handled alike, see `test_client`."""
DOWNLOAD_FAULTS = ("truncated", "corrupted")
MUTATING = {"POST", "PUT", "DELETE"}


class Range:
    """A Hub with the preceding version, a folder to deliver, and the state of the Hub after an undisturbed delivery."""

    def __init__(self, hub, tmp_path: Path):
        self.hub, self.tmp_path, self.turns = hub, tmp_path, 0
        old = make_folder(tmp_path / "old", OLD_REPO, word="old", tag="v0.1")
        publish_hub.create_repo(OLD_REPO)
        publish_hub.push(old, OLD_REPO, "Release v0.1")
        self.before = hub.save()
        make_folder(tmp_path / "new")
        self.requests = self.deliver_undisturbed()
        self.end = hub.snapshot()

    def restore(self) -> None:
        """Restore the Hub to its state before the delivery."""
        self.hub.restore(self.before)

    def folder(self) -> Path:
        """A fresh copy of the folder, as the pipeline makes for each delivery."""
        self.turns += 1
        return shutil.copytree(self.tmp_path / "new", self.tmp_path / f"turn-{self.turns}")

    def deliver_undisturbed(self) -> list:
        self.restore()
        send(self.folder())
        return list(self.hub.log)

    def check(self, verified: list[str]) -> list[str]:
        """What is wrong with the final state."""
        wrong = [] if self.hub.snapshot() == self.end else ["another final state"]
        repo = self.hub.store.repos["models", REPO]
        if repo.refs.get("refs/tags/v0.2") not in verified:
            wrong.append("a tag on a commit that was not verified")
        return wrong + self.hub.surprises


@pytest.fixture
def range_(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(errors.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # all bytes go over HTTP, where they can be damaged
    return Range(hub, tmp_path)


def test_every_request_may_fail_in_every_way(range_, capsys):
    kinds = {entry.what for entry in range_.requests}
    downloads = {what for what in kinds if what.startswith("GET") and ("resolve" in what or "storage" in what)}
    pairs = [(what, fault) for what in sorted(kinds) for fault in FAULTS]
    pairs += [(what, fault) for what in sorted(downloads) for fault in DOWNLOAD_FAULTS]
    failures, healed, started = [], 0, time.perf_counter()
    for what, fault in pairs:
        range_.restore()
        range_.hub.fail(fault, what.replace("[", "[[]"))
        verified: list[str] = []
        try:
            send(range_.folder(), events=verified)
            healed += 1
        except AxionError:
            send(range_.folder(), events=verified)
        failures += [f"{what}, {fault}: {wrong}" for wrong in range_.check(verified)]
    with capsys.disabled():
        print(
            f"\n{len(pairs)} distinct (request, fault) pairs: {healed} recovered by themselves, "
            f"{len(pairs) - healed} when started again, {len(failures)} wrong ({time.perf_counter() - started:.0f} s)"
        )
    assert failures == [] and healed == len(pairs)
    assert len(set(pairs)) >= 40


def test_a_request_that_keeps_failing_is_reported_and_the_next_run_continues(range_):
    changing = sorted({entry.what for entry in range_.requests if entry.method in MUTATING})
    reported = []
    for what in changing:
        range_.restore()
        range_.hub.fail("503", what, sticky=True)
        verified: list[str] = []
        try:
            send(range_.folder(), events=verified)
        except AxionError as error:
            reported.append(what)
            assert "HTTP 503" in str(error) and "\n" not in str(error) and range_.hub.token not in str(error)
            range_.hub.heal()
            send(range_.folder(), events=verified)
        assert range_.check(verified) == [], what
    # Only the verification of a finished upload may fail, since the file is already there.
    assert set(changing) - set(reported) == {"POST /{kind}/{ns}/{name}.git/info/lfs/verify"}


@pytest.fixture
def processes(range_, monkeypatch):
    """Starts processes whose client is pointed at this Hub."""
    for name, value in range_.hub.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    with fork_server(uploads.__name__) as context:
        yield context


@pytest.mark.skipif(sys.platform == "win32", reason="needs a fork server")
def test_the_process_may_be_killed_in_every_state_of_the_hub(range_, processes, capsys, tmp_path):
    """Killed before the first request, and after each one that changes the Hub: no other states can be left behind."""
    changing = [number for number, entry in enumerate(range_.requests, start=1) if entry.method in MUTATING]
    points = [(1, "reset before"), *((number, "reset after") for number in changing)]
    failures, killed = [], 0
    for number, moment in points:
        range_.restore()
        victim = []

        def kill(victim=victim) -> None:
            while not victim:  # the process is still starting
                time.sleep(0.001)
            os.kill(victim[0], signal.SIGKILL)

        range_.hub.fail(moment, nth=number, call=kill)
        process = processes.Process(target=uploads.send_and_log, args=(range_.folder(), tmp_path / "verified.json"))
        process.start()
        victim.append(process.pid)
        process.join(60)
        killed += process.exitcode == -signal.SIGKILL
        range_.hub.heal()
        verified = []
        repo = range_.hub.store.repos.get(("models", REPO))
        if repo and any("tags" in ref for ref in repo.refs):
            # The tag was created before the process was killed, and always after the verification.
            verified = [repo.refs["refs/tags/v0.2"]]
            order = [entry.what for entry in range_.hub.log]
            assert max(n for n, what in enumerate(order) if "storage" in what) < order.index(TAG)
        send(range_.folder(), events=verified)
        failures += [f"killed at request {number}, {moment}: {wrong}" for wrong in range_.check(verified)]
    with capsys.disabled():
        print(f"\nkilled at {killed} of {len(points)} points, {len(failures)} wrong")
    assert failures == [] and killed == len(points) > 10


TAG = "POST /api/{kind}/{ns}/{name}/tag/{revision}"
