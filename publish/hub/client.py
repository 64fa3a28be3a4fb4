"""The Hugging Face Hub: every call goes through here, and through `huggingface_hub`.

What the client leaves to its callers is done here: patience with calls that it does not retry, the question whether a
commit whose answer was lost was made after all, and one line of advice for whatever the Hub refuses. Tokens come from
the environment or from the Hub's own store, are never an argument and never part of a message.
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
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import parse_ratelimit_headers, validate_repo_id

from axion.errors import AxionError
from publish.manifest import files_in

T = TypeVar("T")

WAITS = (1, 2, 4, 8)
"""Seconds before the second, third … try of a call that failed in passing."""
PASSING = {408, 429, 500, 502, 503, 504}
DOWNLOADS = 3
"""How often a download is tried whose checksums are wrong."""

_TOKEN = re.compile(r"\b(?:hf|api_org)_\w+")
_ADVICE = {
    401: "the token is not accepted: make a new one at https://huggingface.co/settings/tokens and run: hf auth login",
    402: "this needs a paid plan",
    403: "the token may not write there: give it the write role, or publish under your own name",
    409: "somebody else changes the repository at this moment: run the same command again",
    412: "the repository has changed meanwhile: run the same command again",
    429: "the Hub asks for patience: wait a few minutes, then run the same command again",
}


def api() -> HfApi:
    """The client."""
    return HfApi(endpoint=constants.ENDPOINT, library_name="axion")


# --- What may pass, and what is told ----------------------------------------------------------------------------------


def patiently(call: Callable[[], T]) -> T:
    """Make a call to the Hub, and again after a while where it failed in passing.

    `call` may have taken effect although it failed, so it must be one that can be made twice.

    Raises:
        HfHubHTTPError, HTTPError: the last failure.
    """
    for wait in WAITS:
        try:
            return call()
        except HTTPError as error:
            if not _passes(error):
                raise
            time.sleep(max(wait, _asked_patience(error)))
    return call()


def _passes(error: HTTPError) -> bool:
    """Whether the same call may succeed a little later: the Hub is busy, or the connection broke."""
    return error.response.status_code in PASSING if isinstance(error, HfHubHTTPError) else True


def _asked_patience(error: HTTPError) -> int:
    """The seconds that the Hub asks to wait with its 429; 0 where it doesn't."""
    if not isinstance(error, HfHubHTTPError) or error.response.status_code != 429:
        return 0
    limit = parse_ratelimit_headers(error.response.headers)
    after = error.response.headers.get("Retry-After", "")
    return limit.reset_in_seconds if limit else int(after) if after.isdigit() else 0


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn what the Hub's client raises into one line that says what to do; `what` is a repository's name, mostly."""
    try:
        yield
    except OfflineModeIsEnabled:
        raise AxionError("HF_HUB_OFFLINE is set, and this needs the Hub: unset it") from None
    except GatedRepoError:
        raise AxionError(f"{what} asks for permission: accept its terms on its page on the Hub") from None
    except RevisionNotFoundError as error:
        raise AxionError(
            f"{what} has no such revision on the Hub: {_one_line(error.server_message or error)}"
        ) from None
    except RepositoryNotFoundError:
        raise AxionError(f"{what} is not on the Hub, or the token may not see it: {_ADVICE[403]}") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason = _ADVICE.get(status) or _one_line(error.server_message or error)
        raise AxionError(f"the Hub refused {what} (HTTP {status}): {reason}") from None
    except (HTTPError, OSError) as error:
        raise AxionError(
            f"the Hub at {constants.ENDPOINT} was not to be reached ({_one_line(error)}): "
            "check the connection, then run the same command again"
        ) from None


def _one_line(error: object) -> str:
    """The first line of a message, without anything that looks like a token."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _TOKEN.sub("hf_…", lines[0])


# --- Names and rights -------------------------------------------------------------------------------------------------


def check_repo_id(repo_id: str, label: str = "--repo-id") -> None:
    """Check that `repo_id` has the form USER/NAME and obeys the Hub's rules for names.

    Raises:
        AxionError: it does not; the message begins with `label`.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = _one_line(error).removesuffix(" Use `repo_type` argument if needed.")
        raise AxionError(f"{label} {repo_id!r} is not a valid name; write USER/NAME: {reason}") from None
    if "/" not in repo_id:
        raise AxionError(f"{label} {repo_id!r} names no owner; write USER/{repo_id}")


def check_access(repo_id: str, repo_type: str = "model") -> None:
    """Check that there is a token, that the Hub takes it, and that it may write to `repo_id` or make it.

    Raises:
        AxionError: it may not; the message says what to do.
    """
    user = whoami()
    owner = repo_id.partition("/")[0]
    with hub_errors(repo_id):
        try:
            patiently(lambda: api().auth_check(repo_id, repo_type=repo_type, write=True))
            return
        except RepositoryNotFoundError:
            pass  # it can be made, then: under a name that is the token's
    if owner not in {user["name"], *(organisation["name"] for organisation in user.get("orgs", ()))}:
        raise AxionError(
            f"{repo_id} does not exist and can't be made: the token is {user['name']}'s, who is no member of {owner}; "
            f"publish as {user['name']}/{repo_id.partition('/')[2]}"
        )
    if not _may_make(user.get("auth", {}).get("accessToken", {}), owner):
        raise AxionError(f"{repo_id} can't be made: give the token the right to write to the repositories of {owner}")


def _may_make(token: dict, owner: str) -> bool:
    """Whether a token, as the Hub describes it, may make a repository under a name."""
    if token.get("role") != "fineGrained":
        return token.get("role") != "read"
    scopes = token.get("fineGrained", {}).get("scoped", ())
    return any(scope["entity"].get("name") == owner and "repo.write" in scope["permissions"] for scope in scopes)


def whoami() -> dict:
    """The user whom the token belongs to, as the Hub tells it.

    Raises:
        AxionError: there is no token, or the Hub does not take it.
    """
    if not get_token():
        raise AxionError("no Hugging Face token: run `hf auth login` or set HF_TOKEN; --dry-run needs none")
    with hub_errors("the token"):
        return patiently(api().whoami)


# --- Reading ----------------------------------------------------------------------------------------------------------


def head(repo_id: str, revision: str = "main", repo_type: str = "model") -> str | None:
    """The commit that a revision is at; None where there is no such repository, or no such revision in it.

    Raises:
        AxionError: the Hub refused, or is not to be reached.
    """
    with hub_errors(repo_id):
        try:
            return patiently(lambda: api().repo_info(repo_id, revision=revision, repo_type=repo_type)).sha
        except (RepositoryNotFoundError, RevisionNotFoundError):
            return None


def tags(repo_id: str) -> dict[str, str]:
    """The tags of a model's repository: name → commit; none where there is no repository.

    Raises:
        AxionError: the Hub refused, or is not to be reached.
    """
    with hub_errors(repo_id):
        try:
            return {ref.name: ref.target_commit for ref in patiently(lambda: api().list_repo_refs(repo_id)).tags}
        except RepositoryNotFoundError:
            return {}


def holds(
    folder: Path,
    repo_id: str,
    commit: str,
    repo_type: str = "model",
    without: Collection[str] = (),
    but: Collection[str] = (),
) -> bool:
    """Whether a commit has all files of a folder as they are, and none of those named in `without`.

    Files named in `but` may differ. The commit may have more files than the folder: they are somebody else's.

    Raises:
        AxionError: the Hub refused, or is not to be reached.
    """
    with hub_errors(repo_id):
        seen = patiently(
            lambda: api().verify_repo_checksums(repo_id, repo_type=repo_type, revision=commit, local_dir=folder)
        )
    other = {mismatch["path"] for mismatch in seen.mismatches} | set(seen.extra_paths)
    return other <= set(but) and not set(without) & set(seen.missing_paths)


def files_at(repo_id: str, commit: str) -> set[str]:
    """The names of all files of a model's repository at a commit.

    Raises:
        AxionError: the Hub refused, or is not to be reached.
    """
    with hub_errors(repo_id):
        return set(patiently(lambda: api().list_repo_files(repo_id, revision=commit)))


def commits(repo_id: str, commit: str) -> list[str]:
    """A commit and those before it, the newest first.

    Raises:
        AxionError: the Hub refused, or is not to be reached.
    """
    with hub_errors(repo_id):
        return [entry.commit_id for entry in patiently(lambda: api().list_repo_commits(repo_id, revision=commit))]


def download(repo_id: str, commit: str, cache: Path, files: list[str] | None = None) -> Path:
    """Download a commit of a model's repository into a cache of its own, and check every file's checksum.

    The client checks sizes alone, so a download that is damaged is thrown away and made again.

    Args:
        repo_id: USER/NAME.
        commit: its sha.
        cache: a folder for the cache.
        files: only these; by default all.

    Returns:
        The folder of the snapshot.

    Raises:
        AxionError: the Hub refused or is not to be reached, or files stay damaged.
    """
    for _ in range(DOWNLOADS):
        with hub_errors(repo_id):
            folder = Path(
                patiently(lambda: snapshot_download(repo_id, revision=commit, cache_dir=cache, allow_patterns=files))
            )
            checked = patiently(lambda: api().verify_repo_checksums(repo_id, revision=commit, cache_dir=cache))
        missing = [] if files else checked.missing_paths
        damaged = [mismatch["path"] for mismatch in checked.mismatches]
        if not damaged and not missing:
            return folder
        for path in damaged:
            (folder / path).resolve().unlink()  # the blob that the snapshot links to
            (folder / path).unlink(missing_ok=True)
    raise AxionError(f"{repo_id} at {commit[:8]}: {(damaged + missing)[0]} is not what the Hub says that it is")


# --- Writing ----------------------------------------------------------------------------------------------------------


def make_repo(repo_id: str, private: bool = False, branch: str | None = None) -> None:
    """Make a model's repository and a branch in it, where they are missing.

    Args:
        repo_id: USER/NAME.
        private: make a new repository private; an existing one stays as it is.
        branch: made from main.

    Raises:
        AxionError: the Hub refused, or is not to be reached.
    """
    with hub_errors(repo_id):
        patiently(lambda: api().create_repo(repo_id, private=private or None, exist_ok=True))
        if branch:
            patiently(lambda: api().create_branch(repo_id, branch=branch, exist_ok=True))


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
    """Send all files of a folder in one commit, once, whatever happens on the way.

    Where the Hub has them already, no commit is made. Where an answer is lost or somebody else was faster, the head is
    read again and compared with the folder before anything else is tried: a commit is never made twice, and never on
    top of a change that nobody here has seen.

    Args:
        folder: what to send; everything in it.
        repo_id: USER/NAME.
        message: the commit's first line.
        repo_type: "model" or "space".
        revision: the branch.
        parent: the commit that must still be the head; by default the head as it is now.
        remove: files to take away in the same commit.
        as_pull_request: propose the commit in a pull request of its own, instead.

    Returns:
        The sha of the commit that has the files.

    Raises:
        AxionError: the Hub refused or is not to be reached, or the branch has changed.
    """
    parent = parent or head(repo_id, revision, repo_type)

    def commit() -> str:
        if there := _find(folder, repo_id, repo_type, revision, remove, as_pull_request):
            return there
        if head(repo_id, revision, repo_type) != parent:
            raise AxionError(f"{repo_id} has changed meanwhile: run the same command again")
        # Made anew for every try: the client marks those that it has sent.
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
            return commit()  # finds it where it was ours after all, and says that the branch has changed where not

    with hub_errors(repo_id):
        return patiently(commit_or_find)


@contextmanager
def _commit_errors(repo_id: str) -> Iterator[None]:
    """Bring out what the client and hf_xet hide in other errors: failed uploads, and a card that the Hub refuses."""
    try:
        yield
    except HfHubHTTPError:
        raise
    except RuntimeError as error:
        raise error.__cause__ if isinstance(error.__cause__, HTTPError) else HTTPError(str(error)) from None
    except JSONDecodeError:  # an error page of what stands before the Hub
        raise HTTPError("an answer that is no JSON") from None
    except ValueError as error:
        raise AxionError(f"the Hub refused {repo_id}: {_TOKEN.sub('hf_…', ' '.join(str(error).split()))}") from None


def _find(
    folder: Path, repo_id: str, repo_type: str, revision: str, remove: Collection[str], as_pull_request: bool
) -> str | None:
    """The commit that has a folder's files already: the branch's head, or that of a pull request."""
    commits = [head(repo_id, revision, repo_type)]
    if as_pull_request:
        refs = patiently(lambda: api().list_repo_refs(repo_id, repo_type=repo_type, include_pull_requests=True))
        commits += [ref.target_commit for ref in reversed(refs.pull_requests or [])]
    return next((commit for commit in commits if commit and holds(folder, repo_id, commit, repo_type, remove)), None)


def tag(repo_id: str, name: str, commit: str) -> bool:
    """Tag a commit. A released tag never moves.

    Returns:
        False where the tag is already on that very commit.

    Raises:
        AxionError: the tag is on another commit, or the Hub refused or is not to be reached.
    """
    existed = name in tags(repo_id)
    with hub_errors(repo_id):
        if not existed:
            patiently(lambda: api().create_tag(repo_id, tag=name, revision=commit, exist_ok=True))
    if (tagged := tags(repo_id)[name]) != commit:
        raise AxionError(
            f"{repo_id} has a tag {name} on another commit ({tagged[:8]}), and a released tag does not move: "
            "give the recipe a new version, or delete the tag on the Hub"
        )
    return not existed
