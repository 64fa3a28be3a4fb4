"""Spaces, and the jobs and buckets of rented machines."""

import pytest
from huggingface_hub import CommitOperationAdd, Volume
from huggingface_hub.errors import BucketNotFoundError, HfHubHTTPError, JobNotFoundError

from tests.hub import accounts

SPACE = "someone/Axion-demo"
README = b"---\ntitle: Axion\nsdk: gradio\nsdk_version: 6.31.0\napp_file: app.py\n---\n"


@pytest.fixture
def space(api) -> str:
    api.create_repo(
        SPACE,
        repo_type="space",
        space_sdk="gradio",
        space_variables=[{"key": "MODEL", "value": "someone/Axion"}],
        space_secrets=[{"key": "KEY", "value": "a secret", "description": "of ours"}],
    )
    return SPACE


def push(api) -> None:
    files = {"README.md": README, "app.py": b"import gradio\n"}
    api.create_commit(
        SPACE, [CommitOperationAdd(*file) for file in files.items()], commit_message="x", repo_type="space"
    )


def test_a_space_builds_and_then_runs(hub, api, space):
    assert api.get_space_runtime(space).stage == "NO_APP_FILE"
    push(api)
    stages = [api.get_space_runtime(space).stage for _ in range(4)]
    assert stages == ["BUILDING"] * hub.store.polls_to_run + ["RUNNING"] * (4 - hub.store.polls_to_run)
    info = api.space_info(space)
    assert info.sdk == "gradio" and info.runtime.hardware == "cpu-basic" and info.card_data.title == "Axion"
    assert api.restart_space(space).stage == "BUILDING"
    assert api.pause_space(space).stage == "PAUSED"


def test_a_space_may_fail_to_build(hub, api, space):
    hub.store.builds_end_as = "BUILD_ERROR"
    push(api)
    assert [api.get_space_runtime(space).stage for _ in range(3)][-1] == "BUILD_ERROR"


def test_variables_can_be_read_but_not_secrets(hub, api, space):
    assert api.get_space_variables(space)["MODEL"].value == "someone/Axion"
    assert api.add_space_variable(space, "REVISION", "v0.1")["REVISION"].value == "v0.1"
    assert set(api.delete_space_variable(space, "MODEL")) == {"REVISION"}
    api.add_space_secret(space, "OTHER", "also secret")
    secrets = api.get_space_secrets(space)
    assert set(secrets) == {"KEY", "OTHER"} and secrets["KEY"].description == "of ours"
    assert "secret" not in repr(hub.snapshot()["repos"][f"spaces/{space}"]["space"]["variables"])
    api.delete_space_secret(space, "KEY")
    assert hub.snapshot()["repos"][f"spaces/{space}"]["space"]["secrets"] == ["OTHER"]
    with pytest.raises(HfHubHTTPError):
        api.add_space_variable(space, "A", "b", token=accounts.STRANGER)


def test_hardware_and_sleep(hub, api, space):
    push(api)
    asked = api.request_space_hardware(space, "t4-medium", sleep_time=600)
    assert (asked.hardware, asked.requested_hardware, asked.sleep_time) == (None, "t4-medium", 600)
    assert [api.get_space_runtime(space).hardware for _ in range(3)][-1] == "t4-medium"
    assert api.set_space_sleep_time(space, 60).sleep_time == 60
    volume = Volume(type="model", source="someone/Axion", mount_path="/model", read_only=True)
    api.set_space_volumes(space, [volume])
    assert api.get_space_runtime(space).volumes == [volume]
    api.delete_space_volumes(space)


def test_a_free_account_is_asked_to_pay(hub, api):
    hub.store.free.add("someone")
    assert api.whoami()["isPro"] is False
    with pytest.raises(HfHubHTTPError, match="Subscribe to PRO") as refused:
        api.create_repo(SPACE, repo_type="space", space_sdk="gradio")
    assert refused.value.response.status_code == 402
    api.create_repo("someone/static", repo_type="space", space_sdk="static")
    for number in (1, 2):
        api.create_repo(f"someone/zero-{number}", repo_type="space", space_sdk="gradio", space_hardware="zero-a10g")
    for hardware in ("zero-a10g", "t4-small"):
        with pytest.raises(HfHubHTTPError) as refused:
            api.create_repo(SPACE, repo_type="space", space_sdk="gradio", space_hardware=hardware)
        assert refused.value.response.status_code == 402
    with pytest.raises(HfHubHTTPError):
        api.request_space_hardware("someone/zero-1", "cpu-basic")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("colorFrom: mauve", '"colorFrom" must be one of'),
        (f"short_description: {'x' * 61}", "less than or equal to 60 characters"),
        ("python_version: 3.12", '"python_version" must be a string'),
        ("sdk: flask", '"sdk" must be one of'),
    ],
)
def test_a_wrong_readme_of_a_space_is_refused(hub, api, space, line, message):
    content = (README.decode().removesuffix("---\n") + line + "\n---\n").encode()
    with pytest.raises(ValueError, match=message):
        api.create_commit(space, [CommitOperationAdd("README.md", content)], commit_message="x", repo_type="space")


def test_a_job_is_stored_as_requested(hub, api):
    volume = Volume(type="bucket", source="someone/runs", mount_path="/runs")
    job = api.run_job(
        image="python:3.12",
        command=["python", "-m", "publish"],
        secrets={"HF_TOKEN": "a secret"},
        flavor="a10g-small",
        timeout="2h",
        volumes=[volume],
        env={"A": "b"},
    )
    assert job.status.stage == "RUNNING" and job.url == f"{hub.url}/jobs/someone/{job.id}"
    assert api.inspect_job(job_id=job.id).volumes == [volume]
    assert [found.id for found in api.list_jobs()] == [job.id]
    (spec,) = hub.snapshot()["jobs"]
    assert spec["timeoutSeconds"] == 7200 and spec["flavor"] == "a10g-small" and spec["dockerImage"] == "python:3.12"
    assert "a secret" not in repr(api.inspect_job(job_id=job.id))
    api.cancel_job(job_id=job.id)
    assert api.inspect_job(job_id=job.id).status.stage == "CANCELED"
    with pytest.raises(JobNotFoundError):
        api.inspect_job(job_id="0" * 24)
    with pytest.raises(HfHubHTTPError):
        api.run_job(image="python:3.12", command=["true"], namespace="team", token=accounts.STRANGER)


def test_a_script_is_passed_to_its_job_in_a_bucket(hub, api, tmp_path):
    script = tmp_path / "train.py"
    script.write_text("print('training')\n")
    api.run_uv_job(str(script), dependencies=["torch"], flavor="cpu-basic", namespace="someone")
    (spec,) = hub.snapshot()["jobs"]
    assert spec["command"] == ["uv", "run", "--with", "torch", "/data/train.py"]
    (volume,) = spec["volumes"]
    files = hub.store.buckets[volume["source"]]["files"]
    assert files == {f"{volume['path']}/train.py": script.read_bytes()}


def test_buckets(hub, api):
    api.create_bucket("someone/runs", private=True)
    assert api.create_bucket("someone/runs", private=True, exist_ok=True).bucket_id == "someone/runs"
    api.batch_bucket_files("someone/runs", add=[(b"1,2\n", "a/metrics.csv")])
    assert [entry.path for entry in api.list_bucket_tree("someone/runs", recursive=True)] == ["a/metrics.csv"]
    assert api.bucket_info("someone/runs").size == 4
    with pytest.raises(BucketNotFoundError):
        api.bucket_info("someone/runs", token=accounts.STRANGER)
