"""Calls to the Hugging Face Hub, all through `huggingface_hub`.

This module adds what the client leaves to its callers: retries of calls that the client does not retry, a check whether
a commit was created although its response was lost, and error messages of one line that say what to do (see
`publish.hub.errors`). Tokens come from the environment or from the client's own store; they are never an argument, and
never part of a message.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage] (the base class of the client's HTTP library)
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id

from axion.errors import AxionError, one_line
from publish.hub.errors import hide_tokens, hub_errors, limit_waits, retry
from publish.manifest import files_in

DOWNLOAD_ATTEMPTS = 3
"""How often to download a snapshot whose checksums don't match."""

limit_waits()


def api() -> HfApi:
    """The client."""
    return HfApi(endpoint=constants.ENDPOINT, library_name="axion")


# --- Names and permissions --------------------------------------------------------------------------------------------


def is_repo_id(repo_id: str) -> bool:
    """Whether a name follows the Hub's rules."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        return False
    return True


def check_repo_id(repo_id: str, label: str = "--repo-id") -> None:
    """Check that `repo_id` has the form USER/NAME and follows the Hub's rules for names.

    Raises:
        AxionError: it does not; the message begins with `label`.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = one_line(error).removesuffix(" Use `repo_type` argument if needed.")
        raise AxionError(f"{label} {repo_id!r} is not a valid name; write USER/NAME: {reason}") from None
    if "/" not in repo_id:
        raise AxionError(f"{label} {repo_id!r} has no owner; write USER/{repo_id}")


def check_access(
    repo_id: str,
    repo_type: str = "model",
    *,
    private: bool = False,
    pull_request: bool = False,
    user: Mapping[str, Any] | None = None,
) -> bool:
    """Check that there is a valid token that can write to `repo_id`, or create it.

    Args:
        repo_id: USER/NAME.
        repo_type: "model" or "space".
        private: what is pushed must stay private, so an existing repository must not be public.
        pull_request: only a pull request is opened, for which it is enough to read an existing repository.
        user: what `whoami` returns, if that is known already: the Hub limits how often it can be asked.

    Returns:
        Whether the repository exists.

    Raises:
        AxionError: it is not so; the message says what to do.
    """
    user = user or whoami()
    owner = repo_id.partition("/")[0]
    with hub_errors(repo_id):
        try:
            retry(lambda: api().auth_check(repo_id, repo_type=repo_type, write=not pull_request))
            if private:
                check_private(repo_id, repo_type)
            return True
        except RepositoryNotFoundError:
            pass  # then it must be possible to create it
        members = {user["name"], *(organisation["name"] for organisation in user.get("orgs") or ())}
        can_create = _can_create((user.get("auth") or {}).get("accessToken") or {}, owner)
    if owner not in members:
        raise AxionError(
            f"{repo_id} does not exist and cannot be created: the token belongs to {user['name']}, who is not a member "
            f"of {owner}; publish as {user['name']}/{repo_id.partition('/')[2]}"
        )
    if not can_create:
        raise AxionError(f"{repo_id} cannot be created: give the token write access to the repositories of {owner}")
    return False


def may_write(repo_id: str) -> bool:
    """Whether the token can write to an existing model's repository.

    Raises:
        AxionError: the Hub cannot be reached.
    """
    with hub_errors(repo_id):
        try:
            retry(lambda: api().auth_check(repo_id, write=True))
        except HfHubHTTPError as error:
            if error.response.status_code not in {401, 403, 404}:
                raise
            return False
        return True


def check_private(repo_id: str, repo_type: str = "model") -> None:
    """Check that a repository is private, since `--private` does not change an existing one.

    Raises:
        AxionError: it is public, or the Hub refused or cannot be reached.
    """
    with hub_errors(repo_id):
        if not retry(lambda: api().repo_info(repo_id, repo_type=repo_type)).private:
            raise AxionError(
                f"{repo_id} exists and is public, and --private does not change that: make it private in its settings "
                "on the Hub, or omit --private"
            )


def _can_create(token: dict, owner: str) -> bool:
    """Whether a token, as described by the Hub, can create repositories of an owner."""
    if token.get("role") != "fineGrained":
        return token.get("role") != "read"
    scopes = (token.get("fineGrained") or {}).get("scoped") or ()
    return any(scope["entity"].get("name") == owner and "repo.write" in scope["permissions"] for scope in scopes)


def whoami() -> dict[str, Any]:
    """The Hub's description of the token's user.

    Raises:
        AxionError: there is no token, or it is invalid.
    """
    if not get_token():
        raise AxionError("no Hugging Face token: run `hf auth login` or set HF_TOKEN; --dry-run needs no token")
    with hub_errors("the token"):
        user = retry(api().whoami)
        if "name" not in user:
            raise KeyError("name")
        return user


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


def tags(repo_id: str, must_exist: bool = True) -> dict[str, str]:
    """The tags of a model's repository, name → commit.

    Args:
        repo_id: USER/NAME.
        must_exist: whether a missing repository is an error; else it has no tags.

    Raises:
        AxionError: the Hub refused, or cannot be reached.
    """
    with hub_errors(repo_id):
        try:
            return {ref.name: ref.target_commit for ref in retry(lambda: api().list_repo_refs(repo_id)).tags}
        except RepositoryNotFoundError:
            if must_exist:
                raise
            return {}


def differences(
    folder: Path, repo_id: str, commit: str, repo_type: str = "model", absent: Collection[str] = ()
) -> set[str]:
    """The files of a folder that a commit lacks or has with other content.

    The commit may have more files than the folder, since others may add some.

    Args:
        folder: the local folder.
        repo_id: USER/NAME.
        commit: its sha.
        repo_type: "model" or "space".
        absent: files that the commit must not have; those that it has are included in the result.

    Raises:
        AxionError: the Hub refused, or cannot be reached.
    """
    with hub_errors(repo_id):
        compared = retry(
            lambda: api().verify_repo_checksums(repo_id, repo_type=repo_type, revision=commit, local_dir=folder)
        )
        different = {mismatch["path"] for mismatch in compared.mismatches} | set(compared.extra_paths)
        return different | set(absent) & set(compared.missing_paths)


def files_at(repo_id: str, commit: str, repo_type: str = "model") -> dict[str, RepoFile]:
    """The files of a repository at a commit, by name.

    Raises:
        AxionError: the Hub refused, or cannot be reached.
    """
    with hub_errors(repo_id):
        entries = retry(
            lambda: list(api().list_repo_tree(repo_id, recursive=True, revision=commit, repo_type=repo_type))
        )
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def commit_history(repo_id: str, commit: str, repo_type: str = "model") -> list[str]:
    """A commit and its ancestors, newest first.

    Raises:
        AxionError: the Hub refused, or cannot be reached.
    """
    with hub_errors(repo_id):
        commits = retry(lambda: api().list_repo_commits(repo_id, revision=commit, repo_type=repo_type))
        return [entry.commit_id for entry in commits]


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
        private: make a new repository private.
        branch: created from main.

    Raises:
        AxionError: `private` is set and the repository exists and is public, or the Hub refused or cannot be reached.
    """
    with hub_errors(repo_id):
        retry(lambda: api().create_repo(repo_id, private=private or None, exist_ok=True))
        if private:
            check_private(repo_id)
        if branch:
            retry(lambda: api().create_branch(repo_id, branch=branch, exist_ok=True))


WRITTEN_BY_THE_HUB = {"model": {".gitattributes"}, "space": {".gitattributes", "README.md"}}
"""The files that a new repository begins with."""


def empty_head(repo_id: str, branch: str = "main", repo_type: str = "model") -> str:
    """The commit that a repository begins with.

    Raises:
        AxionError: the repository has more than that, so somebody else has changed it in the meantime.
    """
    commit = head(repo_id, branch, repo_type)
    if (
        commit is None
        or files_at(repo_id, commit, repo_type).keys() - WRITTEN_BY_THE_HUB[repo_type]
        or len(commit_history(repo_id, commit, repo_type)) > 1
    ):
        raise AxionError(f"{repo_id} has changed in the meantime: run the same command again")
    return commit


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
        additions = [CommitOperationAdd(name, folder / name) for name in files_in(folder)]
        deletions = [CommitOperationDelete(name) for name in sorted(remove)]
        with _commit_errors(repo_id):
            api().preupload_lfs_files(
                repo_id,
                additions,
                repo_type=repo_type,
                revision=revision,
                create_pr=as_pull_request,
                free_memory=False,  # the content is also needed for the comparison with what is there
            )
            _check_ignored(repo_id, additions)
            made = api().create_commit(
                repo_id,
                [*additions, *deletions],
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


def _check_ignored(repo_id: str, additions: Collection[CommitOperationAdd]) -> None:
    """The client silently leaves out what a .gitignore on the Hub names (huggingface_hub#1826)."""
    if ignored := [addition.path_in_repo for addition in additions if addition._should_ignore]:
        raise AxionError(
            f"the .gitignore of {repo_id} names {ignored[0]}, which the Hub would therefore leave out: delete the "
            ".gitignore there, or remove that line"
        )


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
        raise AxionError(f"the Hub refused {repo_id}: {hide_tokens(one_line(error))}") from None


def _find(
    folder: Path, repo_id: str, repo_type: str, revision: str, remove: Collection[str], as_pull_request: bool
) -> str | None:
    """The commit that already has a folder's files: the branch's head, or that of a pull request."""
    commits = [head(repo_id, revision, repo_type)]
    if as_pull_request:
        refs = retry(lambda: api().list_repo_refs(repo_id, repo_type=repo_type, include_pull_requests=True))
        commits += [ref.target_commit for ref in reversed(refs.pull_requests or [])]
    return next((at for at in commits if at and not differences(folder, repo_id, at, repo_type, remove)), None)


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
    tagged = tags(repo_id).get(name)
    if tagged is None:
        raise AxionError(f"the Hub does not show the new tag {name} of {repo_id} yet: run the same command again")
    if tagged != commit:
        raise AxionError(
            f"{repo_id} has the tag {name} on another commit ({tagged[:8]}), and release tags are never moved: "
            "give the recipe a new version, or delete the tag on the Hub"
        )
    return not existed
