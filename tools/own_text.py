"""Records what a run on one's own text gave, for the README: `python -m tools.own_text runs/grimm`.

The run's figures and one continuation of held-out text go to docs/own-text.json, from which `tools.tables` writes the
README's block.
"""

import json
import sys
import textwrap
from pathlib import Path

from axion.errors import AxionError
from axion.release import open_release
from axion.training.metrics import METRICS_FILE, read_metrics
from axion.training.runfile import FINAL, read_run_file
from benchmarks.report import DOCS
from publish.markdown import code_block
from publish.release.measure import TEXT_SAMPLING, continue_text
from publish.release.templates import duration

FILE = DOCS / "own-text.json"
WIDTH = 118


def record(run: Path) -> dict:
    """The figures of a finished run of a model of text, and what it writes after the first of its openings.

    Raises:
        AxionError: the run is not finished, or its model is not of text.
    """
    info, release, metrics = read_run_file(run), open_release(run / FINAL), read_metrics(run / METRICS_FILE)
    if not (info.get("finished") and release.openings):
        raise AxionError(f"{run} is not a finished run on text; train one with --text")
    data = info["data"]
    return {
        "files": [file["name"] for file in data["files"]],
        "bytes": sum(data[side]["bytes"] for side in ("train", "validation")),
        "held_out": {name: data["validation"][name] for name in ("documents", "bytes")},
        "parameters": release.model.num_parameters(),
        "tokens": info["tokens"],
        "seconds": info["seconds"],
        "bits_per_byte": float(metrics["val_bits_per_byte"][-1]),
        "machine": info["machine"],
        "opening": release.openings[0],
        "output": continue_text(release, release.openings[0]),
        "temperature": TEXT_SAMPLING.temperature,
        "seed": TEXT_SAMPLING.seed,
    }


def readme_block(recorded: dict) -> str:
    """The README's lines about it.

    Args:
        recorded: what `record` returned.
    """
    machine, held_out = recorded["machine"], recorded["held_out"]
    threads = "1 thread" if machine["torch_threads"] == 1 else f"{machine['torch_threads']} threads"
    said = (
        f"Measured with {threads} on {machine['processor']}: in {duration(recorded['seconds'])}, "
        f"{recorded['parameters']:,} parameters read {recorded['tokens'] / 1e6:.1f} million tokens of "
        f"{', '.join(recorded['files'])} ({recorded['bytes'] / 1e6:.1f} MB) and reached "
        f"**{recorded['bits_per_byte']:.3f} bits per byte** on the {held_out['documents']} held-out documents "
        f"({held_out['bytes'] / 1e3:.0f} kB). At temperature {recorded['temperature']:g} with seed {recorded['seed']}, "
        "the model continues the opening of one of them, which ends at ▸:"
    )
    paragraphs = f"{recorded['opening']} ▸{recorded['output']}".rstrip().split("\n")
    written = "\n".join(textwrap.fill(paragraph, WIDTH) for paragraph in paragraphs)
    return f"{textwrap.fill(said, WIDTH)}\n\n{code_block(written)}\n"


def main() -> None:
    (run,) = sys.argv[1:]
    FILE.write_text(json.dumps(record(Path(run)), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
