"""llama.cpp runs the GGUF files with the same tokens, logits and, up to rounding, the same texts.

Optional: needs llama-cpp-python, which is compiled where it is installed (`make test-llama`). Everything that llama.cpp
rounds by itself is turned off (its cache is half precision otherwise), so that what is left is the file's own doing.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from axion.export import gguf as export
from axion.export.gguf import DTYPES, write_gguf
from axion.model.configuration_axion import AxionConfig
from axion.release import RELEASES, Release, open_release
from publish.release.exports import build_exports
from tests.export.conftest import YARN

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: make test-llama installs it")
pytestmark = pytest.mark.slow

EXACT = 1e-5
"""f32: of the largest logit. Measured: 4e-6 on the bundled release, 1.5e-6 on random weights of every shape."""
NEAR_TIE = 1e-3
"""Logits closer than this may swap when sums are computed in another order."""
NEW_TOKENS = 40


@dataclass(frozen=True)
class Bounds:
    """Bounds on a rounded file's deviation from fp32, over every position of 20 prompts and continuations."""

    divergence: float
    """Mean Kullback-Leibler divergence of the next-token distribution from fp32's, in nats."""
    agreement: float
    """Share of positions with the same most likely token."""


ROUNDED = {"f16": Bounds(2e-4, 0.99), "q8_0": Bounds(0.02, 0.95)}
"""Three times what was measured on the bundled release: 5.5e-5 and 99.8% for f16, 5.9e-3 and 97.0% for q8_0.

Almost all of it comes from the few tokens for which a router, its scores being close, picks another expert; llama.cpp
rounds the activations before a q8_0 matrix too. Single logits move by up to a third of the largest there, so a bound on
them would say nothing.
"""

_FORMS = (
    "# Pergunta:\nQuanto é {a} + {b}?\n--\n# Resposta:\n",
    "# Pergunta:\nWhat is {a} - {b}?\n--\n# Resposta:\n",
    "# Pergunta:\nAna tem {a} maçãs e ganha {b}. Com quantas fica?\n--\n# Raciocínio:\n",
    "# Pergunta:\nTom has {a} apples and buys {b} more. How many apples does he have now?\n--\n# Raciocínio:\n",
)
PROMPTS = [form.format(a=a, b=b) for a, b in ((47, 38), (9, 5), (60, 14), (83, 79), (12, 7)) for form in _FORMS]


def texts() -> list[str]:
    """Strings that tokenizers disagree about, and a few hundred random mixtures of them."""
    pieces = [
        *(
            "Olá, você não está só: ação, pão, à toa, ÀÉÎÕÜ ç",
            "naïve café",
            "e\u0301 decomposed",
            "ﬁ ligature",
            "İstanbul",
        ),
        *("0", "47", "3.14159", "1,234,567", "²³ ½ ٣٤ 一二三", "a1b22c333", "R$ 10,50"),
        *("🙂", "👩‍👩‍👧‍👦", "🇧🇷", "e🙂f", "中文字", "Привет", "ไทย", "العربية", "日本語テスト"),
        *(" ", "  ", "   x", "\n", "\n\n", "\r\n", "\t", " \n ", "x \n\n  y", "\u00a0", "\u2003", "\u200b", "\u0000"),
        *(
            "don't",
            "DON'T",
            "we'll they've I'm",
            "'s 'S",
            "a--b",
            "...",
            "?!",
            "(x+y)*z",
            "http://x.y/z?q=1#f",
            "<<3+4=7>>",
        ),
        *(
            "<",
            "<bo",
            "<bos",
            "< bos>",
            "<|end",
            "|>",
            "THINK",
            "# Pergunta:\n",
            "# Raciocínio:\n",
            "--\n",
            "\ufeff",
            "\ud7ff",
        ),
    ]
    draw = random.Random(0)
    return pieces + ["".join(draw.choices(pieces, k=draw.randint(2, 8))) for _ in range(400)]


# --- The bundled release ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def release() -> Release:
    return open_release(RELEASES / "axion1-v0.1")


@pytest.fixture(scope="module")
def folder(release, tmp_path_factory) -> Path:
    """model-f32.gguf, model-f16.gguf and model-q8_0.gguf."""
    folder = tmp_path_factory.mktemp("gguf")
    for dtype in DTYPES:
        write_gguf(release, folder / f"model-{dtype}.gguf", dtype)
    return folder


@pytest.fixture
def load():
    """Opens a GGUF file with everything in fp32; closes it afterwards."""
    opened = []

    def open_file(path: Path, **options) -> llama_cpp.Llama:
        exact = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32, "flash_attn": False}
        common = {"n_ctx": 512, "n_threads": 1, "logits_all": True, "verbose": False}
        opened.append(llama_cpp.Llama(str(path), **common | exact | options))
        return opened[-1]

    yield open_file
    for model in opened:
        model.close()


def logits(model: llama_cpp.Llama, ids: list[int]) -> np.ndarray:
    """`[S, V]`, one row per position."""
    model.reset()
    model.eval(ids)
    return np.array(model.scores[: len(ids)])


@torch.no_grad()
def reference(release: Release, ids: list[int]) -> np.ndarray:
    """Our own model's logits `[S, V]`."""
    return release.model(torch.tensor([ids])).logits[0].numpy()


@pytest.fixture(scope="module")
def continued(release) -> dict[str, list[int]]:
    """Each of `PROMPTS` → the ids of it and its greedy continuation by our own model."""
    inputs = {prompt: release.tokenizer(prompt, return_tensors="pt") for prompt in PROMPTS}
    generate = release.model.generate
    return {
        prompt: generate(**ids, max_new_tokens=NEW_TOKENS, do_sample=False)[0].tolist()
        for prompt, ids in inputs.items()
    }


def test_tokens_have_the_same_ids(release, folder, load):
    model = load(folder / "model-f32.gguf", vocab_only=True)
    for text in texts():
        ours = release.tokenizer(text, split_special_tokens=True)["input_ids"]
        assert model.tokenize(text.encode(), add_bos=True, special=False) == ours, repr(text)


def test_special_tokens_are_distinguished_from_text(release, folder, load):
    model = load(folder / "model-f32.gguf", vocab_only=True)
    special = [*release.tokenizer.all_special_tokens, "<THINK>", "</THINK>", "<STEP>", "<|user|>", "<|end|>"]
    for text in [*special, "a<bos>b", "<THINK>2 + 2\n<STEP> 4</THINK>4<eos>", "<|user|> oi <|end|>\n<|assistant|>"]:
        ours = release.tokenizer(text)["input_ids"]
        assert model.tokenize(text.encode(), add_bos=True, special=True) == ours, text
    assert (model.token_bos(), model.token_eos()) == (release.tokenizer.bos_token_id, release.tokenizer.eos_token_id)


def test_text_survives_a_round_trip(release, folder, load):
    model = load(folder / "model-f32.gguf", vocab_only=True)
    for text in filter(None, (text.replace("\u0000", "") for text in texts())):
        ids = model.tokenize(text.encode(), add_bos=False, special=False)
        assert model.detokenize(ids).decode() == text


def test_f32_gives_the_same_logits(release, folder, load, continued):
    model = load(folder / "model-f32.gguf")
    for prompt, ids in continued.items():
        ours = reference(release, ids)
        assert np.abs(logits(model, ids) - ours).max() <= EXACT * np.abs(ours).max(), prompt


def test_f32_writes_the_same_text(release, folder, load, continued):
    model = load(folder / "model-f32.gguf")
    for prompt, ids in continued.items():
        start = len(release.tokenizer(prompt)["input_ids"])
        model.reset()
        written = []
        for token in model.generate(ids[:start], temp=0.0, repeat_penalty=1.0):
            written.append(token)
            if token == model.token_eos() or len(written) == NEW_TOKENS:
                break
        ours = ids[start:]
        for position, (token, own) in enumerate(zip(written, ours, strict=False)):
            if token != own:  # only where our own model is undecided; the texts diverge from here
                choice = reference(release, ids[: start + position])[-1]
                assert choice[own] - choice[token] <= NEAR_TIE, (prompt, position)
                break
        else:
            assert len(written) == len(ours), prompt


@pytest.mark.parametrize("dtype", ROUNDED)
def test_rounded_files_stay_close(dtype, release, folder, load, continued):
    model = load(folder / f"model-{dtype}.gguf")
    divergences, agreements = [], []
    for ids in continued.values():
        ours, theirs = (
            torch.from_numpy(rows).log_softmax(-1) for rows in (reference(release, ids), logits(model, ids))
        )
        divergences.append((ours.exp() * (ours - theirs)).sum(-1))
        agreements.append((ours.argmax(-1) == theirs.argmax(-1)).float())
    divergence, agreement = float(torch.cat(divergences).mean()), float(torch.cat(agreements).mean())
    assert divergence <= ROUNDED[dtype].divergence and agreement >= ROUNDED[dtype].agreement


def test_the_cards_python_runs(folder, release, tmp_path, monkeypatch, capsys):
    staged = {form.repo_id: form.folder for form in build_exports(release.folder, "someone/Axion", tmp_path)}
    card = (staged["someone/Axion-GGUF"] / "README.md").read_text(encoding="utf-8")

    def from_disk(repo_id: str, file: str, **options) -> llama_cpp.Llama:
        return llama_cpp.Llama(str(staged[repo_id] / file), **options)

    monkeypatch.setattr(llama_cpp.Llama, "from_pretrained", from_disk)
    (snippet,) = re.findall(r"^```python\n(.*?)^```", card, re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(snippet, names)
    names["model"].close()
    assert capsys.readouterr().out.strip() == "8"


# --- Other shapes -----------------------------------------------------------------------------------------------------


def random_ids(release: Release) -> list[int]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(len(release.tokenizer), (100,), generator=generator).tolist()


def test_every_shape_gives_the_same_logits(shaped_release, tmp_path, load):
    write_gguf(shaped_release, tmp_path / "model.gguf", "f32")
    ids = random_ids(shaped_release)
    ours = reference(shaped_release, ids)
    theirs = logits(load(tmp_path / "model.gguf", n_ctx=128), ids)
    assert np.abs(theirs - ours).max() <= EXACT * np.abs(ours).max()


REFUSED = {
    "biases": {"attention_bias": True},
    "another epsilon": {"rms_norm_eps": 1e-3},
    "no scale": {"routed_scaling_factor": 0.0},
    "26 layers": {"num_hidden_layers": 26},
    "27 layers": {"num_hidden_layers": 27},
    "513 layers": {"num_hidden_layers": 513, "hidden_size": 8, "moe_intermediate_size": 2},
    "1025 experts": {"n_routed_experts": 1025, "hidden_size": 8, "moe_intermediate_size": 1},
    "ramp not cut": {
        "rope_parameters": YARN | {"beta_fast": 4, "truncate": False},
        "qk_rope_head_dim": 16,
    },
    "factor 1": {"rope_parameters": YARN | {"factor": 1.0, "attention_factor": 1.3}},
}
DIFFERENT = """
import sys
import llama_cpp
import numpy as np
path, ids, ours = sys.argv[1], np.load(sys.argv[2]).tolist(), np.load(sys.argv[3])
float32 = llama_cpp.GGML_TYPE_F32
model = llama_cpp.Llama(path, n_ctx=128, n_threads=1, logits_all=True, verbose=False, type_k=float32, type_v=float32)
model.eval(ids)
print("relative difference", np.abs(model.scores[: len(ids)] - ours).max() / np.abs(ours).max(), flush=True)
model.close()
"""


@pytest.mark.parametrize("name", REFUSED)
def test_refused_models_fail_in_llama_cpp(name, make_release, tmp_path, monkeypatch):
    """Without the check, llama.cpp fails to load such a model, aborts, or computes something else."""
    release = make_release(**REFUSED[name])
    ids = random_ids(release)
    monkeypatch.setattr(export, "check_model", lambda config: None)
    write_gguf(release, tmp_path / "model.gguf", "f32")
    np.save(tmp_path / "ids.npy", ids)
    np.save(tmp_path / "ours.npy", reference(release, ids))
    arguments = [tmp_path / file for file in ("model.gguf", "ids.npy", "ours.npy")]
    ran = subprocess.run([sys.executable, "-c", DIFFERENT, *map(str, arguments)], capture_output=True, text=True)
    if ran.returncode == 0:
        assert float(ran.stdout.split()[-1]) > 100 * EXACT
    else:
        assert "relative difference" not in ran.stdout
        assert "Failed to load model" in ran.stderr or ran.returncode < 0, ran.stderr


def test_queries_without_a_rank_run_at_lite_layer_counts(make_release, tmp_path, load):
    release = make_release(num_hidden_layers=27, q_lora_rank=None)
    assert isinstance(release.config, AxionConfig)
    write_gguf(release, tmp_path / "model.gguf", "f32")
    ids = random_ids(release)
    ours = reference(release, ids)
    assert np.abs(logits(load(tmp_path / "model.gguf", n_ctx=128), ids) - ours).max() <= 3 * EXACT * np.abs(ours).max()
