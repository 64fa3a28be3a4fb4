"""The machine, the libraries and the code that a measurement ran on, and the memory that this process takes."""

import ctypes
import gc
import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from axion.files import parse_json
from axion.shipped import ROOT

LIBRARIES = ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "datasets", "numpy")


def machine() -> dict:
    """The processor's name, the number of cores that this process may use, and torch's number of threads."""
    import torch  # slow to import, and not every process needs a model

    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": name, "cores": cores, "torch_threads": torch.get_num_threads()}


def libraries() -> dict[str, str]:
    """Library → version."""
    return {name: version(name) for name in LIBRARIES}


def git_commit() -> str | None:
    """The commit of this code, with `+changes` if tracked files differ from it; None if it is not known.

    It is that of the clone, or the one that pip recorded when it installed the project from a repository's address.
    """
    if not (ROOT / ".git").exists():  # git would look further up, and find the repository of another project
        return _installed_commit()
    git = ["git", "-C", str(ROOT)]
    try:
        commit, changed = (
            subprocess.run([*git, *arguments], capture_output=True, text=True, check=True).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changed else "")


def _installed_commit() -> str | None:
    try:
        origin = distribution("axion-lm").read_text("direct_url.json")  # PEP 610
    except PackageNotFoundError:
        return None
    return parse_json(origin).get("vcs_info", {}).get("commit_id") if origin else None


def collect_garbage_rarely() -> None:
    """Lets Python look for reference cycles after 50,000 new objects instead of 700.

    Importing torch and transformers makes a million objects that all stay; without this, a tenth of the time until a
    command's first token goes into looking for garbage among them.
    """
    gc.set_threshold(50_000, 20, 20)


def keep_freed_memory() -> None:
    """Makes glibc reuse freed blocks instead of returning them to the system.

    Every training step allocates and frees the same tens of megabytes. By default each block is mapped anew, and its
    pages are faulted in and zeroed each time.
    """
    if platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_threshold = -1, -3  # parameters of mallopt(3)
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)


def memory_bytes() -> int:
    """The memory that a model can be trained in: the GPU's, or else that of the machine or of its container."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")] if hasattr(os, "sysconf") else [sys.maxsize]
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):  # cgroups v2 and v1
        with suppress(OSError, ValueError):  # "max": no limit
            sizes.append(int(Path(limit).read_text(encoding="ascii")))
    return min(sizes)


def peak_bytes() -> int:
    """This process's peak resident memory in bytes, on Linux and macOS.

    On Linux, `getrusage` includes the memory of the parent that was forked, so the kernel's high-water mark of the
    running program is read instead.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
