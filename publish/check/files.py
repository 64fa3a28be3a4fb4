"""Rules for the folder as a whole: only allowed files, no pickles, intact weights."""

import hashlib
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from axion.errors import AxionError, one_line
from axion.files import sha256
from publish.check.folder import BINARY, Folder, Problem, shown
from publish.manifest import ADAPTER_FILES, LICENSE, REQUIRED_FILES, allowed_files, read_manifest, required_files

PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill", ".npy", ".npz"}
_KINDS = {".json": "JSON", ".py": "Python", ".yaml": "YAML"}
_MAX_HEADER = 100_000_000  # of a safetensors file, in bytes; the limit of the format


def allowed_names(folder: Folder) -> Iterator[Problem]:
    """The folder has all files of a release and no others; hidden or forgotten files leak (autotrain#762)."""
    required = ADAPTER_FILES if folder.is_adapter else sorted({*REQUIRED_FILES} & required_files(folder.path))
    allowed = {*ADAPTER_FILES, LICENSE} if folder.is_adapter else allowed_files(folder.remote_code)
    for name in required:  # the rules for code report missing modules
        if not folder.names.get(name):
            yield Problem(name, None, "is missing from the release", "build the release again")
    unexpected = set(folder.names) - allowed
    # A forgotten .git or __pycache__ is one problem, not hundreds.
    tops = Counter(name.split("/")[0] + "/" * ("/" in name) for name in unexpected)
    for top, count in sorted(tops.items()):
        what = "does not belong in the release" + f" ({count} files)" * (top.endswith("/") and count > 1)
        yield Problem(top, None, what, "remove it")


def plain_files(folder: Folder) -> Iterator[Problem]:
    """No symbolic links, pipes or devices, since their content can change after the check."""
    for name, plain in folder.names.items():
        if not plain:
            yield Problem(name, None, "is not a readable regular file", "replace it with the file itself")


def readable(folder: Folder) -> Iterator[Problem]:
    """Every file is valid for its suffix; the other rules skip invalid files."""
    for name in folder.files:
        suffix = Path(name).suffix
        if suffix == ".png" and not folder.bytes(name).startswith(b"\x89PNG\r\n\x1a\n"):
            yield Problem(name, None, "is not a PNG image", "build the release again")
        if suffix in BINARY or suffix in PICKLES:
            continue
        if error := folder.fault(name):
            line = _line(error)
            kind = "UTF-8 text" if isinstance(error, UnicodeDecodeError) else _KINDS.get(suffix, "UTF-8 text")
            reason = "" if line or kind == "UTF-8 text" else f": {one_line(error)}"
            yield Problem(name, line, f"is not valid {kind}{reason}", "build the release again")
        elif suffix == ".json" and not folder.data(name):
            yield Problem(name, None, "is not a non-empty JSON object", "build the release again")


def no_pickle(folder: Folder) -> Iterator[Problem]:
    """No pickles, whatever their name: opening one can run code, and the Hub flags the repository."""
    for name in folder.files:
        if Path(name).suffix.lower() in PICKLES or _is_pickle(folder.path / name):
            yield Problem(name, None, "is a pickle, which can run code when opened", "save it as safetensors")


def listed_files(folder: Folder) -> Iterator[Problem]:
    """release.json lists every other file with its sha256, which pushes, downloads and users rely on."""
    if not folder.names.get("release.json") or folder.fault("release.json"):
        return
    again = "build the release again"
    try:
        listed = read_manifest(folder.path)["files"]
    except AxionError:
        listed = None
    if not isinstance(listed, dict):
        yield Problem("release.json", None, "does not list the files with their sha256", again)
        return
    for name in sorted(set(folder.files) - set(listed) - {"release.json"}):
        yield Problem(name, None, "is not listed in release.json", again)
    for name, digest in listed.items():
        if name not in folder.files:
            yield Problem("release.json", None, f"lists {shown(name)}, which does not exist", again)
        elif sha256(folder.path / name) != digest:
            yield Problem(name, None, "does not match its sha256 in release.json", again)


def weights_readable(folder: Folder) -> Iterator[Problem]:
    """Weights are marked as PyTorch's: without `format: pt` other programs reject them (mlx#743)."""
    for name in _safetensors(folder):
        try:
            with safe_open(folder.path / name, framework="pt") as file:
                metadata, tensors = file.metadata() or {}, len(file.keys())
        except Exception as error:  # the library's own exception has no narrower base class
            yield Problem(name, None, f"can't be read ({shown(str(error))})", "save the weights again")
            continue
        if metadata.get("format") != "pt":
            yield Problem(name, None, "has no metadata `format: pt`", 'save it with metadata={"format": "pt"}')
        if tensors == 0:
            yield Problem(name, None, "has no tensors", "save the weights again")


def weights_stored_once(folder: Folder) -> Iterator[Problem]:
    """No matrix is stored twice: tied weights would double the download and load untied (safetensors#98).

    Vectors, and matrices with a single distinct value (a norm's ones, an adapter's zeros), may be equal by chance.
    """
    for name in _safetensors(folder):
        seen = {}
        for key, tensor in _tensors(folder.path / name):
            if tensor.ndim < 2 or not tensor.numel() or bool((tensor == tensor.flatten()[0]).all()):
                continue
            content = hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().tobytes()).digest()
            twin = seen.setdefault((tensor.shape, tensor.dtype, content), key)
            if twin != key:
                what = f"stores the same weights twice, as {shown(twin)} and {shown(key)}"
                yield Problem(
                    name, None, what, "declare them in _tied_weights_keys, so that save_pretrained stores one"
                )


def weights_finite(folder: Folder) -> Iterator[Problem]:
    """No weight is NaN or infinite: such a model loads without an error, but its output is useless."""
    for name in _safetensors(folder):
        for key, tensor in _tensors(folder.path / name):
            if tensor.is_floating_point() and not bool(tensor.float().isfinite().all()):
                yield Problem(name, None, f"has NaN or infinite values in {shown(key)}", "train again")


def _safetensors(folder: Folder) -> list[str]:
    return [name for name in folder.files if name.endswith(".safetensors")]


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a safetensors file, one at a time; none if the file is invalid."""
    try:
        with safe_open(path, framework="pt") as file:
            for key in sorted(file.keys()):
                yield key, file.get_tensor(key)
    except Exception:  # reported by `weights_readable`
        return


def _is_pickle(path: Path) -> bool:
    """Whether a file starts like a pickle (torch's legacy format does), or is a zip archive that contains one."""
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(path) as archive:
                return any(name.endswith((".pkl", ".npy")) for name in archive.namelist())
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
            return False
    size = int.from_bytes(head[:8], "little")  # a header of 640 bytes starts like a pickle
    is_safetensors = head[8:9] == b"{" and size < min(_MAX_HEADER, path.stat().st_size)
    return len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5 and not is_safetensors


def _line(error: Exception) -> int | None:
    mark = getattr(error.__cause__, "problem_mark", None)  # PyYAML's
    return mark.line + 1 if mark else getattr(error, "lineno", None)
