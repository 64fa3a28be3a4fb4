"""The fixture `hub`: an empty loopback Hub for each test, with this process's client pointed at it.

The server is started once and reset for each test. Within a test, huggingface_hub and transformers connect to it, keep
what they download in a folder of its own, and retry without delay.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hub.server import CONTRADICTING, Hub


@pytest.fixture(scope="session")
def hub_server() -> Iterator[Hub]:
    """The server, started once per session."""
    server = Hub().start()
    yield server
    server.stop()


@pytest.fixture
def hub(hub_server: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty Hub, with this process's client pointed at it. A request that the Hub does not expect fails the test."""
    hub_server.reset()
    for name in CONTRADICTING:
        monkeypatch.delenv(name, raising=False)
    for name, value in hub_server.variables.items():
        monkeypatch.setenv(name, value)
    point_client(hub_server, monkeypatch)
    yield hub_server
    assert hub_server.surprises == []


def point_client(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change the values that huggingface_hub read from its environment when it was imported.

    The cache of remote code stays where it is: once Python has imported a package from there, it finds no other.
    """
    from huggingface_hub import constants, file_download, hf_api
    from huggingface_hub.utils import _cache_manager, _http, _xet

    home = hub.home
    values = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_URL_HOSTS": constants.HF_URL_HOSTS | {"127.0.0.1"},
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HUGGINGFACE_HUB_CACHE": str(home / "hub"),
        "HF_ASSETS_CACHE": str(home / "assets"),
        "HF_XET_CACHE": str(home / "xet"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "AGENT_HARNESSES_PATH": str(home / ".agent_harnesses.json"),
        "CHECK_FOR_UPDATE_DONE_PATH": str(home / ".check_for_update_done"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": False,
        "HF_HUB_DISABLE_TELEMETRY": True,
    }
    for name, value in values.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(_cache_manager, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(hf_api.api, "endpoint", hub.url)
    monkeypatch.setattr(hf_api.api, "_whoami_cache", {})
    monkeypatch.setattr(_xet, "XET_CONNECTION_INFO_CACHE", {})
    _http.close_session()
    for module in (_http, file_download):
        monkeypatch.setattr(module, "time", NoSleep())


class NoSleep:
    """Replaces the module `time` in the client, so that it retries without delay."""

    def sleep(self, seconds: float) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)
