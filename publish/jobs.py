"""Publish on rented hardware: run the same command as a Job of the Hugging Face Hub.

A private bucket of the user holds the project's files and the checkpoints of runs. The Job reads the files from an
archive whose name is a hash of its content, so that later submissions cannot change it, and writes `runs/` to the
bucket. The Job's own disk is wiped when it ends or times out; the same command then resumes the run.
"""

import gzip
import hashlib
import io
import re
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import JobInfo, JobStage, Volume, get_token
from huggingface_hub.errors import HfHubHTTPError

from axion.data.sources import FileSource
from axion.errors import AxionError
from axion.recipe import Recipe
from axion.shipped import shipped
from publish.check.lint import scan_text_files
from publish.check.secrets import find_secrets
from publish.hub import client as hub
from publish.hub.errors import hub_errors, retry
from publish.manifest import files_in
from publish.scratch import scratch_folder

SOURCE = (
    "app.py",
    "axion",
    "configs",
    "LICENSE",
    "model_cards",
    "playground",
    "publish",
    "releases/axion1-v0.1",
    "requirements.txt",
)
"""The files of the project that the Job needs; caches and hidden files are left out."""
RECIPES = "recipes"
"""The folder for recipes that are given as YAML files."""

BUCKET = "axion"
FLAVOR = "cpu-upgrade"
TIMEOUT = "2h"
"""The Hub's default of 30 minutes is too short for training."""
IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"
"""The Hub client's default for Python Jobs."""
SCRIPT = """\
set -e
mkdir /axion
cd /axion
tar -xzf /source/$SOURCE
ln -s /runs runs
uv pip install --quiet --system -r requirements.txt
exec python -m publish "$@"
"""
ENVIRONMENT = {
    "UV_TORCH_BACKEND": "auto",  # the torch build for the hardware; without CUDA it is a tenth of the size
    "PYTHONUNBUFFERED": "1",  # so that the log shows each step as it completes
}
ACTIVE = (JobStage.RUNNING, JobStage.SCHEDULING)


@dataclass(frozen=True)
class JobRequest:
    """A Job to submit."""

    recipe: Recipe
    """Its name identifies another Job for the same run."""
    arguments: tuple[str, ...]
    """The arguments of `python -m publish` in the Job."""
    flavor: str = FLAVOR
    """The hardware; `hf jobs hardware` lists all flavors."""
    timeout: str = TIMEOUT
    """The Job is stopped after this time: a number followed by s, m, h or d."""


def submit(request: JobRequest) -> JobInfo:
    """Upload the project's files and start the Job, without waiting for it.

    Returns:
        The Job, with its `url` and `id`.

    Raises:
        AxionError: the command cannot run as a Job, a Job for this run is active, or the Hub refused.
    """
    check_request(request)
    user = hub.whoami()["name"]
    api, name = hub.api(), request.recipe.name
    what, bucket = f"the Job for {name}", f"{user}/{BUCKET}"
    with hub_errors(what):
        job = find_active(name, user)
    if job:
        raise AxionError(
            f"a Job for {name} is active, and two would write to the same run: wait for {job.url}, "
            f"or cancel it with `hf jobs cancel {job.id}`"
        )
    with scratch_folder("job") as scratch:
        arguments = copy_project(scratch, request.arguments)
        archive = pack(scratch)
    with hub_errors(what):
        source = _upload(archive, bucket)
        try:
            # Not retried: if only the response was lost, a retry would start a second Job.
            return api.run_job(
                image=IMAGE,
                command=["bash", "-c", SCRIPT, "publish", *arguments],
                env=ENVIRONMENT | {"SOURCE": source},
                secrets={"HF_TOKEN": get_token()},
                flavor=request.flavor,
                timeout=request.timeout,
                labels=_labels(name),
                volumes=[
                    Volume(type="bucket", source=bucket, path="source", mount_path="/source", read_only=True),
                    Volume(type="bucket", source=bucket, path="runs", mount_path="/runs", read_only=False),
                ],
                namespace=user,
            )
        except HfHubHTTPError as error:
            if error.response.status_code != 402:
                raise
            raise AxionError(
                "Jobs are billed by the minute: add credit at https://huggingface.co/settings/billing"
            ) from None


def describe(job: JobInfo) -> str:
    """Lines for the user: where the Job is and how to watch it."""
    return (
        f"{job.url} on {job.flavor}\n"
        f"Watch it:  hf jobs logs --follow {job.id}\n"
        "If it times out, run the same command again to resume."
    )


def check_request(request: JobRequest) -> None:
    """Check a request before anything is uploaded.

    Raises:
        AxionError: the timeout is invalid, or the recipe or an argument names something that only exists on this
            machine.
    """
    if not re.fullmatch(r"\d+(\.\d+)?[smhd]", request.timeout) or float(request.timeout[:-1]) == 0:
        raise AxionError(
            f"--timeout {request.timeout!r} is not a duration; write a number and s, m, h or d, such as {TIMEOUT}"
        )
    for source in request.recipe.data.sources:
        released = [file.name for file in source.local_files or ()] if isinstance(source, FileSource) else []
        if files := [*source.local_paths(), *source.test_paths(), *released]:
            raise AxionError(
                f"a Job cannot read files of this machine, but the {source.kind} source of the recipe names "
                f"{files[0]}: put the data on the Hub and name it as the source's hub_id"
            )
    for argument in request.arguments:
        if argument.partition("=")[0] == "--from":
            raise AxionError("a Job cannot read runs of this machine: remove --from to train or resume there")
        if any(find_secrets(argument)):
            raise AxionError("the arguments contain a token: remove it, the Job gets your token as a secret")


def find_active(name: str, user: str) -> JobInfo | None:
    """The scheduled or running Job for a run; None if there is none."""
    jobs = retry(lambda: list(hub.api().list_jobs(status=list(ACTIVE), labels=_labels(name), namespace=user)))
    wanted = _labels(name).items()
    return next((job for job in jobs if job.status.stage in ACTIVE and wanted <= (job.labels or {}).items()), None)


def _labels(name: str) -> dict[str, str]:
    return {"axion": re.sub(r"[^A-Za-z0-9_-]", "-", name)}  # the characters that the Hub allows in labels


def copy_project(folder: Path, arguments: Sequence[str]) -> list[str]:
    """Copy the project's files to a new folder, and the recipes that the arguments name by path.

    Returns:
        The arguments, with paths of recipes relative to the folder.

    Raises:
        AxionError: the files contain a secret or a local path.
    """
    for name in SOURCE:
        source, target = shipped(name), folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "_shipped"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    changed = []
    for argument in arguments:
        path = Path(argument)
        if path.suffix in (".yaml", ".yml") and path.is_file():
            argument = f"{RECIPES}/{path.name}"
            (folder / RECIPES).mkdir(exist_ok=True)
            shutil.copyfile(path, folder / argument)
        changed.append(argument)
    if problems := scan_text_files(folder):
        raise AxionError(f"the project's files: {problems[0]}")
    return changed


def pack(folder: Path) -> bytes:
    """A folder as a reproducible tar.gz: the same content gives the same bytes."""

    def normalize(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime = entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o644
        return entry

    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for name in files_in(folder):
            archive.add(folder / name, name, filter=normalize)
    return packed.getvalue()


def _upload(archive: bytes, bucket: str) -> str:
    """Upload the archive to the bucket, which is created if it does not exist; returns the archive's name."""
    api = hub.api()
    retry(lambda: api.create_bucket(bucket, private=True, exist_ok=True))
    if not retry(lambda: api.bucket_info(bucket)).private:
        raise AxionError(
            f"the bucket {bucket} is public: make it private, since it holds checkpoints of private models"
        )
    name = f"{hashlib.sha256(archive).hexdigest()[:16]}.tar.gz"
    # A bucket has no empty folders, and only existing folders can be mounted.
    retry(lambda: api.batch_bucket_files(bucket, add=[(archive, f"source/{name}"), (b"", "runs/.keep")]))
    return name
