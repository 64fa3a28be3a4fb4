"""How the tests are distributed to workers."""

import os

import pytest

from tests.conftest import LONGEST_GROUPS, ROOT, SHARED_FIXTURES


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="the tests run in one process")
def test_groups_reach_the_scheduler(request):
    """pytest-xdist appends its group to a test's id. Without groups, each worker sets up the fixtures of every file."""
    assert request.node.nodeid.endswith("@tests/test_conftest.py")


def test_the_groups_that_begin_first_exist():
    assert [name for name in LONGEST_GROUPS if name not in SHARED_FIXTURES and not (ROOT / name).exists()] == []
