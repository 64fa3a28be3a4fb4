"""Ways to damage a release: each function returns a change that takes the folder."""

import json
import re
import struct
import zipfile
import zlib
from pathlib import Path

from safetensors.torch import load_file, save_file

BOMB = "a0: &a0 [x, x, x, x]\n" + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))
"""YAML of a few hundred bytes whose aliases stand for hundreds of millions of values."""


def put(name, content):
    """Write a file, new or over the existing one."""

    def spoil(folder: Path):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def swap(name, old, new):
    """Replace a text in a file that contains it."""

    def spoil(folder: Path):
        content = (folder / name).read_text(encoding="utf-8")
        assert old in content, f"{name} no longer contains {old!r}"
        (folder / name).write_text(content.replace(old, new, 1), encoding="utf-8")

    return spoil


def swap_code(old, new):
    """Replace a text in the file of the remote code that contains it."""

    def spoil(folder: Path):
        [name] = [path.name for path in folder.glob("*_axion.py") if old in path.read_text(encoding="utf-8")]
        swap(name, old, new)(folder)

    return spoil


def add(name, new):
    """Append a text to a file."""

    def spoil(folder: Path):
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(new)

    return spoil


def say(new):
    """Append a text to the card's last section."""

    def spoil(folder: Path):
        before, marker, after = (folder / "README.md").read_text(encoding="utf-8").rpartition("<!-- axion:end ")
        (folder / "README.md").write_text(before + new + marker + after, encoding="utf-8")

    return spoil


def fields(name, /, **changes):
    """Change fields of a JSON file; None removes one."""

    def spoil(folder: Path):
        content = json.loads((folder / name).read_text(encoding="utf-8")) | changes
        content = {key: value for key, value in content.items() if value is not None}
        (folder / name).write_text(json.dumps(content), encoding="utf-8")

    return spoil


def front(key, value):
    """Set a key of the card's front matter."""

    def spoil(folder: Path):
        content = (folder / "README.md").read_text(encoding="utf-8")
        content = re.sub(rf"^{key}:.*\n(?:[- ].*\n)*", "", content, count=1, flags=re.M)
        (folder / "README.md").write_text(content.replace("---\n", f"---\n{key}: {value}\n", 1), encoding="utf-8")

    return spoil


def weights(change, metadata=None):
    """Change the tensors, or their metadata."""

    def spoil(folder: Path):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"} if metadata is None else metadata)

    return spoil


def gone(name):
    return lambda folder: (folder / name).unlink()


def link(name):
    def spoil(folder: Path):
        target = folder.parent / f"{name}.elsewhere"
        (folder / name).rename(target)
        (folder / name).symlink_to(target)

    return spoil


def zipped(name, entry):
    def spoil(folder: Path):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr(entry, b"x")

    return spoil


def picture_says(words):
    """Add a tEXt chunk to a PNG, as tools do."""

    def spoil(folder: Path):
        path = folder / "training.png"
        content, chunk = path.read_bytes(), b"tEXtComment\0" + words.encode()
        chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        path.write_bytes(content[:33] + chunk + content[33:])  # after the header

    return spoil


def twins(tensors):
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()


def broken(tensors):
    tensors["model.norm.weight"][3] = float("nan")
