"""Reads what hf_xet wrote to the folder of a `local://` storage.

hf_xet keeps content in xorbs, and lists in shards which parts of them make up each file. A shard identifies files by
Xet's own hash, followed by the sha256 that the commit will contain: https://huggingface.co/docs/xet/shard
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.hub.store import Blob, Repo, Store

HEADER = ENTRY = 48
"""Size in bytes of a shard's header, and of each entry."""


def _hash(raw: bytes) -> str:
    """A hash as Xet writes it: four little-endian 64-bit numbers."""
    return struct.pack(">4Q", *struct.unpack("<4Q", raw)).hex()


def files_in_shard(shard: bytes) -> Iterator[tuple[str, str, int]]:
    """(sha256, Xet hash, size in bytes) of each file that a shard describes; shards of buckets have no sha256."""
    place = HEADER
    while (raw := shard[place : place + 32]) != b"\xff" * 32:
        flags, count = struct.unpack_from("<II", shard, place + 32)
        segments = range(place + ENTRY, place + ENTRY * (1 + count), ENTRY)
        size = sum(struct.unpack_from("<I", shard, segment + 36)[0] for segment in segments)
        place += ENTRY * (1 + count * (2 if flags >> 31 & 1 else 1))
        named = bool(flags >> 30 & 1)
        yield _hash(shard[place : place + 32]) if named else "", _hash(raw), size
        place += ENTRY * named


def read(storage: Path, xet_hash: str, size: int) -> bytes:
    """A file's content. The storage is copied first, since the client that wrote it holds a lock on its index."""
    import hf_xet

    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "xet" / "xorbs"
        shutil.copytree(storage, copy)
        group = hf_xet.XetSession().new_download_stream_group(
            endpoint=f"local://{scratch}", token="loopback", token_expiry_unix_secs=int(time.time()) + 600
        )
        return b"".join(group.download_stream(hf_xet.XetFileInfo(xet_hash, size)))


def uploaded(store: Store) -> Iterator[tuple[Path, str, str, int]]:
    """(storage, sha256, Xet hash, size) of each file that Xet clients wrote."""
    for shard in store.xet_folder.glob("xet-*/xet/xorbs/shards/*.mdb") if store.xet_folder else ():
        for sha256, xet_hash, size in files_in_shard(shard.read_bytes()):
            yield shard.parent.parent, sha256, xet_hash, size


def find_uploaded(store: Store, repo: Repo, sha256: str) -> None:
    """Find a file that a Xet client wrote, and copy it to the repository's storage."""
    for storage, found, xet_hash, size in uploaded(store):
        if found == sha256:
            content = read(storage, xet_hash, size)
            if hashlib.sha256(content).hexdigest() == sha256:
                store.blobs.setdefault(sha256, Blob(content, lfs=True))
                repo.objects.add(sha256)
                return


def content_of(store: Store, xet_hash: str) -> bytes | None:
    """The content of a file that a Xet client wrote, by its Xet hash."""
    for storage, _, found, size in uploaded(store):
        if found == xet_hash:
            return read(storage, xet_hash, size)
    return None
