"""The results of the performance benchmarks: figures of contenders, their ratios, and tables of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from axion.machine import machine
from benchmarks.report import number
from benchmarks.workers import Gone, Worker, interleave


@dataclass(frozen=True)
class Contender:
    """One engine with one setting."""

    name: str
    """The worker's first argument."""
    group: str
    """Contenders of one group differ only in settings; the fastest represents the group."""
    threads: int


@dataclass(frozen=True)
class Figure:
    """The speed of one contender at one kind of work on one model size."""

    name: str
    group: str
    threads: int
    size: str
    kind: str
    values: tuple[float, ...]
    """Tokens per second, one per round. The n-th values of all figures of a size and kind are from the same round."""
    peak_bytes: int = 0
    """The process's peak memory so far."""

    @property
    def median(self) -> float:
        return median(self.values)


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    sizes: tuple[str, ...] = ("v0.1", "M", "L")
    other_families: tuple[str, ...] = ("dense", "mini")
    """Further sizes, of which only training and generation are measured."""
    rounds: int = 3
    seconds: float = 1.0
    """How long each training measurement takes at least; generation takes a third of that."""
    batch: int = 8
    window: int = 512
    compiled: bool = True
    """Whether to include contenders under torch.compile, each of which takes up to a minute to start."""
    every_setting: bool = True
    """Whether to try all contenders of a group, or the first alone."""
    whole_steps: int = 200
    """Steps of each run of the complete `axion train`."""
    whole_rounds: int = 3
    contexts: tuple[int, ...] = (128, 512, 2048)
    starts: int = 3
    """How often each command is started."""
    threads: tuple[int, ...] = tuple(sorted({1, machine()["cores"]}))
    """Targets apply to the last one."""


FULL = Effort()
QUICK = Effort(
    sizes=("v0.1",),
    other_families=(),
    rounds=1,
    seconds=0.05,
    batch=2,
    window=128,
    compiled=False,
    every_setting=False,
    whole_steps=8,
    whole_rounds=1,
    contexts=(128,),
    starts=1,
    threads=(1,),
)
"""A smoke test; its figures are meaningless."""


def figures_of(parts: Mapping[str, Mapping], name: str = "figures") -> dict[str, list[Figure]]:
    """Processor → the figures of its results for one part of the benchmark."""
    return {processor: read_figures(part[name]) for processor, part in parts.items()}


def read_figures(records: Iterable[Mapping]) -> list[Figure]:
    """Read figures from parsed JSON."""
    return [Figure(**{**record, "values": tuple(record["values"])}) for record in records]


def best(figures: Iterable[Figure], groups: Sequence[str], **wanted: object) -> Figure | None:
    """The figure with the highest median among these groups and with these fields, or None."""
    matching = [
        figure
        for figure in figures
        if figure.group in groups and all(getattr(figure, name) == value for name, value in wanted.items())
    ]
    return max(matching, key=lambda figure: figure.median, default=None)


def ratios(ours: Figure, theirs: Figure) -> tuple[float, ...]:
    """How many times faster ours is, round by round."""
    return tuple(mine / other for mine, other in zip(ours.values, theirs.values, strict=True))


class Field:
    """The contenders that are measured together: each is tried once, and the fastest of each group stay.

    Args:
        size: the model size, which labels the figures.
        kinds: of work; a contender stays if it is its group's fastest in any of them.
        seconds: how long each measurement takes at least.
        say: receives a line of progress for each step.
    """

    def __init__(self, size: str, kinds: Sequence[str], seconds: float, say: Callable[[str], None]) -> None:
        self._size, self._kinds, self._seconds, self._say = size, kinds, seconds, say
        self._workers: dict[Contender, Worker] = {}
        self.tried: list[Figure] = []
        """Each contender's one trial, which only serves to choose the settings."""
        self.told: dict[Contender, dict] = {}
        """What each contender reported when it was ready."""
        self.left_out: list[str] = []
        """The contenders that could not be measured, and why."""

    def __enter__(self) -> "Field":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close()

    def enter(self, contender: Contender, start: Callable[[], Worker]) -> None:
        """Start a contender, try it once, and stop those that another of the same group beats."""
        try:
            worker = start()
        except Gone as why:
            self.leave_out(contender, why)
            return
        self._workers[contender], self.told[contender] = worker, worker.ready
        try:
            answers = {kind: worker.ask(kind, self._seconds) for kind in self._kinds if kind in worker.ready["kinds"]}
        except Gone as why:
            self._workers.pop(contender).close()
            self.leave_out(contender, why)
            return
        self.tried += [self._figure(contender, kind, [answer]) for kind, answer in answers.items()]
        shown = ", ".join(f"{figure.kind} {number(figure.median)}" for figure in self.tried[-len(answers) :])
        self._say(f"{self._size}, {describe(contender)}: {shown} tokens/s")
        for beaten in set(self._workers) - leaders(self.tried):
            self._workers.pop(beaten).close()

    def leave_out(self, contender: Contender, why: object) -> None:
        """Note why a contender is not measured."""
        self.left_out.append(f"{self._size}, {describe(contender)}: {why}")
        self._say(f"{self.left_out[-1]} (left out)")

    def run(self, rounds: int) -> list[Figure]:
        """Measure the remaining contenders in turn."""
        names = {describe(contender): contender for contender in self._workers}
        workers = {name: self._workers[contender] for name, contender in names.items()}
        self._say(f"{self._size}: {rounds} rounds of {len(workers)} contenders")
        answers, gone = interleave(workers, self._kinds, rounds, self._seconds)
        for name, why in gone.items():
            self.leave_out(names[name], why)
        return [self._figure(names[name], kind, values) for (name, kind), values in answers.items()]

    def _figure(self, contender: Contender, kind: str, answers: Sequence[Mapping]) -> Figure:
        speeds = tuple(answer["tokens"] / answer["seconds"] for answer in answers)
        peak = max(answer["peak_bytes"] for answer in answers)
        return Figure(**asdict(contender), size=self._size, kind=kind, values=speeds, peak_bytes=peak)


def to_try(contenders: Iterable[Contender], effort: Effort) -> list[Contender]:
    """The contenders that are tried: all, or the first of each group."""
    if effort.every_setting:
        return list(contenders)
    first: dict[str, Contender] = {}
    for contender in contenders:
        first.setdefault(contender.group, contender)
    return list(first.values())


def describe(contender: Contender | Figure) -> str:
    """Name and threads."""
    return f"{contender.name}, {contender.threads} thread{'s' * (contender.threads != 1)}"


def leaders(figures: Iterable[Figure]) -> set[Contender]:
    """The contenders that are the fastest of their group in some kind of work."""
    fastest: dict[tuple[str, str], Figure] = {}
    for figure in figures:
        key = figure.group, figure.kind
        if key not in fastest or figure.median > fastest[key].median:
            fastest[key] = figure
    return {Contender(figure.name, figure.group, figure.threads) for figure in fastest.values()}


def speed_table(
    measured: Mapping[str, Sequence[Figure]], labels: Mapping[str, str], by: str, names: Mapping[str, str] | None = None
) -> str:
    """A Markdown table of speeds, median and range: a row for each contender, a column for each processor.

    Args:
        measured: processor → its figures.
        labels: a contender's name → its label; names without one are shown as they are.
        by: the field of Figure that groups the rows, "size" or "kind", shown in the first column.
        names: a value of that field → what the column shows for it; by default, the value itself.
    """
    rows: dict[tuple[str, str, int], dict[str, str]] = {}
    for processor, figures in measured.items():
        for figure in figures:
            group: str = getattr(figure, by)
            key = names[group] if names else group, labels.get(figure.name, figure.name), figure.threads
            rows.setdefault(key, {})[processor] = _cell(figure)
    groups = list(dict.fromkeys(group for group, _, _ in rows))
    cells = {key: rows[key] for key in sorted(rows, key=lambda key: groups.index(key[0]))}
    return processor_table([by if names is None else "work", "", "threads"], cells, measured)


def processor_table(heads: Sequence[str], rows: Mapping[tuple, Mapping[str, str]], processors: Iterable[str]) -> str:
    """A Markdown table whose last columns are processors.

    Args:
        heads: the heads of the first columns; numbers, which are right-aligned, have one of "threads" and "context".
        rows: the first cells of a row → processor → its cell; processors without one get a dash.
    """
    names = list(processors)
    aligned = [" ---: " if head in {"threads", "context"} else " --- " for head in heads] + [" ---: "] * len(names)
    lines = [f"| {' | '.join([*heads, *names])} |".replace("|  |", "| |"), f"|{'|'.join(aligned)}|"]
    for first, cells in rows.items():
        shown = [*map(str, first), *(cells.get(name, "–") for name in names)]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _cell(figure: Figure) -> str:
    if len(figure.values) == 1:
        return number(figure.median)
    return f"{number(figure.median)} ({number(min(figure.values))} to {number(max(figure.values))})"
