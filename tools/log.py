"""Appends an entry to docs/log.md, the diary of experiments: `python -m tools.log release|teaching|speed|quality`.

An entry keeps the figures of its day: they are taken from the saved measurements when it is written, and stay as they
are. Words may be added by hand; figures come from here.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from axion.files import read_json, write_text
from benchmarks import quality
from benchmarks.performance import target_rows
from benchmarks.processors import read_results
from benchmarks.report import DOCS, number
from tools.tables import RELEASE, read

LOG = DOCS / "log.md"
MARKER = "<!-- The newest entry is below. -->\n"


def release_entry() -> tuple[str, str]:
    """What the bundled release can and cannot do."""
    info = read(RELEASE / "release.json")
    results, training = info["results"], info["training"]
    direct, thought = (results[task]["scores"] for task in ("arithmetic", "arithmetic_reasoning"))
    loss, test = results["gsm8k_validation"], results["gsm8k_test"]

    def shares(scores: list[dict]) -> str:
        return ", ".join(
            f"{100 * each['accuracy']:.1f}% ({each['digits']} digit{'s' * (each['digits'] > 1)}, {each['language']})"
            for each in scores
        )

    return (
        f"{info['name']}: it adds, but not step by step",
        f"Trained on {training['tokens'] / 1e6:.1f} million tokens ({training['date']}): "
        f"{loss['bits_per_byte']:.3f} bits per byte on held-out GSM8K. Sums and differences answered at once: "
        f"{shares(direct)}.\n\n"
        f"What does not work: the same sums with the reasoning first, {shares(thought)}. The reasoning that it was "
        "taught adds digit by digit without rewriting what is left, and the model loses its place. Of GSM8K's test "
        f"problems it solves {test['correct']} of {test['total']:,}.",
    )


def teaching_entry() -> tuple[str, str]:
    """What fine-tuning the bundled release on conversations gave."""
    report = read(DOCS / "teaching.json")
    before, after = (report["nats_per_token"][name] for name in ("before", "after"))
    asked, answered = (" ".join(message["content"].split())[:60] for message in report["dialogues"][2][:2])
    return (
        f"{report['base']} taught to chat: the loss falls, the answers make no sense",
        f"{report['conversations']['train']:,} short conversations, {report['training']['epochs']} epochs "
        f"({report['date']}): the loss on held-out ones falls from {before:.2f} to {after:.2f} nats per token. Still "
        f"no answer is right, and it forgets its sums: asked “{asked}”, it answers “{answered} …”. "
        "All dialogues are in the README.",
    )


def speed_entry() -> tuple[str, str]:
    """The targets of speed that were missed, by processor."""
    lines = [
        f"- {where}: {row.name}, {number(row.median)} {row.unit} (target {row.target})"
        for where, report in read_results().items()
        for row in target_rows(report["parts"])
        if row.met is False
    ]
    return "Targets of speed that were missed", "\n".join(lines or ["None."])


def quality_entry() -> tuple[str, str]:
    """The tables of ablations, losers included."""
    text = quality.block(read_json(quality.RESULTS))
    return "Ablations of v0.1's recipe", text.strip().replace("### ", "**").replace(" a run\n", " a run**\n")


ENTRIES: dict[str, Callable[[], tuple[str, str]]] = {
    "release": release_entry,
    "teaching": teaching_entry,
    "speed": speed_entry,
    "quality": quality_entry,
}


def entry(name: str, date: str) -> str:
    """A dated entry, as Markdown."""
    title, text = ENTRIES[name]()
    return f"## {date}: {title}\n\n{text}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="+", choices=ENTRIES, metavar="NAME", help=f"some of {', '.join(ENTRIES)}")
    options = parser.parse_args(arguments)
    today, text = datetime.now(UTC).date().isoformat(), LOG.read_text(encoding="utf-8")
    for name in options.names:
        text = text.replace(MARKER, f"{MARKER}\n{entry(name, today)}", 1)
    write_text(LOG, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
