"""Rules for the model card: front matter that the Hub accepts, text without gaps, snippets that can be run."""

import ast
import math
import re
from collections.abc import Iterator
from datetime import date, datetime
from urllib.parse import unquote

from huggingface_hub.errors import HFValidationError
from huggingface_hub.repocard_data import model_index_to_eval_results
from huggingface_hub.utils import validate_repo_id

from axion.errors import one_line
from publish.check.folder import PARSE_ERRORS, Folder, Problem, parse_snippet, shown
from publish.check.vocabulary import LICENSES, PIPELINE_TAGS, languages
from publish.manifest import ADAPTER_CONFIG
from publish.markdown import (
    PYTHON,
    Fence,
    MarkerError,
    fences,
    line_of,
    release_text,
    split_front_matter,
    split_sections,
    without_code,
)

CARD = "README.md"
_LEFTOVER = re.compile(
    r"\[More Information Needed\]|\{\{.{0,200}?\}\}|\{%.{0,200}?%\}|\b(?:TODO|FIXME)\b", re.IGNORECASE
)
_LINK = re.compile(
    r"\]\(\s{0,9}<?([^\s)>]{1,2000})|\b(?:src|href)=[\"']([^\"'\s]{1,2000})|^\[[^\]\n]{1,99}\]:\s{1,9}(\S{1,2000})",
    re.M,
)
RELATIONS = {"adapter", "finetune", "merge", "quantized"}
"""https://huggingface.co/docs/hub/model-cards#specifying-a-base-model"""
_EVAL_RESULT = {"dataset", "value", "verifyToken", "date", "source", "notes"}
_EVAL_DATASET = {"id", "task_id", "revision", "config", "split"}


def front_matter(folder: Folder) -> Iterator[Problem]:
    """The card starts with a YAML mapping; the Hub rejects the commit otherwise."""
    if not folder.names.get(CARD) or folder.fault(CARD):
        return
    remedy = "start it with --- and key: value lines"
    try:
        if not isinstance(_read_front_matter(folder), dict):
            yield Problem(CARD, 1, "has no front matter that is a YAML mapping", remedy)
    except ValueError as error:
        yield Problem(CARD, 1, f"has front matter that cannot be read ({one_line(error)})", remedy)


def required_metadata(folder: Folder) -> Iterator[Problem]:
    """Licence, library and task are values that the Hub knows; it no longer infers them from the files."""
    metadata = _metadata(folder)
    if not isinstance(metadata, dict):
        return
    library = "peft" if folder.is_adapter else "transformers"
    known = {"license": LICENSES, "library_name": {library}, "pipeline_tag": PIPELINE_TAGS}
    for key, words in known.items():
        value = metadata.get(key)
        if not isinstance(value, str) or value not in words:
            remedy = f"write {', '.join(words)}" if len(words) == 1 else "use a value of the Hub's list"
            yield _about(folder, key, f"has the {key} {shown(value)}", remedy)
    if metadata.get("license") == "other" and not isinstance(metadata.get("license_name"), str):
        yield _about(
            folder, "license", "has the license other without a license_name", "add license_name and license_link"
        )


def languages_and_tags(folder: Folder) -> Iterator[Problem]:
    """Languages are lower-case ISO 639 codes and tags are strings; YAML reads a bare `no` as false."""
    metadata = _metadata(folder)
    if not isinstance(metadata, dict):
        return
    for language in _as_list(metadata.get("language")):
        if not isinstance(language, str) or language not in languages():
            yield _about(
                folder, "language", f"has the language {shown(language)}", "write an ISO 639 code in lower case"
            )
    tags = metadata.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag for tag in tags):
        yield _about(
            folder, "tags", f"has the tags {shown(tags)}", "write a list of strings, quoted where YAML needs it"
        )


def repositories(folder: Folder) -> Iterator[Problem]:
    """datasets, base_model and new_version are ids on the Hub; with local paths the push fails (transformers#32212)."""
    metadata = _metadata(folder)
    if not isinstance(metadata, dict):
        return
    for key in ("datasets", "base_model", "new_version"):
        for value in _as_list(metadata.get(key)):
            if not _is_repo_id(value):
                yield _about(folder, key, f"has {shown(value)} in {key}", "write a repository id, USER/NAME")


def base_model(folder: Folder) -> Iterator[Problem]:
    """What was made from another model names it, and says how: the Hub would guess the relation, or show none.

    An adapter names the same model in adapter_config.json, where peft looks for it.
    """
    metadata = _metadata(folder)
    if not isinstance(metadata, dict):
        return
    base, relation = metadata.get("base_model"), metadata.get("base_model_relation")
    start = folder.data("release.json").get("start")
    known = start.get("repo_id") if isinstance(start, dict) else None
    if folder.is_adapter:
        known, needed = folder.data(ADAPTER_CONFIG).get("base_model_name_or_path"), {"adapter"}
    else:
        needed = {"finetune"} if known else RELATIONS
    if known and base != known:
        yield _about(
            folder, "base_model", f"has {shown(base)} in base_model", f"write {shown(known)}, which it started from"
        )
    if (base or known) and relation not in needed:
        remedy = f"write {' or '.join(sorted(needed))}"
        yield _about(folder, "base_model_relation", f"has the base_model_relation {shown(relation)}", remedy)


def model_index(folder: Folder) -> Iterator[Problem]:
    """model-index is valid; the Hub only checks it at the commit, after the training."""
    metadata = _metadata(folder)
    if not isinstance(metadata, dict) or "model-index" not in metadata:
        return
    try:
        name, results = model_index_to_eval_results(metadata["model-index"])
        if not isinstance(name, str) or not results:
            raise ValueError
        for result in results:
            texts = [result.task_type, result.dataset_type, result.dataset_name, result.metric_type]
            optional = (result.dataset_config, result.dataset_split, result.dataset_revision, result.metric_name)
            texts += [text for text in optional if text is not None]
            value = result.metric_value
            if not all(isinstance(text, str) for text in texts) or not (isinstance(value, str) or _is_number(value)):
                raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        remedy = "write it with huggingface_hub.EvalResult and finite values"
        yield _about(folder, "model-index", "has an invalid model-index", remedy)


def eval_results(folder: Folder) -> Iterator[Problem]:
    """.eval_results/*.yaml is valid; the Hub silently ignores invalid files.

    Format: https://huggingface.co/docs/hub/eval-results
    """
    for name in folder.files:
        if not name.startswith(".eval_results/") or folder.fault(name):
            continue
        entries = folder.yaml(name)
        if not isinstance(entries, list) or not entries:
            yield Problem(
                name, None, "is not a list of results", "write it with huggingface_hub.eval_result_entries_to_yaml"
            )
            continue
        for number, entry in enumerate(entries, start=1):
            if wrong := _wrong_result(entry):
                yield Problem(
                    name,
                    None,
                    f"has invalid {wrong} in result {number}",
                    "see https://huggingface.co/docs/hub/eval-results",
                )


def finished(folder: Folder) -> Iterator[Problem]:
    """No placeholder of a template is left: [More Information Needed], {{ name }}, TODO."""
    text = release_text(folder.text(CARD))
    for fence in fences(text):
        if fence.language in {"bibtex", "jinja", "jinja2"}:  # double braces are part of these languages
            text = without_code(text, fence)
    for match in _LEFTOVER.finditer(text):
        yield Problem(CARD, line_of(text, match.start()), f"has {shown(match[0])}", "fill it in or remove it")


def links(folder: Folder) -> Iterator[Problem]:
    """Relative links and images point to files of the folder."""
    text = release_text(folder.text(CARD))
    for fence in fences(text):
        text = without_code(text, fence)
    for match in _LINK.finditer(re.sub(r"`[^`\n]*`", lambda code: " " * len(code[0]), text)):
        target = next(filter(None, match.groups()))
        name = unquote(re.split("[#?]", target)[0]).removeprefix("./")
        if name and not re.match(r"[A-Za-z][\w+.-]*:|/", name) and not _is_in(folder, name.rstrip("/")):
            yield Problem(
                CARD, line_of(text, match.start()), f"links to {shown(target)}", "there is no such file in the release"
            )


def fences_closed(folder: Folder) -> Iterator[Problem]:
    """Every block of code is closed; an unclosed one extends to the end of the card."""
    for fence in fences(folder.text(CARD)):
        if not fence.closed:
            yield Problem(CARD, fence.line, "opens a block of code that is never closed", "close it")


def snippets_compile(folder: Folder) -> Iterator[Problem]:
    """The Python snippets compile."""
    for fence, tree in _snippets(folder):
        if not isinstance(tree, ast.Module):
            line = fence.line + (getattr(tree, "lineno", None) or 0)
            yield Problem(CARD, line, "has a Python snippet that does not compile", "correct it, since readers copy it")


def snippets_pinned(folder: Folder) -> Iterator[Problem]:
    """Calls with `trust_remote_code` pin a `revision`, so that readers trust a single version of the code."""
    for fence, tree in _snippets(folder):
        for call in ast.walk(tree) if isinstance(tree, ast.Module) else ():
            if not isinstance(call, ast.Call):
                continue
            words = {word.arg: word.value for word in call.keywords}
            trust = words.get("trust_remote_code")
            trusts = trust is not None and not (isinstance(trust, ast.Constant) and trust.value is False)
            if trusts and not {"revision", None} & set(words) and not _loads_a_folder(call, words):
                what = "trusts remote code without a revision"
                yield Problem(CARD, fence.line + call.lineno, what, "add revision= with a tag or a commit")


def sections(folder: Folder) -> Iterator[Problem]:
    """Section markers are well formed and unique: the next release tells its own text from others' edits by them
    (unsloth#11050, hfh#3043)."""
    try:
        split_sections(folder.text(CARD))
    except MarkerError as error:
        yield Problem(
            CARD, error.line, error.what, "write <!-- axion:start NAME --> and <!-- axion:end NAME -->, each once"
        )


# --- Reading the card -------------------------------------------------------------------------------------------------


def _metadata(folder: Folder) -> object:
    """The front matter; None if there is none, or it is not valid YAML."""
    try:
        return _read_front_matter(folder)
    except ValueError:  # reported by `front_matter`
        return None


def _read_front_matter(folder: Folder) -> object:
    return split_front_matter(folder.text(CARD).removeprefix("\ufeff"))[1]


def _about(folder: Folder, key: str, what: str, remedy: str) -> Problem:
    """A problem with a key of the front matter, at the line of that key."""
    match = re.search(rf"^{key}:", folder.text(CARD), re.M)
    return Problem(CARD, line_of(folder.text(CARD), match.start()) if match else None, what, remedy)


def _as_list(value: object) -> list:
    return [] if value is None else value if isinstance(value, list) else [value]


def _is_repo_id(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        validate_repo_id(value)
    except HFValidationError:
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_in(folder: Folder, name: str) -> bool:
    return name in folder.names or any(other.startswith(f"{name}/") for other in folder.names)


def _wrong_result(entry: object) -> str | None:
    """The invalid part of an entry; None if it is valid."""
    if not isinstance(entry, dict) or not set(entry) <= _EVAL_RESULT:
        return "keys"
    dataset, source, when = entry.get("dataset"), entry.get("source"), entry.get("date")
    if not isinstance(dataset, dict) or not set(dataset) <= _EVAL_DATASET:
        return "dataset"
    if not _is_repo_id(dataset.get("id")):
        return "dataset id"
    for key in _EVAL_DATASET - {"id"}:
        if not isinstance(dataset.get(key, ""), str) or (key == "task_id" and key not in dataset):
            return f"dataset {key}"
    if not _is_number(entry.get("value")):
        return "value"
    if when is not None and not _is_date(when):
        return "date"
    for key in ("verifyToken", "notes"):
        if not isinstance(entry.get(key, ""), str):
            return key
    if source is not None and not (isinstance(source, dict) and isinstance(source.get("url"), str)):
        return "source"
    return None


def _is_date(value: object) -> bool:
    try:
        return isinstance(value, date) or (isinstance(value, str) and bool(datetime.fromisoformat(value)))
    except (TypeError, ValueError):
        return False


def _snippets(folder: Folder) -> Iterator[tuple[Fence, ast.Module | Exception]]:
    """The Python blocks with their syntax trees, or with the error that parsing them raises."""
    for fence in fences(release_text(folder.text(CARD))):
        if fence.language in PYTHON:
            try:
                yield fence, parse_snippet(fence.code)
            except PARSE_ERRORS as error:
                yield fence, error


def _loads_a_folder(call: ast.Call, words: dict[str | None, ast.expr]) -> bool:
    """Whether a call loads from a local folder: its first argument starts with "." or "/"."""
    named = words.get("pretrained_model_name_or_path") or words.get("model")
    first = call.args[0] if call.args else named
    return isinstance(first, ast.Constant) and str(first.value).startswith((".", "/"))
