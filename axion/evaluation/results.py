"""Measured results as rows of a table, the same for the terminal, the page and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from axion.errors import AxionError, one_line

LANGUAGES = {"en": "English", "pt": "Portuguese"}
LOAD_SETS = {
    "together": "all of it together",
    "validation": "held-out documents",
    "arithmetic": "arithmetic",
}
"""The sets of documents over which expert load is measured: name in the results → label."""

EARLIER_TASKS = {"gsm8k_validation": "validation"}
"""Names of tasks and of sets of documents in the results of releases up to v0.1 → current names."""

TEXTS: Mapping[str, str] = {
    "bits_per_byte": "{data}, held-out documents: bits per byte",
    "nats_per_token": "{data}, held-out documents: loss in nats per token",
    "validation_note": "{documents} documents, {tokens} tokens predicted",
    "with_interval": "{note}; 95% interval {low} to {high}",
    "trained_on": "{note}; the model was trained on them",
    "prose": "{data}, {language}: bits per byte",
    "sums": "sums and differences, {digits}, {language}",
    "sums_reasoning": "sums and differences, reasoning first, {digits}, {language}",
    "phrasings": "{operation} as people ask for them, {digits}, {language}",
    "long_sums": "{operation} of two to ten digits, {language}",
    "typed_carelessly": "{label}, typed carelessly",
    "operation_+": "sums",
    "operation_-": "differences",
    "operation_*": "products",
    "operation_/": "quotients",
    "calibration": "arithmetic as people ask for it: expected calibration error",
    "calibration_note": "{answers} answers, stated probability {stated} on average, {accuracy} right",
    "stories": "one-step stories, {kind}, {language}",
    "kind_gain": "gain",
    "kind_loss": "loss",
    "kind_change unknown": "what changed",
    "kind_start unknown": "what was there first",
    "kind_comparison": "comparison",
    "kind_more and fewer": "more and fewer",
    "kind_part and whole": "part and whole",
    "kind_groups": "groups",
    "kind_sharing": "sharing",
    "kind_times as many": "times as many",
    "events": "problems of {steps}, {language}",
    "one_step": "{steps} step",
    "many_steps": "{steps} steps",
    "singleop": "{data}, problems of one step that people wrote, {language}",
    "dialogues": "replies in conversations, {turn}, {language}",
    "turn_problem": "problem",
    "turn_follow-up": "follow-up question",
    "turn_correction": "correction",
    "turn_why": "question why",
    "turn_small talk": "small talk",
    "turn_unknowable": "what the model cannot know",
    "reasoning_first": "{label}, reasoning first",
    "one_digit": "{digits} digit",
    "many_digits": "{digits} digits",
    **{f"language_{code}": name for code, name in LANGUAGES.items()},
    "gsm8k_test": "{data}, test set: exact match",
    "gsm8k_majority": "{data}, test set: exact match, most frequent of {samples} answers",
    "drawn_note": "{note}; drawn at temperature {temperature}, a single answer is right in {single}",
    "accuracy": "{data}: accuracy",
    "accuracy_of": "{data}, {phenomenon}: accuracy",
    "accuracy_by_length": "{data}: accuracy by the loss per character",
    "answers_bits": "{data}, right answers: bits per byte",
    "chance_note": "{note}; chance {chance}",
    "sample_note": "{note}; a fixed sample",
    "interval_note": "95% interval {low} to {high}",
    "wrong_note": "{note}; wrong answers {bits}",
    "score_note": "{correct} of {total}; 95% interval {low} to {high}",
    "load": "load of an expert, times its fair share: {set}",
    **{f"set_{name}": label for name, label in LOAD_SETS.items()},
    "load_value": "{lowest} to {highest}",
    "load_note": "least to most used of {layers} layers with {experts} experts each",
    "load_note_looped": "least to most used in {layers} passes through layers with {experts} experts each",
    "worth": "what an expert is worth, layer {layer}: loss added without it",
    "worth_value": "{lowest} to {highest} nats per token",
    "worth_of": "E{expert} {nats} ({low} to {high})",
    "worth_of_one": "E{expert} {nats}",
    "evenness": "entropy of the experts' load, {layer}",
    "layer": "layer {layer}",
    "layer_loop": "layer {layer}, loop {loop}",
    "no_dead": "100% where it is even; no dead experts",
    "dead": "100% where it is even; dead experts: {experts}",
    "loss_one_loop": "{loops} loop: loss in nats per token",
    "loss_loops": "{loops} loops: loss in nats per token",
    "problems_one_loop": "{loops} loop: problems of several steps",
    "problems_loops": "{loops} loops: problems of several steps",
    "gain_note": "{note}; {gain} points above one loop ({low} to {high})",
    "loss_note": "{bits} bits per byte; {speed} tokens/s read",
    "one_thread": "{threads} thread, {processor}",
    "many_threads": "{threads} threads, {processor}",
    "decode": "generation, one text at a time",
    "prefill": "reading a full window",
    "speed_value": "{speed} tokens/s",
    "memory": "peak memory of a process that generates",
    "memory_value": "{memory} MB",
    "memory_note": "{libraries} MB of it Python and its libraries",
    "one_loop_note": "{note}; {loops} loop",
    "loops_note": "{note}; {loops} loops",
}
"""The English texts of the rows. A translation has the same keys, and in each text the same fields. It may also have
names for kinds of data, as `data_word problems`."""


class NumberFormat(Protocol):
    """How a language writes numbers."""

    def number(self, value: float, decimals: int = 0) -> str:
        """A number with this many decimals."""
        ...

    def percent(self, share: float, decimals: int = 0) -> str:
        """A share of 1 in per cent, with this many decimals."""
        ...


class EnglishNumbers:
    """1,319 and 97.6%."""

    def number(self, value: float, decimals: int = 0) -> str:
        """A number with this many decimals."""
        return f"{value:,.{decimals}f}"

    def percent(self, share: float, decimals: int = 0) -> str:
        """A share of 1 in per cent, with this many decimals."""
        return f"{share:.{decimals}%}"


ENGLISH = EnglishNumbers()


@dataclass(frozen=True)
class Row:
    """One measured value."""

    task: str
    label: str
    """What was measured."""
    value: str
    """The value, with its unit where it has one."""
    note: str
    """Counts, interval or conditions of the measurement; may be empty."""
    command: str
    """The command that repeats the measurement."""


class MalformedResults(AxionError):
    """Results that do not have the form that `axion.evaluation` returns, as in a release that someone else made."""


def skipped_tasks(results: dict) -> dict[str, str]:
    """Task → why it was not measured. Raises MalformedResults."""
    return {task: result["skipped"] for task, result in with_current_names(results).items() if "skipped" in result}


def measured(results: dict, task: str) -> dict | None:
    """A task's result; None if it was not measured. Raises MalformedResults."""
    result = with_current_names(results).get(task)
    return None if result is None or "skipped" in result else result


def with_current_names(results: dict) -> dict:
    """Results in the form of `axion.evaluation.evaluate`.

    Releases up to v0.1 were measured on GSM8K alone: their results don't name the data, but the tasks do.

    Raises:
        MalformedResults: they are not a dict of dicts.
    """
    if not isinstance(results, dict):
        raise MalformedResults("the results are malformed: they must be an object with one object per task")
    for task, result in results.items():
        if not isinstance(result, dict):
            raise MalformedResults(f"the results of {one_line(task)} are malformed: they must be an object")
    earlier = {"data": "GSM8K", "dataset": "openai/gsm8k"}
    renamed = {EARLIER_TASKS.get(task, task): result for task, result in results.items()}
    for task in ("validation", "gsm8k_test"):
        if (result := renamed.get(task)) is not None and "skipped" not in result:
            renamed[task] = earlier | result
    if (load := renamed.get("expert_load")) is not None:
        renamed["expert_load"] = {EARLIER_TASKS.get(name, name): part for name, part in load.items()}
    return renamed


def result_rows(results: dict, texts: Mapping[str, str] = TEXTS, numbers: NumberFormat = ENGLISH) -> list[Row]:
    """The rows of all tasks that were measured.

    Args:
        texts: a translation of TEXTS.
        numbers: formats the numbers in values and notes.

    Raises:
        MalformedResults: the results do not have the form that `axion.evaluation` returns.
    """
    rows, language = [], _Language(texts, numbers)
    for task, lay_out in _LAYOUTS.items():
        if (result := measured(results, task)) is None:
            continue
        try:
            command, loops = str(result.get("command", "")), result.get("num_loops")
            for label, value, note in lay_out(result, language):
                if loops is not None and task != "loops":
                    note = language.fill("one_loop_note" if loops == 1 else "loops_note", note=note, loops=loops)
                rows.append(Row(task, label, value, note, command))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise MalformedResults(f"the results of {task} are malformed: {one_line(repr(error))}") from None
    return rows


def digits_label(digits: int, texts: Mapping[str, str] = TEXTS) -> str:
    """For example "1 digit", "2 digits"."""
    return texts["one_digit" if digits == 1 else "many_digits"].format(digits=digits)


def megabytes(count: float) -> str:
    """A number of bytes in megabytes."""
    return TEXTS["memory_value"].format(memory=ENGLISH.number(count / 1e6, 1))


Cells = tuple[str, str, str]
"""Label, value, note."""


@dataclass(frozen=True)
class _Language:
    texts: Mapping[str, str]
    numbers: NumberFormat

    def fill(self, key: str, **fields: object) -> str:
        return self.texts[key].format(**fields)


def _validation(result: dict, language: _Language) -> list[Cells]:
    count = language.numbers.number
    note = language.fill("validation_note", documents=count(result["documents"]), tokens=count(result["tokens"]))
    data = ", ".join(language.texts.get(f"data_{name}", name) for name in result["data"].split(", "))
    labels = {name: language.fill(name, data=data) for name in ("bits_per_byte", "nats_per_token")}
    notes = {"bits_per_byte": _with_interval(note, result, language), "nats_per_token": note}
    return [(label, count(result[name], 3), notes[name]) for name, label in labels.items()]


def _with_interval(note: str, result: dict, language: _Language) -> str:
    """A note that also has the interval of bits per byte; releases up to v0.1 have none."""
    if (interval := result.get("interval")) is None:
        return note
    low, high = (language.numbers.number(bound, 3) for bound in interval)
    return language.fill("with_interval", note=note, low=low, high=high)


def _prose(result: dict, language: _Language) -> list[Cells]:
    count, rows = language.numbers.number, []
    for score in result["scores"]:
        note = language.fill("validation_note", documents=count(score["documents"]), tokens=count(score["tokens"]))
        note = _with_interval(note, score, language)
        if score["trained_on"]:
            note = language.fill("trained_on", note=note)
        label = language.fill("prose", data=score["data"], language=language.texts[f"language_{score['language']}"])
        rows.append((label, count(score["bits_per_byte"], 3), note))
    return rows


def _arithmetic(result: dict, language: _Language, text: str = "sums") -> list[Cells]:
    return [
        (
            language.fill(
                text,
                digits=digits_label(score["digits"], language.texts),
                language=language.texts[f"language_{score['language']}"],
            ),
            *_score(score, language),
        )
        for score in result["scores"]
    ]


def _asked(result: dict, language: _Language, task: str) -> list[Cells]:
    """The scores of a task that asks in both ways, by whatever describes their problems."""
    rows = []
    for score in result["scores"]:
        fields = {"language": language.texts[f"language_{score['language']}"], "data": result.get("data")}
        for name in ("operation", "kind"):
            if name in score:
                fields[name] = language.texts[f"{name}_{score[name]}"]
        if "digits" in score:
            fields["digits"] = digits_label(score["digits"], language.texts)
        if (steps := score.get("steps")) is not None:
            fields["steps"] = language.fill("one_step" if steps == 1 else "many_steps", steps=steps)
        label = language.fill(task, **fields)
        if score.get("typing") == "careless":
            label = language.fill("typed_carelessly", label=label)
        if score["reasoning"]:
            label = language.fill("reasoning_first", label=label)
        rows.append((label, *_score(score, language)))
    return rows


def _gsm8k_test(result: dict, language: _Language) -> list[Cells]:
    return [(language.fill("gsm8k_test", data=result["data"]), *_score(result, language))]


def _gsm8k_majority(result: dict, language: _Language) -> list[Cells]:
    number, percent = language.numbers.number, language.numbers.percent
    value, note = _score(result, language)
    settings = {"temperature": number(result["temperature"], 1), "single": percent(result["single_accuracy"], 1)}
    label = language.fill("gsm8k_majority", data=result["data"], samples=number(result["samples"]))
    return [(label, value, language.fill("drawn_note", note=note, **settings))]


def _dialogues(result: dict, language: _Language) -> list[Cells]:
    return [
        (
            language.fill(
                "dialogues",
                turn=language.texts[f"turn_{score['kind']}"],
                language=language.texts[f"language_{score['language']}"],
            ),
            *_score(score, language),
        )
        for score in result["scores"]
    ]


def _calibration(result: dict, language: _Language) -> list[Cells]:
    number, percent = language.numbers.number, language.numbers.percent
    note = language.fill(
        "calibration_note",
        answers=number(result["answers"]),
        stated=percent(result["stated"], 1),
        accuracy=percent(result["accuracy"], 1),
    )
    low, high = (number(bound, 3) for bound in result["error_interval"])
    note = language.fill("with_interval", note=note, low=low, high=high)
    return [(language.texts["calibration"], number(result["error"], 3), note)]


def _choices(result: dict, language: _Language) -> list[Cells]:
    """Accuracy and bits per byte of a task that chooses among given texts; then the accuracy of each group."""
    number, percent, data = language.numbers.number, language.numbers.percent, result["data"]

    def marked(note: str) -> str:
        return language.fill("sample_note", note=note) if result["is_sample"] else note

    def score(figures: dict) -> tuple[str, str]:
        value, note = _score(figures, language)
        return value, marked(language.fill("chance_note", note=note, chance=percent(figures["chance"], 1)))

    rows = [(language.fill("accuracy", data=data), *score(result))]
    if "accuracy_by_length" in result:
        low, high = (percent(bound, 1) for bound in result["interval_by_length"])
        note = marked(language.fill("interval_note", low=low, high=high))
        rows.append((language.fill("accuracy_by_length", data=data), percent(result["accuracy_by_length"], 1), note))
    note = ""
    if (interval := result["bits_interval"]) is not None:  # of more than one question
        low, high = (number(bound, 3) for bound in interval)
        note = language.fill("interval_note", low=low, high=high)
        note = marked(language.fill("wrong_note", note=note, bits=number(result["bits_per_byte_wrong"], 3)))
    rows.append((language.fill("answers_bits", data=data), number(result["bits_per_byte"], 3), note))
    return rows + [
        (language.fill("accuracy_of", data=data, phenomenon=part["phenomenon"]), *score(part))
        for part in result.get("scores", ())
    ]


def _experts(result: dict, language: _Language) -> list[Cells]:
    """What the experts of each layer are worth, and how even their load is."""
    number, rows = language.numbers.number, []
    for layer in dict.fromkeys(each["layer"] for each in result["worth"]):
        worth = [each for each in result["worth"] if each["layer"] == layer]
        notes = []
        for each in worth:
            fields = {"expert": each["expert"], "nats": number(each["nats_per_token"], 3)}
            if each["interval"] is None:
                notes.append(language.fill("worth_of_one", **fields))
            else:
                low, high = (number(bound, 3) for bound in each["interval"])
                notes.append(language.fill("worth_of", **fields, low=low, high=high))
        lowest, highest = (number(end(each["nats_per_token"] for each in worth), 3) for end in (min, max))
        value = language.fill("worth_value", lowest=lowest, highest=highest)
        rows.append((language.fill("worth", layer=layer), value, ", ".join(notes)))
    looped = len({row["layer"] for row in result["rows"]}) < len(result["rows"])
    for row in result["rows"]:
        layer = language.fill("layer_loop" if looped else "layer", layer=row["layer"], loop=row["loop"])
        dead = ", ".join(f"E{expert}" for expert in row["dead"])
        note = language.fill("dead", experts=dead) if dead else language.texts["no_dead"]
        rows.append((language.fill("evenness", layer=layer), language.numbers.percent(row["entropy"], 1), note))
    return rows


def _expert_load(result: dict, language: _Language) -> list[Cells]:
    number = language.numbers.number
    note = "load_note_looped" if result.get("num_loops", 1) > 1 else "load_note"
    return [
        (
            language.fill("load", set=language.texts[f"set_{name}"]),
            language.fill("load_value", lowest=number(load["lowest"], 3), highest=number(load["highest"], 3)),
            language.fill(note, layers=len(load["layers"]), experts=len(load["layers"][0])),
        )
        for name in LOAD_SETS
        if (load := result.get(name)) is not None
    ]


def _loops(result: dict, language: _Language) -> list[Cells]:
    number, rows = language.numbers.number, []

    def label(what: str, loops: int) -> str:
        return language.fill(f"{what}_one_loop" if loops == 1 else f"{what}_loops", loops=loops)

    for each in result["scores"]:
        bits, speed = number(each["bits_per_byte"], 3), number(each["tokens_per_second"])
        note = language.fill("loss_note", bits=bits, speed=speed)
        rows.append((label("loss", each["loops"]), number(each["nats_per_token"], 3), note))
    for each in result["scores"]:
        if (problems := each.get("problems")) is not None:
            value, note = _score(problems, language)
            if problems.get("gain_interval") is not None:
                gain, low, high = (100 * share for share in (problems["gain"], *problems["gain_interval"]))
                points = {"gain": number(gain, 1), "low": number(low, 1), "high": number(high, 1)}
                note = language.fill("gain_note", note=note, **points)
            rows.append((label("problems", each["loops"]), value, note))
    return rows


def _speed(result: dict, language: _Language) -> list[Cells]:
    number = language.numbers.number
    fastest = max(result["by_threads"], key=lambda run: run["decode_tokens_per_second"])
    threads, processor = fastest["threads"], result["machine"]["processor"]
    note = language.fill("one_thread" if threads == 1 else "many_threads", threads=threads, processor=processor)
    rows = [
        (
            language.texts[name],
            language.fill("speed_value", speed=number(fastest[f"{name}_tokens_per_second"])),
            note,
        )
        for name in ("decode", "prefill")
    ]
    if memory := result["memory"]:
        peak, libraries = (number(memory[name] / 1e6, 1) for name in ("peak_bytes", "libraries_bytes"))
        value = language.fill("memory_value", memory=peak)
        rows.append((language.texts["memory"], value, language.fill("memory_note", libraries=libraries)))
    return rows


_LAYOUTS = {
    "validation": _validation,
    "prose": _prose,
    "arithmetic": _arithmetic,
    "arithmetic_reasoning": partial(_arithmetic, text="sums_reasoning"),
    **{task: partial(_asked, task=task) for task in ("phrasings", "long_sums")},
    "calibration": _calibration,
    **{task: partial(_asked, task=task) for task in ("stories", "events", "singleop")},
    "dialogues": _dialogues,
    "gsm8k_test": _gsm8k_test,
    "gsm8k_majority": _gsm8k_majority,
    "blimp": _choices,
    "arc_easy": _choices,
    "expert_load": _expert_load,
    "experts": _experts,
    "loops": _loops,
    "speed": _speed,
}


def _score(score: dict, language: _Language) -> tuple[str, str]:
    def count(points: float) -> str:  # shares of a point are given for equally likely choices
        return language.numbers.number(points, 0 if float(points).is_integer() else 2)

    low, high = (language.numbers.percent(bound, 1) for bound in score["interval"])
    counts = language.fill(
        "score_note", correct=count(score["correct"]), total=count(score["total"]), low=low, high=high
    )
    return language.numbers.percent(score["accuracy"], 1), counts
