"""Every rule finds what it is there for, alone and in its own words; a good folder passes; no folder makes it crash."""

import json
import os
import pickle
import re
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from axion.errors import AxionError
from axion.files import sha256
from axion.release import RELEASES
from publish.check import card, code, config, files, text
from publish.check.folder import Folder
from publish.check.lint import RULES, Problem, check_folder, lint, scan_text_files
from publish.manifest import RELEASE_FILES
from tests.publish.check.test_secrets import drawn

BUNDLED = RELEASES / "axion1-v0.1"


# --- Ways to spoil a release ------------------------------------------------------------------------------------------


def put(name, content):
    """Write a file, in place of the one that is there or new."""

    def spoil(folder: Path):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def swap(name, old, new):
    """Replace a text in a file that has it."""

    def spoil(folder: Path):
        content = (folder / name).read_text(encoding="utf-8")
        assert old in content, f"{name} has no {old!r} any longer"
        (folder / name).write_text(content.replace(old, new, 1), encoding="utf-8")

    return spoil


def add(name, new):
    """Write a text behind a file."""

    def spoil(folder: Path):
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(new)

    return spoil


def say(new):
    """Write a text into the card's last section."""

    def spoil(folder: Path):
        before, marker, after = (folder / "README.md").read_text(encoding="utf-8").rpartition("<!-- axion:end ")
        (folder / "README.md").write_text(before + new + marker + after, encoding="utf-8")

    return spoil


def fields(name, /, **changes):
    """Change fields of a JSON file; None takes one out."""

    def spoil(folder: Path):
        content = json.loads((folder / name).read_text(encoding="utf-8")) | changes
        content = {key: value for key, value in content.items() if value is not None}
        (folder / name).write_text(json.dumps(content), encoding="utf-8")

    return spoil


def front(key, value):
    """Write a key of the card's front matter anew, or first of all."""

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
    """A PNG with a tEXt chunk, as tools write them."""

    def spoil(folder: Path):
        path = folder / "training.png"
        content, chunk = path.read_bytes(), b"tEXtComment\0" + words.encode()
        chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        path.write_bytes(content[:33] + chunk + content[33:])  # behind the header

    return spoil


def twins(tensors):
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()


def broken(tensors):
    tensors["model.norm.weight"][3] = float("nan")


SLASH = "/"
REMOTE, CONFIG = "modeling_axion.py", "configuration_axion.py"
PICKLE = "{} is a pickle, which can run code when it is opened: save it as safetensors"
UNSAFE = ": published code computes and does nothing else; take it out"
RESULT = "- dataset: {id: openai/gsm8k, task_id: gsm8k}\n  value: 1.3\n"
RESULT_FILE = ".eval_results/gsm8k.yaml"
IMPORTS = REMOTE + r" imports {} \(line \d+\)"
CARD_LINE = r"README\.md {} \(line \d+\): "

SPOILT = [
    (files.allowed_names, gone("trace.json"), "trace.json is missing from the release: build the release again"),
    (files.allowed_names, put("notes.txt", "x"), "notes.txt does not belong in the release: remove it"),
    (files.allowed_names, put(".env", "x"), r"\.env does not belong in the release"),
    (files.allowed_names, put("model.gguf", "GGUF"), r"model\.gguf does not belong in the release"),
    (files.allowed_names, put("__pycache__/a.pyc", "x"), "__pycache__/ does not belong in the release: remove it"),
    (files.plain_files, link("metrics.csv"), "metrics.csv is missing", "metrics.csv is not a plain file"),
    (files.readable, put("trace.json", '{"steps": [1,\n2'), r"trace\.json is not valid JSON \(line 2\)"),
    (files.readable, put("trace.json", '{"p": NaN}'), "trace.json is not valid JSON"),
    (files.readable, put("trace.json", "[]"), "trace.json is not a JSON object with something in it"),
    (files.readable, put("tokenizer.py", "def"), r"tokenizer\.py is not valid Python \(line 1\)"),
    (files.readable, put("recipe.yaml", "a: [1,\nb: {"), r"recipe\.yaml is not valid YAML \(line 2\)"),
    (files.readable, put("metrics.csv", b"step\n\xff\xfe"), r"metrics\.csv is not valid UTF-8 text"),
    (files.readable, put("training.png", b"GIF89a"), "training.png is not a PNG picture"),
    (files.no_pickle, put("metrics.csv", pickle.dumps([1])), PICKLE.format("metrics.csv"), "not valid UTF-8"),
    (files.no_pickle, put("model.bin", "x"), "model.bin does not belong", PICKLE.format("model.bin")),
    (files.no_pickle, zipped("model.pth", "archive/data.pkl"), "model.pth does not", PICKLE.format("model.pth")),
    (files.no_pickle, zipped("model.model", "archive/data.pkl"), "not valid UTF-8", PICKLE.format("model.model")),
    (files.weights_readable, put("model.safetensors", b"\x08" + b"\0" * 99), r"can't be read \("),
    (
        files.weights_readable,
        weights(lambda tensors: None, {}),
        "model.safetensors has no metadata format: pt: save it",
    ),
    (files.weights_readable, weights(lambda tensors: tensors.clear()), "model.safetensors holds no weights"),
    (files.weights_stored_once, weights(twins), "stores the same weights twice, as 'lm_head.weight' and 'model.embed"),
    (files.weights_finite, weights(broken), "has NaN or infinite numbers in 'model.norm.weight': train again"),
    (code.auto_map_names_classes, fields("config.json", auto_map=None), "config.json has no auto_map with AutoConfig"),
    (
        code.auto_map_names_classes,
        swap("config.json", '"modeling_axion.AxionModel"', '"someone/x--modeling_axion.AxionModel"'),
        "config.json has 'someone/x--modeling_axion.AxionModel' for 'AutoModel'.*write 'modeling_axion.AxionModel'",
    ),
    (
        code.auto_map_names_classes,
        swap("config.json", '"modeling_axion.AxionModel"', '"modeling_axion.AxionModle"'),
        r"config.json has 'modeling_axion.AxionModle' .*: modeling_axion.py has no class of that name",
    ),
    (code.auto_map_names_classes, swap("config.json", '"modeling_axion.AxionModel"', '"axion.m.A"'), "in no folder"),
    (code.auto_map_names_classes, swap("config.json", '"modeling_axion.AxionModel"', '"m.A"'), "there is no 'm.py'"),
    (code.relative_imports, add(REMOTE, "from . import x\n"), r"imports by 'from \. import …' .*does not see it"),
    (code.relative_imports, add(REMOTE, "from ..a import x\n"), "imports by .*a published file has no parent"),
    (code.relative_imports, add(REMOTE, "from .a.b import x\n"), "imports by .*subpackages"),
    (
        code.relative_imports,
        add(REMOTE, "from .nowhere import x\n"),
        r"imports by 'from \.nowhere .*there is no nowhere",
    ),
    (code.relative_imports, add("tokenizer.py", "if 1: from .modeling_axion import x\n"), "hides its import of .model"),
    (code.relative_imports, add(REMOTE, '"""\nfrom .nowhere import x\n"""\n'), r"takes for an import of \.nowhere"),
    (
        code.known_imports,
        add(REMOTE, "import einops\n"),
        IMPORTS.format("einops") + ": .* import torch, transformers and",
    ),
    (code.known_imports, add(REMOTE, "def f():\n    from axion import params\n"), IMPORTS.format("axion.params")),
    (code.known_imports, add("tokenizer.py", "import numpy\n"), "tokenizer.py imports numpy .*tokenizers, torch"),
    (code.no_unsafe_code, add(REMOTE, "import subprocess\n"), IMPORTS.format("subprocess") + UNSAFE),
    (code.no_unsafe_code, add(REMOTE, "from urllib.request import urlopen\n"), IMPORTS.format("urllib.*") + UNSAFE),
    (code.no_unsafe_code, add(REMOTE, "import os\nos.system('ls')\n"), r"uses os\.system \(line \d+\)" + UNSAFE),
    (code.no_unsafe_code, add(REMOTE, "from os import popen\n"), IMPORTS.format("os.popen") + UNSAFE),
    (code.no_unsafe_code, add("tokenizer.py", "exec('1')\n"), "tokenizer.py uses exec"),
    (code.no_unsafe_code, add("tokenizer.py", "run = eval\n"), "tokenizer.py uses eval"),
    (code.no_unsafe_code, add(REMOTE, "torch.load('x')\n"), r"uses torch\.load"),
    (code.config_class, swap(CONFIG, "(PreTrainedConfig)", "(dict)"), "has a class AxionConfig that is no config"),
    (
        code.config_class,
        fields("config.json", model_type="axiom"),
        "gives AxionConfig the model_type 'axion', and config",
    ),
    (code.post_init, swap(REMOTE, "        self.post_init()\n", ""), r"builds AxionModel without post_init\(\)"),
    (
        code.tied_weights,
        swap(REMOTE, '{"lm_head.weight": "model.embed_tokens.weight"}', '["lm_head.weight"]'),
        "has _tied_weights_keys in AxionForCausalLM that are no dict",
    ),
    (
        code.tied_weights,
        swap(REMOTE, "    _tied_weights_keys", "    _keys"),
        "ties weights in AxionForCausalLM without",
    ),
    (code.generation_mixin, swap(REMOTE, ", GenerationMixin)", ")"), "has AxionForCausalLM without GenerationMixin"),
    (
        code.initialization,
        swap(REMOTE, "init.zeros_(", "nn.init.zeros_("),
        "fills weights by 'nn.init.zeros_' in _init",
    ),
    (
        code.initialization,
        swap(REMOTE, "init.zeros_(module.", "module.zero_(module."),
        r"fills weights by 'module\.zero_'",
    ),
    (
        code.buffers,
        swap(REMOTE, "torch.zeros(config.n_routed_experts))", "torch.zeros(config.n_routed_experts), False)"),
        "has a buffer in AxionRouter that is not saved",
    ),
    (code.buffers, swap(REMOTE, "class AxionRotaryEmbedding(", "class AxionRotary("), *2 * ["buffer in AxionRotary "]),
    (config.config_fields, fields("config.json", transformers_version=None), "config.json has no transformers_version"),
    (config.config_fields, fields("config.json", architectures=["Axiom"]), r"has the architectures \['Axiom'\]"),
    (config.config_fields, fields("config.json", _name_or_path="runs/a"), "config.json has _name_or_path 'runs/a'"),
    (
        config.outdated_fields,
        fields("config.json", torch_dtype="float32"),
        "has torch_dtype: transformers 5 calls it dtype",
    ),
    (
        config.outdated_fields,
        fields("config.json", rope_scaling={}),
        "has rope_scaling: transformers 5 calls it rope_pa",
    ),
    (
        config.generation_parameters,
        fields("config.json", top_k=5),
        "config.json has the generation parameter top_k: move",
    ),
    (
        config.special_tokens,
        fields("generation_config.json", eos_token_id=7),
        "generation_config.json has the eos_token_id 7",
    ),
    (config.special_tokens, fields("config.json", bos_token_id=[1, 7]), r"config\.json has the bos_token_id \[1, 7\]"),
    (
        config.special_tokens,
        fields("tokenizer_config.json", pad_token="<none>"),
        "has the pad_token '<none>', which token",
    ),
    (
        config.special_tokens,
        lambda folder: [
            fields("tokenizer_config.json", pad_token="<eos>")(folder),
            fields("config.json", pad_token_id=2)(folder),
            fields("generation_config.json", pad_token_id=2)(folder),
        ],
        "config.json has 2 as pad_token_id and as eos_token_id: texts would never end",
    ),
    (
        config.tokenizer_class,
        fields("tokenizer_config.json", tokenizer_class="TokenizersBackend"),
        "'TokenizersBackend'",
    ),
    (config.sizes, fields("config.json", vocab_size=260), r"has the vocab_size 260: tokenizer\.json needs \d+"),
    (
        config.sizes,
        fields("tokenizer_config.json", model_max_length=9),
        "has the model_max_length 9: .*embeddings are 128",
    ),
    (card.front_matter, swap("README.md", "---\n", "--\n"), r"README\.md has no front matter that is a YAML mapping"),
    (card.front_matter, swap("README.md", "license:", "license: ["), "has no front matter that is a YAML mapping"),
    (
        card.required_metadata,
        front("license", "MIT License"),
        CARD_LINE.format("has the license 'MIT License'") + "take",
    ),
    (card.required_metadata, front("license", "other"), "has the license other without a license_name"),
    (card.required_metadata, front("library_name", "pytorch"), "library_name 'pytorch' .*: write transformers"),
    (card.required_metadata, front("pipeline_tag", "chat"), "has the pipeline_tag 'chat'"),
    (card.languages_and_tags, front("language", "[EN, pt]"), "has the language 'EN'"),
    (card.languages_and_tags, front("language", "no"), "has the language False"),
    (card.languages_and_tags, front("tags", "[axion, 3]"), r"has the tags \['axion', 3\]"),
    (card.repositories, front("datasets", "[./data/gsm8k]"), r"has './data/gsm8k' in datasets"),
    (card.repositories, front("base_model", r"C:\\models\\a"), "in base_model", "names a path"),
    (
        card.repositories,
        front("new_version", "a/b/c"),
        "has 'a/b/c' in new_version .*write a repository's name, USER/NAME",
    ),
    (
        card.model_index,
        swap("README.md", "- name: Axion tiny\n", "- title: Axion\n"),
        "has a model-index that the Hub can",
    ),
    (card.model_index, swap("README.md", "value: 2.345", "value: .nan"), "has a model-index that the Hub can't read"),
    (card.eval_results, put(RESULT_FILE, "gsm8k: 1"), "gsm8k.yaml is not a list of results"),
    (card.eval_results, put(RESULT_FILE, RESULT.replace("value: 1.3", "score: 1")), "wrong result 1, in its keys"),
    (card.eval_results, put(RESULT_FILE, RESULT + RESULT.replace("1.3", "high")), "wrong result 2, in its value"),
    (card.eval_results, put(RESULT_FILE, RESULT.replace(", task_id: gsm8k", "")), "in its dataset's task_id"),
    (card.eval_results, put(RESULT_FILE, RESULT + "  date: yesterday\n"), "in its date"),
    (card.eval_results, put(RESULT_FILE, RESULT + "  source: {name: a}\n"), "in its source"),
    (card.finished, say("[more information needed]\n"), r"has '\[more information needed\]' "),
    (card.finished, say("{{ info.title }}\n"), r"has '{{ info.title }}' \(line \d+\): write what belongs"),
    (card.finished, say("{% if x %}\n"), "has '{% if x %}'"),
    (card.finished, say("- TODO: numbers\n"), "has 'TODO'"),
    (card.links, say("[the log](log.csv#x)\n"), r"links to 'log\.csv#x' .*there is no such file"),
    (card.links, say('<img src="loss.png">\n'), r"links to 'loss\.png'"),
    (card.links, say("[log]: ./log.csv\n"), r"links to './log\.csv'"),
    (card.fences_closed, add("README.md", "```bash\nls\n"), "opens a block of code that is never closed"),
    (
        card.snippets_compile,
        say("```python\nprint 1\n```\n"),
        "has a Python snippet that does not compile",
    ),
    (card.snippets_compile, say("```py\nreturn 1\n```\n"), "has a Python snippet that does not compile"),
    (
        card.snippets_pinned,
        say('```python\nAutoModel.from_pretrained("a/b", trust_remote_code=True)\n```\n'),
        CARD_LINE.format("trusts remote code without a revision") + "pin it",
    ),
    (
        card.snippets_pinned,
        say('```python\npipeline("text-generation", model="a/b", trust_remote_code=True)\n```\n'),
        "trusts remote code without a revision",
    ),
    (card.sections, add("README.md", "<!-- axion:start spare -->\n"), "has the start of section spare and not its end"),
    (card.sections, add("README.md", "<!-- axion:end spare -->\n"), "has the end of section spare where it can't be"),
    (
        card.sections,
        add("README.md", "<!--axion:start Spare-->\n"),
        "has a section marker that is not in its right form",
    ),
    (
        card.sections,
        add("README.md", 2 * "<!-- axion:start spare -->\n<!-- axion:end spare -->\n"),
        "has the start of section spare where it can't be a second time",
    ),
    (
        text.no_local_path,
        add("README.md", f"{SLASH}home/me/model\n"),
        r"README\.md names a path of this machine \(/home/m…",
    ),
    (
        text.no_local_path,
        add("metrics.csv", f"{SLASH}root/.cache\n"),
        r"metrics\.csv names a path .*\(line 5\): it has no",
    ),
    (text.no_local_path, fields("trace.json", name="C:\\Users\\me"), "trace.json names a path of this machine"),
    (text.no_local_path, add("recipe.yaml", "a: C:\\data\n"), "recipe.yaml names a path"),
    (text.no_local_path, add("recipe.yaml", f"a: file:{SLASH * 3}etc\n"), "recipe.yaml names a path"),
    (text.no_local_path, picture_says(f"{SLASH}Users/me/a.py"), "training.png names a path of this machine"),
    (
        text.no_secret,
        add("README.md", f"hf_{drawn(34)}\n"),
        r"README\.md holds a Hugging Face token \(line \d+\): take it",
    ),
    (text.no_secret, fields("trace.json", key=f"hf_{drawn(34)}"), "trace.json holds a Hugging Face token"),
    (text.no_secret, picture_says(f"hf_{drawn(34)}"), "training.png holds a Hugging Face token: take"),
    (
        text.no_secret,
        weights(lambda tensors: None, {"format": "pt", "by": f"hf_{drawn(34)}"}),
        "model.safetensors holds a Hugging Face token",
    ),
    # a secret in a value that another rule shows is not shown
    (text.no_secret, front("license", f"hf_{drawn(34)}"), "has the license '…'", "holds a Hugging Face token"),
]


@pytest.fixture
def spoilt(release, tmp_path):
    """A copy of the good release, to be spoilt; its manifest is written anew so that one rule alone is broken."""
    folder = shutil.copytree(release, tmp_path / "release")

    def spoil(change) -> Path:
        change(folder)
        manifest = folder / "release.json"
        info = json.loads(manifest.read_text(encoding="utf-8"))
        plain = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path != manifest]
        info["files"] = {path.relative_to(folder).as_posix(): sha256(path) for path in plain}
        manifest.write_text(json.dumps(info), encoding="utf-8")
        return folder

    return spoil


@pytest.mark.parametrize(("rule", "change", "messages"), [(rule, change, words) for rule, change, *words in SPOILT])
def test_each_rule_finds_its_own_in_its_own_words(spoilt, rule, change, messages):
    folder = spoilt(change)
    found = [str(problem) for problem in lint(folder)]
    assert len(found) == len(messages), found
    for message in messages:
        assert any(re.search(message, line) for line in found), (message, found)
    assert list(rule(Folder(folder)))
    assert not any("\n" in line for line in found)


def test_every_rule_is_spoilt_once():
    assert {rule for rule, *_ in SPOILT} | {files.listed_files} == set(RULES)
    assert len(set(RULES)) == len(RULES) and all(rule.__doc__ for rule in RULES)


def test_the_manifest_vouches_for_every_file(release, tmp_path):
    folder = shutil.copytree(release, tmp_path / "release")
    with (folder / "metrics.csv").open("a") as file:
        file.write("9,9\n")
    fields("release.json", files={"nowhere.txt": "0", "metrics.csv": "0"})(folder)
    found = [str(problem) for problem in files.listed_files(Folder(folder))]
    assert "metrics.csv is not the file that release.json describes: build the release again" in found
    assert "release.json lists 'nowhere.txt', which is not there: build the release again" in found
    assert "README.md is not listed in release.json: build the release again" in found
    fields("release.json", files=["README.md"])(folder)
    assert "does not list the release's files" in str(*files.listed_files(Folder(folder)))


def test_a_good_release_passes(release):
    assert lint(release) == []
    assert check_folder(release) == f"{len(RULES)} rules, nothing found"


@pytest.mark.skipif(not BUNDLED.is_dir(), reason="releases/axion1-v0.1 is not built")
def test_the_bundled_release_passes():
    assert [str(problem) for problem in lint(BUNDLED)] == []


def test_the_first_problem_is_named_and_the_others_are_counted(spoilt):
    folder = spoilt(put("a.txt", "x"))
    with pytest.raises(AxionError, match=r"^a\.txt does not belong in the release: remove it$"):
        check_folder(folder)
    (folder / "trace.json").unlink()
    with pytest.raises(AxionError, match=r"^trace\.json is missing .* \(and 2 more: see them all by"):
        check_folder(folder)


def test_what_is_right_in_a_card_is_not_found_wrong(spoilt):
    folder = spoilt(
        say(
            "[web](https://example.org/TO_DO) [mail](mailto:a@b.c) [here](#results) `[x](y)`\n"
            "[log](./metrics.csv?raw=1)\n"
            "~~~markdown\n```python\nnot python, and [no](link)\n```\n~~~\n"
            "```bibtex\n@misc{a, title = {{Axion}}}\n```\n"
            '```python\nAutoModel.from_pretrained("a/b", revision="v1", trust_remote_code=True)\n'
            'AutoModel.from_pretrained("./a", trust_remote_code=True)\n'
            'AutoModel.from_pretrained("a/b", trust_remote_code=False)\n```\n',
        )
    )
    put(RESULT_FILE, RESULT + "  date: 2026-01-31\n  source: {url: https://example.org}\n  verifyToken: eyJ9\n")(folder)
    assert [str(problem) for problem in spoilt(lambda folder: None) and lint(folder)] == []


def test_what_readers_write_between_our_sections_is_not_judged_save_for_secrets(spoilt):
    words = "TODO: see [my notes](notes.md)\n```python\nthis is no Python\n```\n"
    assert lint(spoilt(add("README.md", words))) == []
    (problem,) = lint(spoilt(add("README.md", words + f"hf_{drawn(34)}\n")))
    assert "holds a Hugging Face token" in str(problem)


def test_a_card_from_a_browser_passes(spoilt):
    """CRLF line ends, and a byte-order mark."""

    def retype(folder: Path):
        content = (folder / "README.md").read_bytes()
        (folder / "README.md").write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))

    assert lint(spoilt(retype)) == []


def test_safetensors_whose_header_begins_like_a_pickle_is_none(tmp_path):
    size = 640  # 0x0280: the first two bytes are those of a pickle of protocol 2
    header = json.dumps({"__metadata__": {"format": "pt"}}).encode().ljust(size)
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", size) + header)
    assert list(files.no_pickle(Folder(tmp_path))) == []
    for protocol in range(2, 6):
        (tmp_path / "b.csv").write_bytes(pickle.dumps({"a": [1]}, protocol))
        assert [problem.file for problem in files.no_pickle(Folder(tmp_path))] == ["b.csv"]
    for legacy in (True, False):
        torch.save({"a": torch.ones(2)}, tmp_path / "b.csv", _use_new_zipfile_serialization=not legacy)
        assert [problem.file for problem in files.no_pickle(Folder(tmp_path))] == ["b.csv"]


def test_weights_that_are_equal_by_nature_may_be_stored_twice(tmp_path):
    tensors = {f"{kind}.{i}": torch.full((4, 4), kind) for kind in (0.0, 1.0) for i in range(2)}
    vector = torch.arange(8.0)
    save_file(tensors | {"a": vector.clone(), "b": vector.clone()}, tmp_path / "model.safetensors")
    assert list(files.weights_stored_once(Folder(tmp_path))) == []


def test_weights_of_every_type_are_read(tmp_path):
    types = [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool, torch.float64]
    tensors = {str(kind): torch.tensor([[0, 1], [1, 1]]).to(kind) for kind in types}
    save_file(tensors | {"scalar": torch.tensor(1.0), "none": torch.zeros(0, 3)}, tmp_path / "model.safetensors")
    assert list(files.weights_stored_once(Folder(tmp_path))) == list(files.weights_finite(Folder(tmp_path))) == []


# --- Folders that nobody should see -----------------------------------------------------------------------------------

JUNK = [
    b"",
    b"\0" * 4096,
    b"\xff" * 999,
    bytes(range(256)) * 9,
    b"[" * 20_000,
    b"{" * 20_000,
    b'{"a":' * 9_999,
    b"(" * 9_999 + b"\n",
    b"-" * 50_000 + b"1",
    b"x" + b".x" * 20_000,
    b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (c + 1, c + 1, c, c) for c in range(97, 120)),
    b"---\na: &a [*a]\n---\n",
    b"---\nlanguage: [[1]]\ntags: {a: b}\nlicense: [mit]\ndatasets: {}\nmodel-index: {a: 1}\nbase_model: [~, 3]\n---\n",
    b"---\n" + b"k: v\n" * 2_000,
    b"```python\n" * 999,
    b"{{" * 9_999,
    b"](" * 9_999,
    b"<!-- axion:start a -->\n" * 999,
    b'{"auto_map": {"AutoConfig": 3, "AutoModelForCausalLM": ["a", null]}, "architectures": {}, "eos_token_id": {}}',
    b'{"auto_map": {"AutoConfig": "..a.B", "AutoModelForCausalLM": "../../a.B"}, "files": {"../../a": 1}, "model": 3}',
    b'{"files": {"a": null}, "model": {"vocab": {"a": []}}, "added_tokens": [3, {"content": []}], "pad_token": {}}',
    b'{"a": ' + b"9" * 9_999 + b"}",
    '{"a": "\\ud800", "license": "\u2028"}'.encode(),
    b"class A(B[0], metaclass=C()): x: int; _tied_weights_keys = f()\nfrom . import *\nimport a.b as c\n",
    struct.pack("<Q", 2**63) + b"{}",
    b'\x40\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[9999999999999],"data_offsets":[0,4]}}    ',
    b"PK\x03\x04" + b"\xff" * 99,
]


@pytest.mark.parametrize("number", range(len(JUNK)))
def test_junk_in_every_file_makes_it_no_crash(tmp_path, number):
    for name in (*RELEASE_FILES, RESULT_FILE):
        put(name, JUNK[number])(tmp_path)
    found = lint(tmp_path)
    assert found and all(str(problem).encode() for problem in found)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_bad_file_among_good_ones_makes_it_no_crash(release, tmp_path_factory, data):
    folder = shutil.copytree(release, tmp_path_factory.mktemp("bad") / "release")
    name = data.draw(st.sampled_from(RELEASE_FILES))
    content = (folder / name).read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, len(content)))
    (folder / name).write_bytes(content[:start] + data.draw(st.binary(max_size=99)) + content[end:])
    for problem in lint(folder):
        assert isinstance(problem, Problem) and "\n" not in str(problem)
    shutil.rmtree(folder)


def test_folders_with_strange_things_in_them_make_it_no_crash(tmp_path):
    assert len(lint(tmp_path)) >= len(RELEASE_FILES)  # nothing there
    for name in RELEASE_FILES:
        (tmp_path / name).mkdir()
    assert {problem.what for problem in lint(tmp_path)} == {"is missing from the release"}
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a\nb\r\x1b[31m").write_text("x")
    (tmp_path / os.fsdecode(b"\xff\xfe")).write_text("x")
    found = [str(problem) for problem in lint(tmp_path)]
    for name in ("loop", "dangling", "pipe"):
        assert f"{name} is not a plain file that can be read: put the file itself there" in found
    assert not any("\n" in line or "\x1b" in line for line in found)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_what_is_no_folder_is_a_mistake_in_one_line(tmp_path, name):
    (tmp_path / "file").write_text("x")
    for call in (lint, check_folder, scan_text_files):
        with pytest.raises(AxionError, match="is not a folder"):
            call(tmp_path / name)


def test_nothing_of_the_folder_is_run(spoilt, tmp_path):
    mark = tmp_path / "mark"
    snippet = f"open({str(mark)!r}, 'w')\n"
    folder = spoilt(lambda folder: [add(name, snippet)(folder) for name in (REMOTE, CONFIG, "tokenizer.py")])
    add("README.md", f"```python\n{snippet}```\n")(folder)
    lint(folder)
    assert not mark.exists()
