"""Failures of calls to the Hub: transient ones are retried, all others become one line that says what to do.

Tokens are never part of a message.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from typing import TYPE_CHECKING, TypeVar

from huggingface_hub import constants, set_client_factory
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage] (the base class of the client's HTTP library)
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import hf_raise_for_status, parse_ratelimit_headers
from huggingface_hub.utils._http import default_client_factory

from axion.errors import AxionError, one_line

if TYPE_CHECKING:
    from httpx2 import Client, Response

T = TypeVar("T")

RETRY_DELAYS = (1, 2, 4, 8)
"""Seconds to wait before each retry of a call that failed with a transient error."""
MAX_WAIT_SECONDS = 300
"""The longest wait that the Hub may ask for. If it asks for more, the command ends and can be run again later."""
TRANSIENT_STATUSES = {408, 429, 500, 502, 503, 504}

WRITE_ADVICE = "give the token write access, or publish under your own name"
_ADVICE = {
    401: "the token is invalid: create one at https://huggingface.co/settings/tokens and run `hf auth login`",
    402: "this needs a paid plan",
    403: f"the token has no write access: {WRITE_ADVICE}",
    409: "the repository is being changed by somebody else: run the same command again",
    412: "the repository has changed in the meantime: run the same command again",
    429: "the rate limit is exceeded: wait a few minutes, then run the same command again",
}
LOCAL_FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.EMFILE}
_TOKEN = re.compile(r"\b(?:hf|api_org)_\w+")
_log = logging.getLogger(__name__)


def retry(call: Callable[[], T]) -> T:
    """Call the Hub, and retry after a delay if that fails with a transient error.

    `call` must be idempotent, since it may have taken effect although it failed. Waits that the Hub asks for are
    logged, and limited by `MAX_WAIT_SECONDS`.

    Raises:
        HfHubHTTPError, HTTPError, JSONDecodeError: the last failure.
    """
    for delay in RETRY_DELAYS:
        try:
            return call()
        except (HTTPError, JSONDecodeError) as error:
            requested = _requested_delay(error)
            if not _is_transient(error) or requested > MAX_WAIT_SECONDS:
                raise
            if requested > delay:
                _log.warning("The Hub's rate limit is exceeded, waiting %d seconds as it asks", requested)
            time.sleep(max(delay, requested))
    return call()


def limit_waits() -> None:
    """Make `huggingface_hub` fail if the Hub asks for a wait of more than `MAX_WAIT_SECONDS`.

    Where the library retries calls itself, such as downloads, it would sleep for any time.
    """
    set_client_factory(_new_client)


def _new_client() -> Client:
    client = default_client_factory()
    client.event_hooks = {**client.event_hooks, "response": [_refuse_long_wait]}
    return client


def _refuse_long_wait(response: Response) -> None:
    if response.status_code == 429 and _wait(response) > MAX_WAIT_SECONDS:
        response.read()
        hf_raise_for_status(response)


def _is_transient(error: Exception) -> bool:
    """Whether the same call may succeed later: the Hub is busy, the connection broke, a proxy answered instead."""
    return error.response.status_code in TRANSIENT_STATUSES if isinstance(error, HfHubHTTPError) else True


def _requested_delay(error: Exception) -> int:
    """The seconds that a 429 response asks to wait; 0 for other errors."""
    if not isinstance(error, HfHubHTTPError) or error.response.status_code != 429:
        return 0
    return _wait(error.response)


def _wait(response: Response) -> int:
    limit = parse_ratelimit_headers(response.headers)
    after = response.headers.get("Retry-After", "")
    return limit.reset_in_seconds if limit else int(after) if after.isdigit() else 0


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn the client's exceptions into an AxionError that says what to do.

    Args:
        what: what the call is about, mostly a repository's id.
    """
    try:
        yield
    except OfflineModeIsEnabled:
        raise AxionError("HF_HUB_OFFLINE is set, but this needs the Hub: unset it") from None
    except GatedRepoError:
        raise AxionError(f"{what} is gated: accept its terms on its page on the Hub") from None
    except RevisionNotFoundError as error:
        raise AxionError(f"{what} has no such revision on the Hub: {_reason(error)}") from None
    except RepositoryNotFoundError:
        raise AxionError(f"{what} is not on the Hub, or the token has no access to it: {WRITE_ADVICE}") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        reasons = (error.server_message and _reason(error), _ADVICE.get(status))
        told = "; ".join(filter(None, reasons)) or _reason(error)
        wait = _requested_delay(error)
        told += f" (it asks to wait {wait} seconds)" if wait > MAX_WAIT_SECONDS else ""
        raise AxionError(f"the Hub refused {what} (HTTP {status}): {told}") from None
    except (HTTPError, OSError, RuntimeError) as error:  # hf_xet raises RuntimeError
        if reason := _local_failure(error):
            raise AxionError(f"{getattr(error, 'filename', None) or what}: {reason}") from None
        raise AxionError(
            f"the Hub at {constants.ENDPOINT} cannot be reached ({_reason(error)}): "
            "check the connection, then run the same command again"
        ) from None
    except JSONDecodeError:
        raise AxionError(
            f"{constants.ENDPOINT} did not answer about {what} in JSON, as the Hub does: check HF_ENDPOINT and the "
            "connection (a proxy or a login page may be in between), then run the same command again"
        ) from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise AxionError(
            f"the Hub's answer about {what} cannot be read ({type(error).__name__}: {hide_tokens(one_line(error))}): "
            "run the same command again, or update huggingface_hub"
        ) from None


def _local_failure(error: Exception) -> str | None:
    """Why this machine could not read or write a file, such as a full disk; None if the network failed."""
    in_rust = re.search(r"\(os error (\d+)\)", str(error))
    code = int(in_rust[1]) if in_rust else getattr(error, "errno", None)
    return os.strerror(code) if code in LOCAL_FAILURES else None


def _reason(error: Exception) -> str:
    """The first line of what the Hub or the client says."""
    text = str(getattr(error, "server_message", None) or error).strip()
    return hide_tokens(text.splitlines()[0] if text else type(error).__name__)


def hide_tokens(text: str) -> str:
    """A text with anything that looks like a token removed."""
    return _TOKEN.sub("hf_…", text)
