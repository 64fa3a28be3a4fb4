"""The two exported repositories: complete, with checksums and correct cards."""

import ast
import json
import re
import shutil

import huggingface_hub
import pytest
import torch
from gguf import GGUFReader
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM

from axion.errors import AxionError
from axion.export.gguf import DTYPES
from axion.export.native import drafting_line, write_native
from axion.families import get_family
from axion.release import RELEASES, open_release
from publish.manifest import check_files, files_in
from publish.markdown import split_sections
from publish.release.exports import build_exports, render_card

RELEASE = RELEASES / "axion1-v0.1"
REPO_ID = "ana/Axion1-350k-A250k"
FORMS = tuple(get_family("axion1").exports)
BOTH = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(scope="module")
def staged(tmp_path_factory) -> dict:
    """Form → its staged export of the bundled release. Read-only."""
    return dict(zip(FORMS, build_exports(RELEASE, REPO_ID, tmp_path_factory.mktemp("exports")), strict=True))


@pytest.fixture
def facts(staged, form) -> dict:
    """The content of a form's release.json."""
    return json.loads((staged[form].folder / "release.json").read_text(encoding="utf-8"))


def blocks_of_code(card: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", card, re.MULTILINE | re.DOTALL)


def test_the_repositories_are_named_after_the_original(staged):
    assert [form.repo_id for form in staged.values()] == [f"{REPO_ID}-native", f"{REPO_ID}-GGUF"]
    assert [form.folder.name for form in staged.values()] == ["Axion1-350k-A250k-native", "Axion1-350k-A250k-GGUF"]


def test_the_folders_contain_exactly_these_files(staged):
    assert files_in(staged["native"].folder) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "release.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    weights = [f"axion1-v0.1-{dtype}.gguf" for dtype in ("f16", "f32", "q8_0")]
    assert files_in(staged["gguf"].folder) == ["README.md", *weights, "release.json"]


@BOTH
def test_the_manifest_seals_every_file(staged, facts, form):
    folder = staged[form].folder
    assert set(check_files(folder)["files"]) == set(files_in(folder)) - {"release.json"}
    assert (facts["repo_id"], facts["base_model"]) == (staged[form].repo_id, REPO_ID)
    original = open_release(RELEASE).info
    assert facts["base_weights_sha256"] == original["files"]["model.safetensors"]
    assert (facts["tag"], facts["parameters"]) == (original["tag"], original["parameters"])


@BOTH
def test_the_front_matter_names_the_base_model(staged, form):
    data = ModelCard.load(staged[form].folder / "README.md").data
    assert (data.base_model, data.base_model_relation) == (REPO_ID, "quantized")
    assert data.library_name == {"native": "transformers", "gguf": "gguf"}[form]
    assert (data.license, data.language, data.pipeline_tag) == ("mit", ["en", "pt"], "text-generation")
    assert "deepseek_v3" in data.tags and "custom_code" not in data.tags


@BOTH
def test_the_card_is_made_of_blocks(staged, form):
    card = (staged[form].folder / "README.md").read_text(encoding="utf-8")
    split_sections(card)
    body = card.split("---\n\n", 1)[1]
    between = re.sub(r"<!-- axion:start ([a-z-]+) -->.*?<!-- axion:end \1 -->", "", body, flags=re.DOTALL)
    assert between.strip() == ""
    assert not re.search(r"\{\{|\{%|None|Undefined|TODO", card)


@BOTH
def test_the_cards_figures_are_those_of_release_json(facts, form):
    changes = [
        (facts["parameters"], "total", 987_654, "**987,654 parameters**"),
        (facts["parameters"], "active", 876_543, "876,543 of them active"),
        (facts, "context", 4321, "4,321 tokens"),
        (facts, "version", "7.7", "version 7.7"),
        (facts, "base_model", "another/Base", "https://huggingface.co/another/Base"),
        (facts, "license", "apache-2.0", "Weights: APACHE-2.0"),
    ]
    if form == "native":
        changes += [
            (facts, "tag", "v7.7", f'revision = "{REPO_ID}-native", "v7.7"'),
            (facts["libraries"], "transformers", "9.8.7", "transformers==9.8.7"),
        ]
    else:
        changes += [(facts["sizes"], "axion1-v0.1-f16.gguf", 123_400_000, "| 123.4 MB |")]
    for place, key, value, text in changes:
        assert text not in render_card(facts), text
        place[key] = value
        assert text in render_card(facts), text


@BOTH
def test_the_card_of_a_dense_model_speaks_of_no_experts(facts, form):
    card = render_card(facts | {"family": "axiom-dense", "tied": True, "own_tokenizer": False})
    assert {"native": "transformers' own `llama`", "gguf": "The first one is exact"}[form] in card
    assert "xpert" not in card.partition("---\n\n")[2] and "DeepSeek" not in card
    assert "get_vocab_base_pre" not in card
    with pytest.raises(AxionError, match=f"mini-axion1 have no {form} export"):
        render_card(facts | {"family": "mini-axion1"})


@BOTH
def test_the_card_says_where_the_layer_of_multi_token_prediction_is(facts, form):
    told = {"native": "use_mtp=True", "gguf": "llama.cpp's `deepseek2` has no place for it"}[form]
    assert told not in render_card(facts) and told in render_card(facts | {"drafting_line": "a line"})


@pytest.mark.skipif(not hasattr(DeepseekV3Config, "get_mtp_config"), reason="this transformers has no MTP")
def test_the_native_cards_python_drafts(staged, make_release, tmp_path, monkeypatch, capsys):
    facts = json.loads((staged["native"].folder / "release.json").read_text(encoding="utf-8"))
    release = make_release(num_nextn_predict_layers=1, first_k_dense_replace=1)
    write_native(release, tmp_path)
    facts["drafting_line"] = drafting_line(release.config)
    snippet = blocks_of_code(render_card(facts), "python")[-1]
    monkeypatch.setattr(DeepseekV3ForCausalLM, "_keys_to_ignore_on_load_unexpected", None)  # restored after the test
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda repo, revision: asked.append((repo, revision)) or str(tmp_path)
    )
    values = {}
    exec(snippet, values)
    assert asked == [(facts["repo_id"], facts["tag"])]
    plain = values["model"].generate(**values["inputs"], max_new_tokens=40, do_sample=False)
    assert torch.equal(values["output"], plain)
    old = facts | {"libraries": facts["libraries"] | {"transformers": "5.9.0"}}
    assert drafting_line(release.config) not in render_card(old) and "5.15" in render_card(old)


@pytest.mark.parametrize("form", ["native"])
def test_a_missing_figure_is_an_error_that_names_it(facts, form):
    del facts["parameters"]["active"]
    with pytest.raises(AxionError, match="active"):
        render_card(facts)


def test_the_native_cards_python_runs_without_remote_code(staged, capsys):
    folder = staged["native"].folder
    (snippet,) = blocks_of_code((folder / "README.md").read_text(encoding="utf-8"), "python")
    assert "trust_remote_code" not in snippet
    loads = [node for node in ast.walk(ast.parse(snippet)) if getattr(node, "attr", "") == "from_pretrained"]
    assert len(loads) == 2 and snippet.count("revision=revision") == 2
    exec(snippet.replace(f'"{staged["native"].repo_id}"', repr(str(folder))), {})
    assert capsys.readouterr().out.strip() == "8"


def test_the_native_form_computes_the_same(staged):
    ours, theirs = open_release(RELEASE).model, AutoModelForCausalLM.from_pretrained(staged["native"].folder).eval()
    ids = torch.arange(11, 200).unsqueeze(0)
    with torch.no_grad():
        expected, actual = ours(ids).logits, theirs(ids).logits
    assert (expected - actual).abs().max() <= 1e-5 * expected.abs().max()


def test_every_gguf_file_is_what_its_name_says(staged):
    for dtype, (_, file_type) in DTYPES.items():
        reader = GGUFReader(staged["gguf"].folder / f"axion1-v0.1-{dtype}.gguf")
        assert reader.get_field("general.file_type").contents() == file_type
        assert reader.get_field("general.base_model.0.repo_url").contents() == f"https://huggingface.co/{REPO_ID}"


def test_the_gguf_cards_commands_name_files_that_are_there(staged):
    form = staged["gguf"]
    card = (form.folder / "README.md").read_text(encoding="utf-8")
    commands = "".join(blocks_of_code(card, "bash"))
    quoted = re.findall(rf"{re.escape(form.repo_id)}:(\w+)", commands)
    assert len(quoted) == 2 and {tag.lower() for tag in quoted} <= set(DTYPES)
    linked = re.findall(r"\]\(\./(\S+)\)", card)
    assert set(linked) == {name for name in files_in(form.folder) if name.endswith(".gguf")}
    (snippet,) = blocks_of_code(card, "python")
    compile(snippet, "card", "exec")
    assert f'"{form.repo_id}", "axion1-v0.1-f32.gguf"' in snippet


def test_the_same_release_gives_the_same_folders(staged, tmp_path):
    for form, again in zip(staged.values(), build_exports(RELEASE, REPO_ID, tmp_path), strict=True):
        assert (again.folder / "release.json").read_bytes() == (form.folder / "release.json").read_bytes()


def test_a_damaged_release_is_not_exported(tmp_path):
    release = shutil.copytree(RELEASE, tmp_path / "axion1-v0.1")
    (release / "config.json").write_text("{}")
    with pytest.raises(AxionError, match=r"config\.json does not match its sha256 in release\.json"):
        build_exports(release, REPO_ID, tmp_path / "exports")
    assert not (tmp_path / "exports").exists()
