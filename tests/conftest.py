"""Fixtures for all tests: a tiny release with random weights, and real data where available."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("tests", deadline=None)  # timing depends on the machine
hypothesis.settings.load_profile("tests")

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("AXION_KERNELS", str(ROOT / "build" / "kernels"))  # not in the home folder; kept between runs
REAL_DATA = ROOT.parent / "shared" / "data"
"""GSM8K and other real texts beside the clone; tests that need them are skipped if they are absent."""

SHARED_FIXTURES = ("server", "browser", "measured_run")
"""Fixtures of the session that take seconds to make: all tests of one of them run on one worker."""
LONGEST_GROUPS = (
    "tests/benchmarks/test_performance.py",
    "tests/kernels/test_build.py",
    "tests/evaluation/test_scaling.py",
    "tests/publish/space/",
    *SHARED_FIXTURES,
    *("tests/publish/", "tests/training/", "tests/kernels/", "tests/playground/"),
)
"""Groups of tests, by the start of their name, in the order in which they are given out."""

TINY = {
    "vocab_size": 320,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 4,
    "v_head_dim": 16,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 16,
    "intermediate_size": 16,
    "first_k_dense_replace": 0,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    # Large enough for random weights to have clear preferences for tokens and for experts.
    "initializer_range": 0.2,
}
"""AxionConfig fields of a model that is built in milliseconds and has every part of the real one."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Group the tests for `--dist loadgroup`: by the fixture of SHARED_FIXTURES that they use, all others by file.

    With `--no-loadscope-reorder`, groups are given out in the order of the tests. The longest come first, so that none
    is left for the end, when the other workers have nothing to do.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    groups = {item: _group(item) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: [not groups[item].startswith(prefix) for prefix in LONGEST_GROUPS])


def _group(item: pytest.Item) -> str:
    for name in SHARED_FIXTURES:
        if definitions := item._fixtureinfo.name2fixturedefs.get(name):
            return f"{name} of {definitions[-1].baseid}"
    return str(item.path.relative_to(ROOT))


def tiny_documents() -> list[str]:
    """Sixty sums in the project's own text format, enough to train a byte-level tokenizer of 320 entries."""
    return [f"# Pergunta:\nQuanto é {a} + {b}?\n--\n# Resposta:\n{a + b}\n" for a in range(10) for b in range(6)]


@pytest.fixture(scope="session")
def tiny_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release folder with random weights, without card and trace. Copy it before changing it."""
    import torch
    from transformers import GenerationConfig

    from axion.model.configuration_axion import AxionConfig
    from axion.model.modeling_axion import AxionForCausalLM
    from axion.tokenizer import save_tokenizer, train_tokenizer

    folder = tmp_path_factory.mktemp("releases") / "axion-tiny"
    tokenizer = train_tokenizer(tiny_documents(), TINY["vocab_size"])
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    model = AxionForCausalLM(AxionConfig(**TINY, **ids)).eval()
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def gsm8k() -> Path:
    """The folder with the real GSM8K's train.jsonl and test.jsonl."""
    folder = REAL_DATA / "gsm8k"
    if not (folder / "train.jsonl").is_file():
        pytest.skip("GSM8K's JSONL files are not at ../shared/data/gsm8k beside this clone")
    return folder


@pytest.fixture(scope="session")
def make_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Creates an environment with other versions of some libraries, the rest as in this one; returns its python.

    Tests that ask for the same versions share it, also those of other workers. None may install anything else there.
    """
    from axion.files import locked

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def make(*requirements: str) -> str:
        folder = shared / f"environment-{hashlib.sha256(' '.join(requirements).encode()).hexdigest()[:12]}"
        folder.mkdir(exist_ok=True)
        outcome = folder / "outcome.txt"
        with locked(folder):
            if not outcome.exists():
                outcome.write_text(_install(folder, requirements), encoding="utf-8")
        if problem := outcome.read_text(encoding="utf-8"):
            pytest.skip(f"{' '.join(requirements)} can't be installed here: {problem}")
        return str(folder / "bin" / "python")

    return make


def _install(folder: Path, requirements: Sequence[str]) -> str:
    """Makes the environment; returns "", or why the libraries can't be installed."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", folder], check=True
    )  # this environment's pip will do
    # Through a path file, which ranks below the new environment's own packages. pip takes what it finds there for
    # installed, so it does not download torch again.
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "rest.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    install = [*pip, "install", "--quiet", "--no-compile", "--upgrade", *requirements]
    installed = subprocess.run(install, capture_output=True, text=True)
    assert "ResolutionImpossible" not in installed.stderr, installed.stderr
    return installed.stderr.strip()[-200:] if installed.returncode else ""


@pytest.fixture(scope="session")
def browser():
    """Chromium; the test is skipped if it is not installed."""
    from tests.support.browsers import NoChromium, chromium

    with ExitStack() as stack:
        try:
            running = stack.enter_context(chromium())
        except NoChromium as error:
            pytest.skip(str(error))
        yield running
