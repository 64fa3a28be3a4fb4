"""Evaluate a finished run. The results are stored beside it, and reused while weights, data and code are the same."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from axion.checksums import identify, remembered_sha256
from axion.data.format import prompt
from axion.data.recipe import DataRecipe
from axion.errors import AxionError
from axion.evaluation import evaluate as evaluation
from axion.evaluation.answers import complete
from axion.evaluation.results import skipped_tasks, with_current_names
from axion.evaluation.subject import NotAvailable, Subject, with_copies
from axion.families import has_experts
from axion.files import parse_yaml, read_json, write_json
from axion.inference.chat import Conversation, can_chat
from axion.inference.routing import expert_favourites
from axion.inference.sampling import Sampling
from axion.inference.stream import stream
from axion.recipe import Recipe, load_recipe
from axion.release import Release, open_release
from publish.manifest import HELD_OUT, read_manifest
from publish.release.facts import read_run
from publish.release.fingerprint import code_fingerprint, fingerprint
from publish.release.heldout import NUM_DOCUMENTS, held_out_texts

RESULTS_FILE = "evaluation.json"
SAMPLE_PROMPTS = (
    prompt("Quanto é 47 + 38?"),
    prompt("Tom has 12 apples. He buys 15 more and gives 7 to Ana. How many apples does Tom have now?", reasoning=True),
)
"""The prompts of a card's sample outputs, for a model that was trained on problems."""
THINKING_PROMPTS = (
    prompt("Quanto é 47 + 38?", reasoning=None),
    prompt("Tom has 12 apples. He buys 15 more. How many apples does Tom have now?", reasoning=None),
)
"""The same for a model that chooses between answering at once and thinking first."""
SAMPLE_TOKENS = 120
TEXT_SAMPLING = Sampling(temperature=0.8, top_p=0.95, seed=1, max_new_tokens=SAMPLE_TOKENS)
"""How a model of text continues openings: the likeliest words alone repeat themselves."""
TEXT_SAMPLES = 2
QUESTIONS = ("Quem é você?", "What is your name?", "Qual é a capital do Brasil?")
"""What a model that was taught to chat is asked for the sample outputs on its card."""


def measure(run: Path, recipe: Recipe, did: Callable[[str], None]) -> dict:
    """Evaluate a run, reusing valid results of its `evaluation.json`.

    Tasks that could not be measured before are tried again. All other results are kept unchanged, including the speed.

    The data and its split are those that the run was trained with; the recipe only gives the local copies.

    Args:
        run: the folder of a finished run.
        recipe: `data.files` and `data.test_files` are local copies of the data.
        did: called with a summary of what was done.

    Returns:
        "results": task → results, or why it was skipped (see `axion.evaluation.evaluate`); of a looped model also
        "samples": what it writes after each prompt, see `write_samples`;
        "favourites": each expert's favourite tokens, see `axion.inference.routing.expert_favourites`; [] for a dense
            model;
        "held_out": some of the held-out documents, see `publish.release.heldout.held_out_texts`;
        "date": the day in UTC, ISO 8601; "files" and "test_files": the local data files, by name and sha256;
        "key": what the results depend on.

    Raises:
        AxionError: a data file is missing, invalid or not the one that the run was trained with, or there is no text
            over which the load of the experts can be measured, or for a dense model the loss.
    """
    trained = Recipe.model_validate(parse_yaml(read_run(run)["recipe"]))
    data = trained.data.with_local_copies(recipe.data)
    if notes := data.other_files():
        raise AxionError(notes[0])
    kept = _read_kept(run, key := _key(run, data))
    if kept and not skipped_tasks(kept["results"]):
        did("skipped: already measured")
        return kept
    release = Release(trained.name, run / "final")
    used = {"files": _identify(data.local_paths()), "test_files": _identify(data.test_paths())}
    results = evaluation.evaluate(release, data, progress=True, known=_known(kept))
    skipped = skipped_tasks(results)
    mixture = has_experts(release.config)
    if (needed := "expert_load" if mixture else "validation") in skipped:
        raise AxionError(f"a release needs the held-out text: {skipped[needed]}")
    note = f", not measured: {', '.join(skipped)}" if skipped else ""
    if kept and skipped.keys() == skipped_tasks(kept["results"]).keys():
        did(f"skipped: already measured{note}")
        return kept
    subject = Subject(release, data)
    favourites = _favourites(subject, "validation" not in skipped) if mixture else []
    today = datetime.now(UTC).date().isoformat()
    content = {"key": key, "date": today, **used, "results": results, "samples": write_samples(release)}
    content["favourites"] = favourites
    content["held_out"] = _held_out(subject)
    write_json(run / RESULTS_FILE, content)
    did(f"{len(results) - len(skipped)} tasks{note}")
    return content


def _favourites(subject: Subject, with_validation: bool) -> list[dict]:
    """Each expert's favourite tokens among those over which its load was measured."""
    documents = [ids for part in subject.load_documents(with_validation).values() for ids in part]
    return expert_favourites(subject.release.model, subject.release.tokenizer, documents)


def _held_out(subject: Subject) -> list[dict[str, str]]:
    try:
        return held_out_texts(subject.validation, subject.release.tokenizer)
    except NotAvailable:
        return []


def measure_missing(folder: Path, tasks: Sequence[str] | None = None, copies: Path | None = None) -> dict:
    """Run the tasks that are newer than an existing release.

    Args:
        folder: the release.
        tasks: see `axion.evaluation.evaluate.evaluate`.
        copies: where local copies of data lie, see `axion.evaluation.subject.COPIES`.

    Returns:
        The keys of release.json that change.

    Raises:
        AxionError: the release is broken.
    """
    info, release = read_manifest(folder), open_release(folder)
    known, today = with_current_names(info["results"]), datetime.now(UTC).date().isoformat()
    data = load_recipe(folder / "recipe.yaml").data
    results = evaluation.evaluate(release, data, tasks=tasks, progress=True, known=known, folder=copies)
    new = {task: result for task, result in results.items() if task not in known and "skipped" not in result}
    dates = info["measured"].get("later", {}) | dict.fromkeys(new, today)
    return {
        "results": info["results"] | new,
        "measured": info["measured"] | {"later": dates},
        "samples": write_samples(release),
    }


def missing_held_out(folder: Path, copies: Path | None = None) -> list[dict[str, str]]:
    """The held-out documents that an existing release can show and does not; none where the data is not available.

    Args:
        folder: the release.
        copies: see `measure_missing`.
    """
    if (folder / HELD_OUT).is_file() or (subject := _same_subject(folder, copies)) is None:
        return []
    return held_out_texts(subject.validation, subject.release.tokenizer)


def missing_favourites(folder: Path, copies: Path | None = None) -> list[dict]:
    """The experts' favourite tokens in their sentences, for an existing release that records them without; else [].

    Args:
        folder: the release.
        copies: see `measure_missing`.
    """
    recorded = (open_release(folder).trace or {}).get("favourites", [])
    bare = recorded and not any("context" in token for entry in recorded for token in entry["tokens"])
    if not bare or (subject := _same_subject(folder, copies)) is None:
        return []
    return _favourites(subject, with_validation=True)


def _same_subject(folder: Path, copies: Path | None) -> Subject | None:
    """A release and the data on which it was measured; None where that is not available."""
    recipe, release = load_recipe(folder / "recipe.yaml"), open_release(folder)
    measured = with_current_names(read_manifest(folder)["results"]).get("validation", {})
    subject = Subject(release, with_copies(recipe.data, copies) if copies else recipe.data)
    try:
        return subject if len(subject.validation) == measured.get("documents") else None
    except NotAvailable:
        return None


def write_samples(release: Release) -> list[dict]:
    """What a model writes: "prompt" and "output", one for each prompt.

    A model that was taught to chat answers QUESTIONS greedily, and a model of problems SAMPLE_PROMPTS, or
    THINKING_PROMPTS. A model of text continues openings of held-out text, sampled, with "temperature", "top_p" and
    "seed" beside them.
    """
    if can_chat(release.tokenizer):
        return [
            {"prompt": f"user: {asked}\nassistant: ", "output": answer_question(release, asked)} for asked in QUESTIONS
        ]
    if not release.openings:
        prompts = THINKING_PROMPTS if release.thinks else SAMPLE_PROMPTS
        texts = complete(release, prompts, SAMPLE_TOKENS)
        return [{"prompt": asked, "output": text} for asked, text in zip(prompts, texts, strict=True)]
    settings = {name: getattr(TEXT_SAMPLING, name) for name in ("temperature", "top_p", "seed")}
    return [
        {"prompt": opening, "output": continue_text(release, opening), **settings}
        for opening in release.openings[:TEXT_SAMPLES]
    ]


def answer_question(release: Release, question: str) -> str:
    """What a model that was taught to chat answers to a question, greedily."""
    sampling = Sampling(max_new_tokens=SAMPLE_TOKENS)
    return "".join(Conversation(release.model, release.tokenizer, release.name, sampling).ask(question))


def continue_text(release: Release, opening: str) -> str:
    """What a model of text writes after an opening, sampled with TEXT_SAMPLING."""
    steps = stream(release.model, release.tokenizer, opening, TEXT_SAMPLING)
    return "".join(step.text for step in steps if not step.is_prompt)


def _known(kept: dict) -> dict[str, dict]:
    """The stored results that are reused."""
    known = {task: result for task, result in kept.get("results", {}).items() if "skipped" not in result}
    if "validation" not in known:  # the expert load is measured on it too, once it is available
        known.pop("expert_load", None)
    return known


def _read_kept(run: Path, key: dict[str, str]) -> dict:
    """The stored results, if they are still valid; else {}."""
    try:
        content = read_json(run / RESULTS_FILE)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and content.get("key") == key else {}


def _key(run: Path, data: DataRecipe) -> dict[str, str]:
    """What the results depend on."""
    thinking = [THINKING_PROMPTS] if data.teaches_thinking else []
    return {
        "weights": remembered_sha256(run / "final" / "model.safetensors"),
        "data": fingerprint([data.settings(), _identify(data.local_paths()), _identify(data.test_paths())]),
        "measure": code_fingerprint("axion.evaluation.evaluate"),
        "samples": fingerprint(
            [SAMPLE_PROMPTS, SAMPLE_TOKENS, asdict(TEXT_SAMPLING), TEXT_SAMPLES, QUESTIONS, NUM_DOCUMENTS, *thinking]
        ),
    }


def _identify(files: Sequence[str]) -> list[dict[str, str]]:
    """Local files by name and sha256, never by path. A missing one is reported by its source."""
    return identify(file for file in files if Path(file).is_file())
