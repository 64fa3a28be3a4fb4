"""Generation without PyTorch and transformers: the same texts, and what still needs the two."""

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from axion.errors import AxionError
from axion.inference.sampling import Sampling
from axion.inference.stream import stream
from axion.inference.variants import with_loops, with_tampering
from axion.kernels.build import Unavailable, compiler
from axion.kernels.stored import StoredModel
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.release import RELEASES, open_release
from axion.stored_tokenizer import StoredTokenizer, open_stored_tokenizer
from axion.tampering import NOTHING, read_tampering
from tests.conftest import ROOT
from tests.inference.conftest import PROMPT
from tests.inference.test_loops import LOOPED_MIXTURE
from tests.inference.test_speculative import PREDICTS_TWO
from tests.support.measured import make_chatty

BUNDLED = RELEASES / "axion1-v0.1"


@pytest.fixture(autouse=True)
def _compiler():
    try:
        compiler()
    except Unavailable as reason:
        pytest.skip(str(reason))


def steps(model, tokenizer, sampling, **options):
    return [replace(step, seconds=0) for step in stream(model, tokenizer, PROMPT, sampling, **options)]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_new_tokens=60),
        Sampling(temperature=1.0, seed=3, max_new_tokens=100),
        Sampling(temperature=0.7, top_k=40, top_p=0.9, repetition_penalty=1.1, seed=2**33 + 1, max_new_tokens=100),
    ],
)
def test_the_bundled_release_writes_the_same(sampling):
    release = open_release(BUNDLED)
    model, tokenizer = release.for_generation()
    assert isinstance(model, StoredModel) and isinstance(tokenizer, StoredTokenizer)
    assert steps(model, tokenizer, sampling) == steps(release.model, release.tokenizer, sampling)


def test_a_changed_release_writes_the_same():
    release, sampling = open_release(BUNDLED), Sampling(max_new_tokens=30)
    model, tokenizer = release.for_generation()
    assert isinstance(model, StoredModel)
    changes = read_tampering({"mute": "L2.E4", "force": "L1.E2", "bias": "off", "mute_head": "L1.H3"})
    before = steps(model, tokenizer, sampling)
    changed = steps(with_tampering(model, changes), tokenizer, sampling)
    assert changed == steps(with_tampering(release.model, changes), release.tokenizer, sampling) != before
    assert all(1 in step.routing.experts[0] and 3 not in step.routing.experts[1] for step in changed)
    assert steps(with_tampering(with_tampering(model, changes), NOTHING), tokenizer, sampling) == before


def make_release(tiny_release, folder, fields):
    shutil.copytree(tiny_release, folder)
    torch.manual_seed(2)
    model = AxionForCausalLM(AxionConfig(**fields))
    if model.config.num_nextn_predict_layers:
        model.attach_mtp()
    model.save_pretrained(folder)
    return open_release(folder)


def test_a_looped_model_writes_the_same(tiny_release, tmp_path):
    release = make_release(tiny_release, tmp_path / "looped", LOOPED_MIXTURE)
    model, tokenizer = release.for_generation()
    assert isinstance(model, StoredModel)
    for loops in (0, 3):
        sampling = Sampling(temperature=1, max_new_tokens=20, num_loops=loops)
        assert steps(model, tokenizer, sampling) == steps(release.model, release.tokenizer, sampling)


def test_a_model_that_drafts_writes_the_same(tiny_release, tmp_path):
    release, sampling = make_release(tiny_release, tmp_path / "drafts", PREDICTS_TWO), Sampling(max_new_tokens=20)
    for mtp, slow in ((False, release.model), (True, release.mtp_model)):
        model, tokenizer = release.for_generation(mtp=mtp)
        assert isinstance(model, StoredModel) and model.predicts == mtp
        assert steps(model, tokenizer, sampling, mtp=mtp) == steps(slow, release.tokenizer, sampling, mtp=mtp)


def test_only_a_looped_model_can_be_looped(release):
    model, _ = release.for_generation()
    assert with_loops(model, 1) is model
    with pytest.raises(AxionError, match="no shared layers to loop"):
        with_loops(model, 2)


def test_a_stored_model_is_not_read_by_pytorch(release):
    model, tokenizer = release.for_generation()
    with pytest.raises(AxionError, match="read by the kernels alone"):
        stream(model, tokenizer, PROMPT, Sampling(), backend="torch")


def test_token_ids_are_those_of_transformers():
    release = open_release(BUNDLED)
    stored, generator = open_stored_tokenizer(BUNDLED), random.Random(0)
    assert stored is not None
    pieces = [
        "<bos>",
        "<|user|>",
        "</THINK>",
        " ",
        "  \n",
        "\t",
        "12",
        "ção",
        "é",
        "🙂",
        "e\u0301",
        "\u200b",
        "word",
        ":",
    ]
    for _ in range(200):
        text = "".join(generator.choices(pieces, k=12))
        ids = release.tokenizer(text).input_ids
        assert stored(text).input_ids == ids
        assert stored.decode(ids) == release.tokenizer.decode(ids)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: edit(folder / "config.json", unheard_of=1),
        lambda folder: edit(folder / "config.json", attention_bias=True),
        lambda folder: (folder / "generation_config.json").unlink(),
        lambda folder: edit(folder / "tokenizer_config.json", add_prefix_space=True),
        lambda folder: edit(folder / "tokenizer_config.json", bos_token="<start>"),
        lambda folder: edit(folder / "tokenizer.json", truncation={"max_length": 8}),
        lambda folder: edit(folder / "model.safetensors", bias=1),
    ],
)
def test_what_only_transformers_knows_is_left_to_it(change, tiny_release, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_release, tmp_path / "release")
    change(folder)
    release = open_release(folder)
    vars(release).update(_model="a model", tokenizer="a tokenizer")
    assert release.for_generation() == ("a model", "a tokenizer")


def edit(path, **changes):
    if path.suffix == ".safetensors":
        save_file(load_file(path) | {name: torch.ones(1) for name in changes}, path)
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_broken_releases_are_refused_as_before(tiny_release, tmp_path):
    folder = shutil.copytree(tiny_release, tmp_path / "release")
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"model.norm.weight": torch.full((32,), float("nan"))}, folder / "model.safetensors")
    with pytest.raises(AxionError, match="NaN or infinite values"):
        open_release(folder).for_generation()
    with pytest.raises(AxionError, match="backend must be auto, torch or native"):
        open_release(tiny_release).for_generation("fast")


def test_a_chat_template_is_left_to_transformers_where_it_is_needed(tiny_release, tmp_path):
    folder = make_chatty(tiny_release, tmp_path / "chatty")
    assert open_stored_tokenizer(folder) is not None
    assert open_stored_tokenizer(folder, chats=True) is None


@pytest.mark.parametrize("command", [["generate", "--show-experts", "--temperature", "1"], ["chat"]])
def test_commands_do_not_import_pytorch(command, release):
    name, *options = command
    arguments = [
        name,
        str(release.folder),
        *([PROMPT] if name == "generate" else []),
        *options,
        "--max-new-tokens",
        "3",
    ]
    heavy = ("torch", "transformers", "matplotlib", "jinja2", "huggingface_hub")
    code = f"import sys; from axion.cli import app, run; code = run(app, {arguments!r}); "
    code += f"sys.exit(code or str([name for name in {heavy} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input="5 + 3?\n", capture_output=True, text=True, env=os.environ
    )
    assert done.stderr.splitlines()[-1] == "[]" and done.stdout.strip()
