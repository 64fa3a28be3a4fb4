"""A page without a server, with models of the playground's tests."""

from pathlib import Path

import pytest

from playground.web.assemble import write_page

MODELS = ("plain", "hostile", "endless", "talkative")


@pytest.fixture(scope="package")
def folder(releases, tmp_path_factory) -> Path:
    """A page with MODELS, one of them full of markup. Read it, don't change it."""
    folder = tmp_path_factory.mktemp("web") / "page"
    write_page([str(releases / name) for name in MODELS], folder)
    return folder
