"""Publishing as a Job: the command and files sent to the Hub, and what is refused before that."""

import io
import os
import subprocess
import sys
import tarfile

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from axion.errors import AxionError
from axion.recipe import load_recipe
from publish import jobs
from publish.jobs import JobRequest, describe, submit
from publish.manifest import files_in

ARGUMENTS = ("axion1-v0.1", "--repo-id", "someone/Axion1-350k-A250k", "--set", "training.epochs=1")
RECIPE = load_recipe("axion1-v0.1")
REQUEST = JobRequest(RECIPE, ARGUMENTS)
BUCKET = "someone/axion"


@pytest.fixture
def few_files(monkeypatch):
    """A small project, so that archives are small and do not change during the tests."""
    monkeypatch.setattr(jobs, "SOURCE", ("LICENSE", "requirements.txt"))


def only_job(hub) -> dict:
    [job] = hub.store.jobs.values()
    return job


def test_a_job_runs_the_same_command(hub, few_files):
    job = submit(REQUEST)
    spec = only_job(hub)["spec"]
    assert spec["command"] == ["bash", "-c", jobs.SCRIPT, "publish", *ARGUMENTS]
    assert spec["arguments"] == []
    assert spec["flavor"] == "cpu-upgrade"
    assert spec["timeoutSeconds"] == 2 * 3600
    assert spec["labels"]["axion"] == "axion1-v0-1"
    assert f"{hub.url}/jobs/someone/{job.id} on cpu-upgrade" in describe(job)
    assert f"hf jobs logs --follow {job.id}" in describe(job)
    assert hub.surprises == []


def test_the_token_is_passed_only_as_a_secret(hub, few_files):
    job = submit(REQUEST)
    spec = only_job(hub)["spec"]
    assert spec.pop("secrets") == {"HF_TOKEN": hub.token}
    assert hub.token not in str(spec) + describe(job)
    assert not any(hub.token.encode() in content for content in hub.store.buckets[BUCKET]["files"].values())


def test_runs_are_in_the_bucket_so_that_a_second_job_resumes(hub, few_files):
    submit(REQUEST)
    source, runs = only_job(hub)["spec"]["volumes"]
    assert runs == {"type": "bucket", "source": BUCKET, "path": "runs", "mountPath": "/runs", "readOnly": False}
    assert source == {"type": "bucket", "source": BUCKET, "path": "source", "mountPath": "/source", "readOnly": True}
    only_job(hub)["stage"] = "ERROR"  # it timed out
    submit(JobRequest(RECIPE, ARGUMENTS, flavor="t4-small", timeout="1.5d"))
    first, second = (job["spec"] for job in hub.store.jobs.values())
    assert second["volumes"] == first["volumes"]
    assert second["environment"] == first["environment"]  # the same files give the same archive
    assert (second["flavor"], second["timeoutSeconds"]) == ("t4-small", 36 * 3600)


def test_the_bucket_is_private_and_has_the_whole_project(hub):
    submit(REQUEST)
    bucket, environment = hub.store.buckets[BUCKET], only_job(hub)["spec"]["environment"]
    assert bucket["private"]
    assert set(bucket["files"]) == {f"source/{environment['SOURCE']}", "runs/.keep"}
    with tarfile.open(fileobj=io.BytesIO(bucket["files"][f"source/{environment['SOURCE']}"])) as archive:
        files = set(archive.getnames())
    assert {"requirements.txt", "publish/cli.py", "axion/cli/__init__.py", "configs/axion1-v0.1.yaml", "app.py"} < files
    assert {"model_cards/axion1.md.j2", "publish/release/assets/tokenizer.py", "playground/server/page.py"} < files
    assert not [name for name in files if "__pycache__" in name or name.startswith(("tests", "runs", "data", "."))]


def test_a_public_bucket_is_refused(hub, few_files):
    submit(REQUEST)
    only_job(hub)["stage"] = "COMPLETED"
    hub.store.buckets[BUCKET]["private"] = False
    with pytest.raises(AxionError, match="the bucket someone/axion is public"):
        submit(REQUEST)
    assert len(hub.store.jobs) == 1


def test_two_jobs_never_write_to_the_same_run(hub, few_files):
    job = submit(REQUEST)
    with pytest.raises(AxionError, match=f"a Job for axion1-v0.1 is active.*hf jobs cancel {job.id}"):
        submit(REQUEST)
    submit(JobRequest(load_recipe("axion1-v0.1", ["name=other"]), ("other", "--repo-id", "someone/other")))
    assert len(hub.store.jobs) == 2


def test_a_lost_response_starts_no_second_job(hub, few_files):
    hub.fail("reset after", "POST /api/jobs/*")
    with pytest.raises(AxionError, match="cannot be reached"):
        submit(REQUEST)
    with pytest.raises(AxionError, match="is active"):
        submit(REQUEST)
    assert len(hub.store.jobs) == 1


def test_an_error_while_packing_is_not_blamed_on_the_hub(hub, few_files, monkeypatch):
    monkeypatch.setattr(jobs, "pack", lambda folder: {}["a fault of ours"])
    with pytest.raises(KeyError):
        submit(REQUEST)


def test_payment_errors_are_explained(hub, few_files, monkeypatch):
    response = httpx2.Response(402, request=httpx2.Request("POST", hub.url))

    def refuse(*arguments, **named):
        raise HfHubHTTPError("Payment Required", response=response)

    monkeypatch.setattr(HfApi, "run_job", refuse)
    with pytest.raises(AxionError, match="billed by the minute: add credit"):
        submit(REQUEST)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"timeout": "soon"}, "'soon' is not a duration"),
        ({"timeout": "0h"}, "'0h' is not a duration"),
        ({"timeout": "30"}, "'30' is not a duration"),
        ({"arguments": (*ARGUMENTS, "--from", "runs/mine")}, "cannot read runs of this machine"),
        ({"arguments": (*ARGUMENTS, "hf_" + "q7Zx" * 9)}, "the arguments contain a token"),
    ],
)
def test_options_that_a_job_does_not_support_are_refused_before_anything_is_sent(hub, changes, wrong):
    with pytest.raises(AxionError, match=wrong) as caught:
        submit(JobRequest(**{"recipe": RECIPE, "arguments": ARGUMENTS} | changes))
    assert "q7Zx" not in str(caught.value)
    assert not hub.calls("POST *")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("data.files=[a.jsonl]", "the gsm8k source of the recipe names a.jsonl"),
        ("data.test_files=b.jsonl", "the gsm8k source of the recipe names b.jsonl"),
        ("data.sources=[{kind: text, files: [c.txt]}]", "the text source of the recipe names c.txt"),
        ("data.sources=[{kind: chat, hub_id: a/b, local_files: [{name: d.jsonl, sha256: ab}]}]", "names d.jsonl"),
    ],
)
def test_a_recipe_that_reads_local_files_is_refused_before_anything_is_sent(hub, override, named):
    with pytest.raises(AxionError, match=f"a Job cannot read files of this machine.*{named}"):
        submit(JobRequest(load_recipe("axion1-v0.1", [override]), ARGUMENTS))
    assert not hub.calls("POST *")


def test_without_a_token_nothing_is_sent(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(AxionError, match="no Hugging Face token"):
        submit(REQUEST)
    assert not hub.calls("POST *")


def test_a_recipe_given_as_a_file_is_uploaded(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\n")
    folder = tmp_path / "source"
    folder.mkdir()
    assert jobs.copy_project(folder, [str(recipe), "--private"]) == ["recipes/mine.yaml", "--private"]
    assert (folder / "recipes" / "mine.yaml").read_text() == "name: mine\n"


@pytest.mark.slow
def test_the_script_runs_the_command_on_the_files_next_to_the_runs(tmp_path):
    """The Job's own script with its three absolute paths moved, and a `uv` that only prints its arguments."""
    for name in ("files", "source", "runs", "bin"):
        (tmp_path / name).mkdir()
    jobs.copy_project(tmp_path / "files", ())
    (tmp_path / "source" / "packed.tar.gz").write_bytes(jobs.pack(tmp_path / "files"))
    uv, python = tmp_path / "bin" / "uv", tmp_path / "bin" / "python"
    uv.write_text('#!/bin/sh\necho "uv $* in $(pwd)"\n')
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for program in (uv, python):
        program.chmod(0o755)
    script = jobs.SCRIPT
    for place in ("/source", "/runs", "/axion"):
        script = script.replace(f" {place}", f" {tmp_path}{place}")
    command = ["bash", "-c", script, "publish", "check", "no such folder"]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    own = {"PATH": f"{tmp_path / 'bin'}:{kept['PATH']}", "SOURCE": "packed.tar.gz"}
    done = subprocess.run(command, cwd=tmp_path, env=kept | own, capture_output=True, text=True)
    assert done.stdout.startswith(f"uv pip install --quiet --system -r requirements.txt in {tmp_path}/axion")
    assert done.returncode == 2
    assert "no such folder is " in done.stderr  # passed as one argument to the real command line
    assert (tmp_path / "axion" / "runs").resolve() == tmp_path / "runs"
    names = files_in(tmp_path / "files")
    assert all((tmp_path / "axion" / name).read_bytes() == (tmp_path / "files" / name).read_bytes() for name in names)
