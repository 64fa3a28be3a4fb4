"""Reading and writing files: checksums, atomic writes, and strict readers for JSON and YAML.

`read_json` and `read_yaml` are the readers for every file that someone else may have written. Both are bounded in size
and depth, refuse what has two meanings, such as a key that is given twice, and return nothing but dicts with text keys,
lists, text, numbers, booleans and None.
"""

import errno
import hashlib
import json
import math
import os
import platform
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any, NoReturn

import yaml

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from axion.errors import AxionError, one_line

MAX_JSON_BYTES = 2**26
"""The largest JSON file that is read: 64 MiB."""

MAX_YAML_BYTES = 2**20
"""The largest YAML text that is read: 1 MiB, which takes PyYAML some seconds."""

MAX_YAML_NODES = 100_000
"""The most values in a YAML text, each counted as often as aliases repeat it."""


def sha256(path: Path | str) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- Reading ----------------------------------------------------------------------------------------------------------


def read_text(path: Path, max_bytes: int) -> str:
    """Reads a UTF-8 text file of at most `max_bytes`.

    Raises:
        OSError: the file cannot be read, or is not a regular file: a pipe would block, and a device may never end.
        ValueError: it is longer, or not UTF-8.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        error = IsADirectoryError if path.is_dir() else OSError
        raise error(None, "is not a regular file", str(path))
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it is longer than {max_bytes:,} bytes")
    return content.decode("utf-8")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is longer than `MAX_JSON_BYTES`, not UTF-8, or not JSON as `parse_json` accepts it.
    """
    return parse_json(read_text(Path(path), MAX_JSON_BYTES))


def parse_json(text: str) -> Any:
    """Parses JSON.

    Raises:
        ValueError: it is not JSON, a key is given twice, a number is NaN, infinite or too large for a float or for
            Python's integers, a text has half of a surrogate pair, or the nesting is too deep. All but the last of
            these are accepted by Python's own reader, and fail later or mean something else to other readers.
    """
    try:
        content = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_without_repeated_keys
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _ESCAPED_SURROGATE.search(text):
        _refuse_half_surrogates(content)
    return content


_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON")


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError(f"the key {_repeated(key for key, _ in pairs)!r} is given twice")
    return content


def _repeated(keys: Iterable[Hashable]) -> Hashable:
    seen: set[Hashable] = set()
    return next(key for key in keys if key in seen or seen.add(key))


def _refuse_half_surrogates(content: Any) -> None:
    """Raises ValueError where a text cannot be written as UTF-8."""
    try:
        json.dumps(content, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(f"a text has \\u{ord(half):04x}, which is half of a surrogate pair") from None


def read_yaml(path: Path) -> Any:
    """Reads a YAML file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not UTF-8, or not YAML as `parse_yaml` accepts it.
    """
    return parse_yaml(read_text(Path(path), MAX_YAML_BYTES))


def parse_yaml(text: str) -> Any:
    """Parses YAML with the types of JSON: a date is text.

    NaN and infinity are read as numbers, as YAML defines them: a recipe refuses them by the type of its field.

    Raises:
        ValueError: it is not YAML, is longer than `MAX_YAML_BYTES`, has more than `MAX_YAML_NODES` values, is nested
            too deeply or within itself, has a tag of another type, or a key that is not text or is given twice.
    """
    if len(text) > MAX_YAML_BYTES:
        raise ValueError(f"it is longer than {MAX_YAML_BYTES:,} bytes")
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ValueError(one_line(error)) from error
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except LookupError:  # PyYAML's, for example for `!!bool maybe` and `!!int ""`
        raise ValueError("a value does not fit its tag") from None


_YAML_TYPES = {"map", "seq", "str", "int", "float", "bool", "null"}


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader without types that JSON lacks, repeated keys and values that aliases multiply."""

    def get_single_node(self) -> yaml.Node | None:
        if (node := super().get_single_node()) is not None:
            _count_nodes(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if not isinstance(node, yaml.MappingNode):  # `!!map []`
            return super().construct_mapping(node, deep)
        own = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in own:
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is not text; put it in quotes")
        if len(set(own)) < len(own):
            raise ValueError(f"the key {_repeated(own)!r} is given twice")
        return super().construct_mapping(node, deep)


_StrictLoader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix("tag:yaml.org,2002:") in _YAML_TYPES
}
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _count_nodes(node: yaml.Node, counts: dict[int, int | None]) -> int:
    """The number of values in a node, with those of an alias counted at every use.

    Args:
        counts: the counts so far, by the node's identity; None for nodes that are being counted.
    """
    if id(node) in counts:
        if (count := counts[id(node)]) is None:
            raise ValueError("a value contains itself")
        return count
    counts[id(node)] = None
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [each for pair in node.value for each in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    counts[id(node)] = count = 1 + sum(_count_nodes(child, counts) for child in children)
    if count > MAX_YAML_NODES:
        raise ValueError(f"it has more than {MAX_YAML_NODES:,} values")
    return count


# --- Writing ----------------------------------------------------------------------------------------------------------


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yields a temporary path of the same name that replaces `path` when the block succeeds.

    Readers see the old file or the complete new one, never a part of it. Missing parent folders are created. Raises
    AxionError where the file cannot be written, as on a full disk.
    """
    with writing(path), scratch_folder(path.parent, path.name) as scratch:
        yield scratch / path.name
        sync_to_disk(scratch)
        os.replace(scratch / path.name, path)


@contextmanager
def staged_folder(folder: Path, last: str | None = None) -> Iterator[Path]:
    """Yields an empty temporary folder whose files are moved into `folder` when the block succeeds.

    Each file replaces one of the same name in a single step; other files in `folder` are left alone. Raises AxionError
    where a file cannot be written, as on a full disk.

    Args:
        folder: created where it is missing.
        last: the file to move after all others, because its presence means that they are complete.
    """
    with writing(folder), scratch_folder(folder, "staging") as staging:
        yield staging
        sync_to_disk(staging)
        for file in sorted(staging.iterdir(), key=lambda file: (file.name == last, file.name)):
            os.replace(file, folder / file.name)


@contextmanager
def new_folder(folder: Path, is_complete: Callable[[], bool]) -> Iterator[Path]:
    """Yields an empty temporary folder that is renamed to `folder` when the block succeeds.

    If several processes or threads make the same folder at once, the first one is kept.

    Args:
        folder: its parents are created where they are missing.
        is_complete: whether what stands at `folder` is complete; if not, it is replaced.
    """
    with scratch_folder(folder.parent, folder.name) as scratch:
        staging = scratch / "new"
        staging.mkdir()
        yield staging
        sync_to_disk(staging)
        with locked(folder.parent):
            if folder.exists() and not is_complete():
                os.rename(folder, scratch / "incomplete")
            if not folder.exists():
                os.rename(staging, folder)


@contextmanager
def continued_folder(folder: Path, is_complete: Callable[[], bool]) -> Iterator[Path | None]:
    """Yields a hidden folder that is renamed to `folder` when the block succeeds, and left as it is where it fails.

    The next call for the same folder gets what the block has left, also after a kill. Of several processes or threads,
    one gets it and the others wait.

    Args:
        folder: its parents are created where they are missing.
        is_complete: whether what stands at `folder` is complete; if not, it is replaced.

    Yields:
        The hidden folder; None where another process has completed `folder` in the meantime.
    """
    partial = partial_of(folder)
    while True:
        partial.mkdir(parents=True, exist_ok=True)
        before = _inode(partial)
        with locked(partial) as is_locked:
            if is_locked is None and partial.is_dir():  # no locks here: nothing can be shared or continued
                with new_folder(folder, is_complete) as staging:
                    yield staging
                return
            if before is None or _inode(partial) != before:
                continue  # the process that had the lock has renamed or deleted it
            if is_complete():
                shutil.rmtree(partial, ignore_errors=True)
                yield None
                return
            yield partial
            sync_to_disk(partial)
            with locked(folder.parent), scratch_folder(folder.parent, folder.name) as scratch:
                if folder.exists():
                    os.rename(folder, scratch / "incomplete")
                os.rename(partial, folder)
            return


def partial_of(folder: Path) -> Path:
    """The hidden folder of `continued_folder`."""
    return folder.parent / f".{folder.name}.partial"


def _inode(path: Path) -> int | None:
    """The number of a file or folder on its disk; None where there is none."""
    with suppress(FileNotFoundError):
        return path.stat().st_ino
    return None


def delete_partial(folder: Path, pattern: str) -> None:
    """Deletes what failed calls of `continued_folder` have left of other folders, if no process is at work there.

    Args:
        folder: the one that is to be made now, whose rest is kept.
        pattern: of the names of the others, as `Path.glob` reads it.
    """
    for partial in folder.parent.glob(f".{pattern}.partial"):
        if partial != partial_of(folder):
            with locked(partial, wait=False) as is_locked:
                if is_locked:
                    shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yields an empty temporary folder in `parent`, which is deleted at the end of the block.

    Those of the same name that killed processes of this machine left behind are deleted first: as long as a process
    lives, it holds a lock on its folder. Other machines may not see that lock on a network file system, so the folder's
    name has a hash of the machine's. Missing parent folders are created.
    """
    parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{name}-{hashlib.sha256(platform.node().encode()).hexdigest()[:8]}-"
    for abandoned in parent.glob(f"{escape(prefix)}*.tmp"):
        with locked(abandoned, wait=False) as is_locked:
            if is_locked:
                shutil.rmtree(abandoned, ignore_errors=True)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=parent))
        with locked(folder):
            if folder.is_dir():  # else another process has just deleted it as one left behind
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                return


@contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[bool | None]:
    """Holds an exclusive lock on a folder.

    Yields:
        True where it is held; False where `wait` is false and another thread or process has it; None where the folder
        is gone, or the system or the file system has no such locks.
    """
    descriptor, is_locked = None, None
    if fcntl is not None:
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_locked = True
            except BlockingIOError:
                is_locked = False
    try:
        yield is_locked
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def writing(path: Path, advice: str = "") -> Iterator[None]:
    """Turns a failed write, such as on a full disk, into an AxionError of one line, whichever library writes.

    Args:
        path: the file or folder that the block writes.
        advice: what the user should do, after the reason.
    """
    try:
        yield
    except AxionError:
        raise
    except Exception as error:
        reason = system_error(error, path)
        if reason is None:
            raise
        raise AxionError(f"{path} cannot be written: {reason}{advice and f'; {advice}'}") from None


def system_error(error: Exception, path: Path | None = None) -> str | None:
    """The system's reason why a file could not be read or written; None for an error of another kind.

    Python raises OSError; safetensors, tokenizers and torch raise errors of their own for the same failures.

    Args:
        error: what was raised.
        path: the file or folder that was written, if it is known.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if code := re.search(r"\(os error (\d+)\)", str(error)):  # libraries in Rust
        return os.strerror(int(code[1]))
    if isinstance(error, OSError) or re.search(r"inline_container|PytorchStreamWriter", str(error)):
        # numpy and torch.save report the bytes that are missing, not the reason
        return os.strerror(errno.ENOSPC) if path and _is_full(path) else f"{one_line(error)}; the disk may be full"
    return None


def _is_full(path: Path) -> bool:
    """Whether the disk that holds a path, which may not exist yet, has less than 1 MiB left."""
    path = path.absolute()
    return shutil.disk_usage(next(each for each in (path, *path.parents) if each.exists())).free < 2**20


def sync_to_disk(folder: Path) -> None:
    """Waits until all files of a folder are on the disk, so that after a crash a renamed file is never empty."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically, with the line endings of `text` as they are."""
    with staged(path) as staging:
        staging.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, content: object) -> None:
    """Writes indented JSON atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
