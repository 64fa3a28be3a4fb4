"""How threads wait: set before torch is imported, unless the user has set it."""

import os
import subprocess
import sys

import pytest

from axion.threads import ROUNDS, spin_shortly
from tests.conftest import ROOT

ENTRY_POINTS = "axion.cli, playground.server.launch, publish.cli, benchmarks"


@pytest.fixture
def waiting(monkeypatch):
    """The variables that decide, as `spin_shortly` leaves them."""

    def after(**chosen: str) -> dict[str, str | None]:
        for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
            monkeypatch.setenv(name, chosen.get(name, ""))
        spin_shortly()
        return {name: value for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT") if (value := os.environ[name])}

    return after


def test_threads_spin_shortly_unless_the_user_has_chosen(waiting):
    assert waiting() == {"GOMP_SPINCOUNT": ROUNDS}
    for name, value in (("OMP_WAIT_POLICY", "ACTIVE"), ("OMP_WAIT_POLICY", "PASSIVE"), ("GOMP_SPINCOUNT", "7")):
        assert waiting(**{name: value}) == {name: value}


def test_every_entry_point_sets_it_before_torch_is_imported():
    code = f"import os, sys, {ENTRY_POINTS}; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [ROUNDS, "False"], done.stderr
