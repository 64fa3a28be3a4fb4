"""The Hugging Face Hub: the only module that talks to the network.

Everything goes through `huggingface_hub`. Tokens come from the environment or from the Hub's own store, are never an
argument and never part of a message.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from axion.errors import AxionError

_TOKEN = re.compile(r"\bhf_\w+")
_ADVICE = {
    401: "the token is not accepted: make a new one at https://huggingface.co/settings/tokens and run: hf auth login",
    402: "this needs a paid plan",
    403: "the token may not write there: give it the write role, or publish under your own name",
    409: "somebody else changes the repository at this moment: run the same command again",
    412: "the repository has changed meanwhile: run the same command again",
    429: "the Hub asks for patience: wait a few minutes, then run the same command again",
}


def check_repo_id(repo_id: str) -> None:
    """Check that `repo_id` has the form USER/NAME and obeys the Hub's rules for names.

    Raises:
        AxionError: it does not.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise AxionError(f"--repo-id {repo_id!r} is not a valid name: {_one_line(error)}") from None
    if "/" not in repo_id:
        raise AxionError(f"--repo-id {repo_id!r} names no owner; write USER/{repo_id}")


def check_token() -> None:
    """Check that a token is there, without asking the Hub.

    Raises:
        AxionError: there is none.
    """
    if not get_token():
        raise AxionError("no Hugging Face token: run `hf auth login` or set HF_TOKEN; --dry-run needs none")


def push(folder: Path, files: Sequence[str], repo_id: str, message: str, private: bool = False) -> str:
    """Make the repository where there is none and send the files in one commit.

    The commit is made on top of the head that was read before, so it can't undo what somebody pushes meanwhile. Files
    that the Hub already has are not sent again, and no empty commit is made where nothing is new.

    Args:
        folder: the release folder.
        files: what to send, relative to the folder; nothing else leaves it.
        repo_id: USER/NAME.
        message: the commit's first line.
        private: make a new repository private; an existing one stays as it is.

    Returns:
        The commit's sha.

    Raises:
        AxionError: the Hub refused, or is not to be reached.
    """
    api = HfApi()
    with _hub_errors(repo_id):
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        head = api.model_info(repo_id).sha
        operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files]
        return api.create_commit(repo_id, operations, commit_message=message, parent_commit=head).oid


def tag(repo_id: str, name: str, commit: str) -> bool:
    """Tag a commit. A released tag never moves.

    Returns:
        False where the tag is already on that very commit.

    Raises:
        AxionError: the tag is on another commit, or the Hub refused.
    """
    api = HfApi()
    with _hub_errors(repo_id):
        tags = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo_id).tags}
        if name in tags and tags[name] != commit:
            raise AxionError(
                f"{repo_id} has a tag {name} on another commit ({tags[name][:8]}), and a released tag does not move: "
                "give the recipe a new version, or delete the tag on the Hub"
            )
        if name not in tags:
            api.create_tag(repo_id, tag=name, revision=commit)
        return name not in tags


@contextmanager
def _hub_errors(repo_id: str) -> Iterator[None]:
    """Turn what the Hub's client raises into one line that says what to do."""
    try:
        yield
    except OfflineModeIsEnabled:
        raise AxionError("HF_HUB_OFFLINE is set: unset it to publish, or use --dry-run") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason = _ADVICE.get(status) or _one_line(error.server_message or error)
        raise AxionError(f"the Hub refused {repo_id} (HTTP {status}): {reason}") from None
    except (HTTPError, OSError) as error:
        raise AxionError(f"the Hub was not to be reached ({_one_line(error)}): run the same command again") from None


def _one_line(error: object) -> str:
    """The first line of a message, without anything that looks like a token."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _TOKEN.sub("hf_…", lines[0])
