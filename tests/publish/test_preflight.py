"""Requests that are refused before any work, each with one line. The Hub is local."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from axion.cli import run
from axion.errors import AxionError
from publish import pipeline
from publish.cli import app
from publish.pipeline import PublishRequest
from tests.publish.publications import REPO_ID, SYNTHETIC, run_steps


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["{recipe}"], "--repo-id"),
        (["{recipe}", "--repo-id", "no name"], "not a valid name"),
        (["{recipe}", "--repo-id", "name"], "has no owner; write USER/name"),
        (["nosuch", "--repo-id", REPO_ID, "--dry-run"], "no recipe named 'nosuch'"),
        (["{recipe}", "--repo-id", REPO_ID, "--dry-run", "--set", "nokey=1"], "nokey"),
        (["{recipe}", "--repo-id", REPO_ID, "--token", "secret"], "--token"),
        (["{recipe}", "--repo-id", REPO_ID, "--skip-train"], "no Hugging Face token"),
        (["{recipe}", "--repo-id", REPO_ID, "--branch", "b", "--pr"], "cannot be combined"),
        (["{recipe}", "--repo-id", REPO_ID, "--timeout", "2h"], "add --on jobs"),
        (["{recipe}", "--repo-id", REPO_ID, "--on", "jobs", "--dry-run"], "costs money even if"),
        *[
            (["{recipe}", "--repo-id", REPO_ID, "--dry-run", "--branch", name], "is not allowed")
            for name in ("", "main", "a b", "a..b", "a/", "-a", "a.lock")
        ],
        (["{recipe}", "--repo-id", REPO_ID, "--dry-run", "--branch", "v0.1"], "is ambiguous"),
        (["{recipe}", "--repo-id", REPO_ID, "--dry-run", "--from", "nowhere"], "nowhere"),
        (["check", "nowhere"], "nowhere"),
        (["verify", "nowhere"], "has no owner"),
        (["space", "--repo-id", "name"], "has no owner"),
    ],
)
def test_a_user_error_is_one_line_and_exit_code_2(here, recipe_file, capsys, arguments, line):
    code = run(app, [argument.format(recipe=recipe_file) for argument in arguments])
    printed = capsys.readouterr()
    assert code == 2 and printed.out == "" and "secret" not in printed.err
    assert line in printed.err and len(printed.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"repo_id": f"someone/{'x' * 90}", "exports": True},
            "--exports makes the name .*x-native' is not a valid name",
        ),
        (
            {"repo_id": f"someone/{'x' * 90}", "space": True},
            "--space makes the name .*x-playground' is not a valid name",
        ),
        ({"skip_train": False, "overrides": ("data.test_files=missing.jsonl",)}, "no file missing.jsonl"),
        ({"skip_train": False, "overrides": ("data.files=missing.jsonl",)}, "no file missing.jsonl"),
        (
            {"skip_train": False, "overrides": ("data.test_files=broken.jsonl",)},
            "line 2: no field 'answer'",
        ),
    ],
)
def test_requests_that_would_fail_hours_later_are_refused_at_once(unbuilt, request_for, monkeypatch, changes, line):
    (unbuilt / "broken.jsonl").write_text('{"question": "?", "answer": "1"}\n{"question": "?"}\n')
    monkeypatch.setattr(pipeline, "_find_run", None)  # calling it would fail
    with pytest.raises(AxionError, match=line):
        run_steps(request_for(**changes))


def test_a_tokenizer_that_llama_cpp_cannot_read_is_refused_at_once(unbuilt, request_for, monkeypatch):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: index for index, token in enumerate([*letters, "</s>"])}, []))
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>").save_pretrained(unbuilt / "bare")
    monkeypatch.setattr(pipeline, "_find_run", None)  # calling it would fail
    request = request_for(overrides=(*SYNTHETIC, "tokenizer={kind: hub, id: bare}"), exports=True)
    with pytest.raises(AxionError, match=r"llama\.cpp does not support this tokenizer; .*; omit --exports, or train"):
        run_steps(request)


def test_exports_of_a_model_that_no_other_program_runs_are_refused_at_once(here, monkeypatch):
    monkeypatch.setattr(pipeline, "_find_run", None)  # calling it would fail
    with pytest.raises(AxionError, match="transformers' llama cannot run this model: num_shared_layers is 2; it must"):
        run_steps(PublishRequest("mini-axion1-debug", REPO_ID, dry_run=True, exports=True))


def test_the_rights_to_all_repositories_are_checked_before_anything_is_pushed(here, request_for, the_hub, monkeypatch):
    def check_access(repo_id, repo_type="model", **options):
        if repo_id.endswith(refused):
            raise AxionError(f"no access to {repo_id}")
        return False

    monkeypatch.setattr(pipeline.hub, "check_access", check_access)
    for refused, changes in (("-GGUF", {"exports": True}), ("-playground", {"space": True})):
        with pytest.raises(AxionError, match=f"no access to {REPO_ID}{refused}"):
            run_steps(request_for(dry_run=False, **changes))
    monkeypatch.undo()


def test_a_free_account_is_refused_the_space_before_the_release_is_pushed(here, command, the_hub, capsys):
    the_hub.store.free.add("someone")
    assert run(app, [*command, "--space"]) == 2
    assert "need a paid plan" in (error := capsys.readouterr().err) and "add --hardware zero-a10g" in error
    assert run(app, [*command, "--hardware", "zero-a10g"]) == 2
    assert "--hardware is the Space's: add --space" in capsys.readouterr().err
    assert run(app, [*command, "--static"]) == 2
    assert "--static is the Space's: add --space" in capsys.readouterr().err
    assert run(app, [*command, "--space", "--static", "--hardware", "zero-a10g"]) == 2
    assert "omit --hardware or --static" in capsys.readouterr().err
    assert the_hub.snapshot()["repos"] == {}
