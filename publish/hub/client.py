"""Calls to the Hugging Face Hub, all through `huggingface_hub`.

This module adds what the client leaves to its callers: retries of calls that the client does not retry, a check whether
a commit was created although its response was lost, and error messages of one line that say what to do. Tokens come
from the environment or from the client's own store; they are never an argument, and never part of a message.
"""

import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage] (the base class of the client's HTTP library)
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import parse_ratelimit_headers, validate_repo_id

from axion.errors import AxionError
from publish.manifest import files_in

T = TypeVar("T")

RETRY_DELAYS = (1, 2, 4, 8)
"""Seconds to wait before each retry of a call that failed with a transient error."""
TRANSIENT_STATUSES = {408, 429, 500, 502, 503, 504}
DOWNLOAD_ATTEMPTS = 3
"""How often to download a snapshot whose checksums don't match."""

_TOKEN = re.compile(r"\b(?:hf|api_org)_\w+")
_ADVICE = {
    401: "the token is invalid: create one at https://huggingface.co/settings/tokens and run `hf auth login`",
    402: "this needs a paid plan",
    403: "the token has no write access: give it the write role, or publish under your own name",
    409: "the repository is being changed by somebody else: run the same command again",
    412: "the repository has changed in the meantime: run the same command again",
    429: "the rate limit is exceeded: wait a few minutes, then run the same command again",
}


def api() -> HfApi:
    """The client."""
    return HfApi(endpoint=constants.ENDPOINT, library_name="axion")


# --- Retries and errors -----------------------------------------------------------------------------------------------


def retry(call: Callable[[], T]) -> T:
    """Call the Hub, and retry after a delay if that fails with a transient error.

    `call` must be idempotent, since it may have taken effect although it failed.

    Raises:
        HfHubHTTPError, HTTPError: the last failure.
    """
    for delay in RETRY_DELAYS:
        try:
            return call()
        except HTTPError as error:
            if not _is_transient(error):
                raise
            time.sleep(max(delay, _requested_delay(error)))
    return call()


def _is_transient(error: HTTPError) -> bool:
    """Whether the same call may succeed later: the Hub is busy, or the connection broke."""
    return error.response.status_code in TRANSIENT_STATUSES if isinstance(error, HfHubHTTPError) else True


def _requested_delay(error: HTTPError) -> int:
    """The seconds that a 429 response asks to wait; 0 for other errors."""
    if not isinstance(error, HfHubHTTPError) or error.response.status_code != 429:
        return 0
    limit = parse_ratelimit_headers(error.response.headers)
    after = error.response.headers.get("Retry-After", "")
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
        raise AxionError(
            f"{what} has no such revision on the Hub: {_one_line(error.server_message or error)}"
        ) from None
    except RepositoryNotFoundError:
        raise AxionError(f"{what} is not on the Hub, or the token has no access to it: {_ADVICE[403]}") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason = _ADVICE.get(status) or _one_line(error.server_message or error)
        raise AxionError(f"the Hub refused {what} (HTTP {status}): {reason}") from None
    except (HTTPError, OSError) as error:
        raise AxionError(
            f"the Hub at {constants.ENDPOINT} cannot be reached ({_one_line(error)}): "
            "check the connection, then run the same command again"
        ) from None


def _one_line(error: object) -> str:
    """The first line of a message, with anything that looks like a token removed."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _TOKEN.sub("hf_…", lines[0])


# --- Names and permissions --------------------------------------------------------------------------------------------


def check_repo_id(repo_id: str, label: str = "--repo-id") -> None:
    """Check that `repo_id` has the form USER/NAME and follows the Hub's rules for names.

    Raises:
        AxionError: it does not; the message begins with `label`.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = _one_line(error).removesuffix(" Use `repo_type` argument if needed.")
        raise AxionError(f"{label} {repo_id!r} is not a valid name; write USER/NAME: {reason}") from None
    if "/" not in repo_id:
        raise AxionError(f"{label} {repo_id!r} has no owner; write USER/{repo_id}")


def check_access(repo_id: str, repo_type: str = "model") -> None:
    """Check that there is a valid token that can write to `repo_id`, or create it.

    Raises:
        AxionError: there is not; the message says what to do.
    """
    user = whoami()
    owner = repo_id.partition("/")[0]
    with hub_errors(repo_id):
        try:
            retry(lambda: api().auth_check(repo_id, repo_type=repo_type, write=True))
            return
        except RepositoryNotFoundError:
            pass  # then it must be possible to create it
    if owner not in {user["name"], *(organisation["name"] for organisation in user.get("orgs", ()))}:
        raise AxionError(
            f"{repo_id} does not exist and cannot be created: the token belongs to {user['name']}, who is not a member "
            f"of {owner}; publish as {user['name']}/{repo_id.partition('/')[2]}"
        )
    if not _can_create(user.get("auth", {}).get("accessToken", {}), owner):
        raise AxionError(f"{repo_id} cannot be created: give the token write access to the repositories of {owner}")


def _can_create(token: dict, owner: str) -> bool:
    """Whether a token, as described by the Hub, can create repositories of an owner."""
    if token.get("role") != "fineGrained":
        return token.get("role") != "read"
    scopes = token.get("fineGrained", {}).get("scoped", ())
    return any(scope["entity"].get("name") == owner and "repo.write" in scope["permissions"] for scope in scopes)


def whoami() -> dict:
    """The Hub's description of the token's user.

    Raises:
        AxionError: there is no token, or it is invalid.
    """
    if not get_token():
        raise AxionError("no Hugging Face token: run `hf auth login` or set HF_TOKEN; --dry-run needs no token")
    with hub_errors("the token"):
        return retry(api().whoami)


# --- Reading ----------------------------------------------------------------------------------------------------------


def head(repo_id: str, revision: str = "main", repo_type: str = "model") -> str | None:
    """The commit that a revision points to; None if the repository or the revision does not exist.

    Raises:
        AxionError: the Hub refused, or cannot be reached.
    """
    with hub_errors(repo_id):
        try:
            return retry(lambda: api().repo_info(repo_id, revision=revision, repo_type=repo_type)).sha
        except (RepositoryNotFoundError, RevisionNotFoundError):
            return None


def tags(repo_id: str) -> dict[str, str]:
    """The tags of a model's repository, name → commit; empty if the repository does not exist.

    Raises:
        AxionError: the Hub refused, or cannot be reached.
    """
    with hub_errors(repo_id):
        try:
            return {ref.name: ref.target_commit for ref in retry(lambda: api().list_repo_refs(repo_id)).tags}
        except RepositoryNotFoundError:
            return {}


def contains(
    folder: Path,
    repo_id: str,
    commit: str,
    repo_type: str = "model",
    absent: Collection[str] = (),
    ignore: Collection[str] = (),
) -> bool:
    """Whether a commit has all files of a folder, with the same content.

    The commit may have more files than the folder, since others may add some.

    Args:
        folder: the local folder.
        repo_id: USER/NAME.
        commit: its sha.
        repo_type: "model" or "space".
        absent: files that the commit must not have.
        ignore: files whose content may differ.

    Raises:
        AxionError: the Hub refused, or cannot be reached.
    """
    with hub_errors(repo_id):
        compared = retry(
            lambda: api().verify_repo_checksums(repo_id, repo_type=repo_type, revision=commit, local_dir=folder)
        )
    different = {mismatch["path"] for mismatch in compared.mismatches} | set(compared.extra_paths)
    return different <= set(ignore) and not set(absent) & set(compared.missing_paths)


def files_at(repo_id: str, commit: str) -> set[str]:
    """The names of all files in a model's repository at a commit.

    Raises:
        AxionError: the Hub refused, or cannot be reached.
    """
    with hub_errors(repo_id):
        return set(retry(lambda: api().list_repo_files(repo_id, revision=commit)))


def commit_history(repo_id: str, commit: str) -> list[str]:
    """A commit and its ancestors, newest first.

    Raises:
        AxionError: the Hub refused, or cannot be reached.
    """
    with hub_errors(repo_id):
        return [entry.commit_id for entry in retry(lambda: api().list_repo_commits(repo_id, revision=commit))]


def download(repo_id: str, commit: str, cache: Path, files: list[str] | None = None) -> Path:
    """Download a commit of a model's repository and verify every file's checksum.

    The client only compares sizes, so files whose checksum is wrong are removed and downloaded again.

    Args:
        repo_id: USER/NAME.
        commit: its sha.
        cache: the cache directory.
        files: download only these; all by default.

    Returns:
        The snapshot's folder.

    Raises:
        AxionError: the Hub refused or cannot be reached, or checksums still don't match.
    """
    missing, damaged = [], []
    for _ in range(DOWNLOAD_ATTEMPTS):
        with hub_errors(repo_id):
            folder = Path(
                retry(lambda: snapshot_download(repo_id, revision=commit, cache_dir=cache, allow_patterns=files))
            )
            checked = retry(lambda: api().verify_repo_checksums(repo_id, revision=commit, cache_dir=cache))
        missing = [] if files else checked.missing_paths
        damaged = [mismatch["path"] for mismatch in checked.mismatches]
        if not damaged and not missing:
            return folder
        for path in damaged:
            (folder / path).resolve().unlink()  # the blob that the snapshot links to
            (folder / path).unlink(missing_ok=True)
    raise AxionError(f"{repo_id} at {commit[:8]}: the checksum of {(damaged + missing)[0]} does not match the Hub's")


# --- Writing ----------------------------------------------------------------------------------------------------------


def create_repo(repo_id: str, private: bool = False, branch: str | None = None) -> None:
    """Create a model's repository, and a branch in it, if they do not exist.

    Args:
        repo_id: USER/NAME.
        private: make a new repository private; an existing one is not changed.
        branch: created from main.

    Raises:
        AxionError: the Hub refused, or cannot be reached.
    """
    with hub_errors(repo_id):
        retry(lambda: api().create_repo(repo_id, private=private or None, exist_ok=True))
        if branch:
            retry(lambda: api().create_branch(repo_id, branch=branch, exist_ok=True))


def push(
    folder: Path,
    repo_id: str,
    message: str,
    *,
    repo_type: str = "model",
    revision: str = "main",
    parent: str | None = None,
    remove: Collection[str] = (),
    as_pull_request: bool = False,
) -> str:
    """Push all files of a folder in exactly one commit.

    If the Hub has these files already, no commit is created. After a lost response or a conflict, the head is read
    again and compared with the folder before anything is retried: a commit is never created twice, and never on top of
    a change that was not seen.

    Args:
        folder: all files in it are pushed.
        repo_id: USER/NAME.
        message: the commit's title.
        repo_type: "model" or "space".
        revision: the branch.
        parent: the commit that must still be the head; by default the current head.
        remove: files to delete in the same commit.
        as_pull_request: open a pull request with the commit instead.

    Returns:
        The sha of the commit that has the files.

    Raises:
        AxionError: the Hub refused or cannot be reached, or the branch has changed.
    """
    parent = parent or head(repo_id, revision, repo_type)

    def commit() -> str:
        if there := _find(folder, repo_id, repo_type, revision, remove, as_pull_request):
            return there
        if head(repo_id, revision, repo_type) != parent:
            raise AxionError(f"{repo_id} has changed in the meantime: run the same command again")
        # Created anew for each attempt, since the client marks operations as uploaded.
        operations = [CommitOperationAdd(name, folder / name) for name in files_in(folder)]
        operations += [CommitOperationDelete(name) for name in sorted(remove)]
        with _commit_errors(repo_id):
            made = api().create_commit(
                repo_id,
                operations,
                commit_message=message,
                repo_type=repo_type,
                revision=revision,
                parent_commit=parent,
                create_pr=as_pull_request,
            )
        return made.oid

    def commit_or_find() -> str:
        try:
            return commit()
        except HfHubHTTPError as error:
            if error.response.status_code != 412:
                raise
            return commit()  # finds our own commit if it was created after all, else raises

    with hub_errors(repo_id):
        return retry(commit_or_find)


@contextmanager
def _commit_errors(repo_id: str) -> Iterator[None]:
    """Unwrap what the client and hf_xet raise as other exceptions: failed uploads, and a card that the Hub refuses."""
    try:
        yield
    except HfHubHTTPError:
        raise
    except RuntimeError as error:
        raise error.__cause__ if isinstance(error.__cause__, HTTPError) else HTTPError(str(error)) from None
    except JSONDecodeError:  # an error page of a proxy
        raise HTTPError("the response is not JSON") from None
    except ValueError as error:
        raise AxionError(f"the Hub refused {repo_id}: {_TOKEN.sub('hf_…', ' '.join(str(error).split()))}") from None


def _find(
    folder: Path, repo_id: str, repo_type: str, revision: str, remove: Collection[str], as_pull_request: bool
) -> str | None:
    """The commit that already has a folder's files: the branch's head, or that of a pull request."""
    commits = [head(repo_id, revision, repo_type)]
    if as_pull_request:
        refs = retry(lambda: api().list_repo_refs(repo_id, repo_type=repo_type, include_pull_requests=True))
        commits += [ref.target_commit for ref in reversed(refs.pull_requests or [])]
    return next((commit for commit in commits if commit and contains(folder, repo_id, commit, repo_type, remove)), None)


def tag(repo_id: str, name: str, commit: str) -> bool:
    """Tag a commit. Existing tags are never moved.

    Returns:
        Whether the tag is new; False if it was already on this commit.

    Raises:
        AxionError: the tag is on another commit, or the Hub refused or cannot be reached.
    """
    existed = name in tags(repo_id)
    with hub_errors(repo_id):
        if not existed:
            retry(lambda: api().create_tag(repo_id, tag=name, revision=commit, exist_ok=True))
    if (tagged := tags(repo_id)[name]) != commit:
        raise AxionError(
            f"{repo_id} has the tag {name} on another commit ({tagged[:8]}), and release tags are never moved: "
            "give the recipe a new version, or delete the tag on the Hub"
        )
    return not existed
