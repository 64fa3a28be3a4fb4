"""Fixtures for the tests of this folder."""

from __future__ import annotations

import pytest

from axion.release import Release, open_release

PROMPT = "# Pergunta:\nQuanto é 5 + 3?\n--\n# Resposta:\n"


@pytest.fixture(scope="session")
def release(tiny_release) -> Release:
    """The tiny release, opened once. Undo any changes."""
    return open_release(tiny_release)


@pytest.fixture(params=["torch", "native"])
def backend(request) -> str:
    """Each backend; native is skipped if the kernels cannot be built."""
    if request.param == "native":
        request.getfixturevalue("native")
    return request.param


@pytest.fixture
def native() -> None:
    """Skips where the kernels cannot be built."""
    from axion.kernels.build import Unavailable, compiler

    try:
        compiler()
    except Unavailable as reason:
        pytest.skip(str(reason))
