"""Tests of the loopback Hub itself, driven by the real client."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi

from publish.manifest import files_in
from tests.hub.fixtures import hub, hub_server  # noqa: F401
from tests.hub.server import Hub

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "releases" / "axion1-v0.1"
FILES = files_in(RELEASE)
"""The bundled release, by paths relative to it."""


@pytest.fixture
def api(hub: Hub) -> HfApi:  # noqa: F811
    """The client, with write access."""
    return HfApi()


@pytest.fixture(params=["xet", "lfs"])
def mode(request: pytest.FixtureRequest, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> str:  # noqa: F811
    """Both ways of uploading large files."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", request.param == "lfs")
    return request.param
