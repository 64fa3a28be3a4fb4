"""Publishing on rented hardware: the same command as a Job of the Hugging Face Hub.

One private bucket of the user holds the project's files and the runs' checkpoints. The Job reads the files from an
archive that is named by its content, so that what is submitted later cannot change them, and writes `runs/` into the
bucket. Its own disk is wiped when it ends or its time is up: the same command again then goes on with the run.
"""

import gzip
import hashlib
import io
import re
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import JobInfo, JobStage, Volume, get_token
from huggingface_hub.errors import HfHubHTTPError

from axion.errors import AxionError
from axion.files import ROOT
from publish.check.lint import scan_text_files
from publish.check.secrets import find_secrets
from publish.hub import client as hub
from publish.manifest import files_in

_LOCAL_FILES = re.compile(r"data\.(sources\.\w+\.)?(test_)?files=")
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
"""What of the project goes to the Job, without caches and hidden files."""
RECIPES = "recipes"
"""The folder, beside the project's own, of recipes that were given as YAML files."""

BUCKET = "axion"
FLAVOR = "cpu-upgrade"
TIMEOUT = "2h"
"""The Hub's own, half an hour, ends a training run in its middle."""
IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"
"""What the Hub's own client takes for Python."""
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
    "UV_TORCH_BACKEND": "auto",  # the build of torch that the hardware needs, a tenth of the size without a GPU
    "PYTHONUNBUFFERED": "1",  # so that the log shows each step when it ends
}
ACTIVE = (JobStage.RUNNING, JobStage.SCHEDULING)


@dataclass(frozen=True)
class JobOrder:
    """What the user asked for."""

    name: str
    """The recipe's name, by which a second Job for the same run is noticed."""
    arguments: tuple[str, ...]
    """What follows `python -m publish` in the Job: the command line without --on."""
    flavor: str = FLAVOR
    """The hardware; `hf jobs hardware` lists what there is."""
    timeout: str = TIMEOUT
    """A number and s, m, h or d; then the Job is stopped."""


def submit(order: JobOrder) -> JobInfo:
    """Send the project's files and start the Job. It does not wait for it.

    Returns:
        The Job; its `url` and `id` are for the user.

    Raises:
        AxionError: the command can't run there, a Job for this run is at work, or the Hub refused.
    """
    check_order(order)
    user = hub.whoami()["name"]
    api = hub.api()
    with hub.hub_errors(f"the Job for {order.name}"):
        if job := find_active(order.name, user):
            raise AxionError(
                f"a Job for {order.name} is at work, and two would write to the same run: wait for {job.url}, "
                f"or end it with: hf jobs cancel {job.id}"
            )
        with tempfile.TemporaryDirectory(prefix="axion-job-") as scratch:
            arguments = stage(Path(scratch), order.arguments)
            archive = pack(Path(scratch))
        bucket = f"{user}/{BUCKET}"
        source = _upload(archive, bucket)
        try:
            # Not patiently: a Job that was started although the answer got lost would be started twice.
            return api.run_job(
                image=IMAGE,
                command=["bash", "-c", SCRIPT, "publish", *arguments],
                env=ENVIRONMENT | {"SOURCE": source},
                secrets={"HF_TOKEN": get_token()},
                flavor=order.flavor,
                timeout=order.timeout,
                labels=_labels(order.name),
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
                "Jobs are paid by the minute: add credit at https://huggingface.co/settings/billing"
            ) from None


def describe(job: JobInfo) -> str:
    """Where the Job is and how to watch it, in lines for the user."""
    return (
        f"{job.url} on {job.flavor}\n"
        f"Watch it:  hf jobs logs --follow {job.id}\n"
        "If its time is up before it ends, the same command again goes on with the run."
    )


def check_order(order: JobOrder) -> None:
    """Check what can be checked before anything is sent.

    Raises:
        AxionError: the timeout is none, or an argument names something that only this machine has.
    """
    if not re.fullmatch(r"\d+(\.\d+)?[smhd]", order.timeout) or float(order.timeout[:-1]) == 0:
        raise AxionError(f"--timeout {order.timeout!r} is no time; write a number and s, m, h or d, such as {TIMEOUT}")
    for argument in order.arguments:
        if _LOCAL_FILES.match(argument.removeprefix("--set=")):
            raise AxionError(
                "a Job has none of this machine's files: leave data.files out, and it takes the Hub's data"
            )
        if argument.partition("=")[0] == "--from":
            raise AxionError("a Job has none of this machine's runs: leave --from out, and it trains or goes on")
        if any(find_secrets(argument)):
            raise AxionError("there is a token among the arguments: take it out, the Job gets yours as a secret")


def find_active(name: str, user: str) -> JobInfo | None:
    """The Job for a run that waits or runs at this moment."""
    jobs = hub.patiently(lambda: list(hub.api().list_jobs(status=list(ACTIVE), labels=_labels(name), namespace=user)))
    wanted = _labels(name).items()
    return next((job for job in jobs if job.status.stage in ACTIVE and wanted <= (job.labels or {}).items()), None)


def _labels(name: str) -> dict[str, str]:
    return {"axion": re.sub(r"[^A-Za-z0-9_-]", "-", name)}  # what the Hub takes in a label


def stage(folder: Path, arguments: Sequence[str]) -> list[str]:
    """Copy the project's files to a new folder, with the recipes that are given as YAML files.

    Returns:
        The arguments as they must be there.

    Raises:
        AxionError: something in the files must not leave this machine.
    """
    for name in SOURCE:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    there = []
    for argument in arguments:
        path = Path(argument)
        if path.suffix in (".yaml", ".yml") and path.is_file():
            argument = f"{RECIPES}/{path.name}"
            (folder / RECIPES).mkdir(exist_ok=True)
            shutil.copyfile(path, folder / argument)
        there.append(argument)
    if problems := scan_text_files(folder):
        raise AxionError(f"the project's files: {problems[0]}")
    return there


def pack(folder: Path) -> bytes:
    """A folder as a tar.gz that is the same, byte for byte, for the same content."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime = entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o644
        return entry

    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for name in files_in(folder):
            archive.add(folder / name, name, filter=plain)
    return packed.getvalue()


def _upload(archive: bytes, bucket: str) -> str:
    """Put the archive into the bucket, which is made where it is missing; returns the archive's name there."""
    api = hub.api()
    hub.patiently(lambda: api.create_bucket(bucket, private=True, exist_ok=True))
    if not hub.patiently(lambda: api.bucket_info(bucket)).private:
        raise AxionError(
            f"the bucket {bucket} is public: make it private, since checkpoints of private models go there"
        )
    name = f"{hashlib.sha256(archive).hexdigest()[:16]}.tar.gz"
    # A folder of a bucket is there as long as a file is in it, and only what is there can be mounted.
    hub.patiently(lambda: api.batch_bucket_files(bucket, add=[(archive, f"source/{name}"), (b"", "runs/.keep")]))
    return name
