"""Check a release folder for everything that publishers get wrong, without running any of it.

The rules read from top to bottom: first the files, then the code, the configuration, the card, and last what must not
be in any of them. Each is a function in the room of its subject, whose docstring says why it is there and who learned
it the hard way (a name with a number is a thread in that project's tracker on GitHub).
"""

from dataclasses import replace
from pathlib import Path

from axion.errors import AxionError
from publish.check import card, code, config, files, text
from publish.check.folder import Folder, Problem, Rule
from publish.check.secrets import hide_secrets

TEXT_RULES: tuple[Rule, ...] = (text.no_local_path, text.no_secret)
RULES: tuple[Rule, ...] = (
    files.allowed_names,
    files.plain_files,
    files.readable,
    files.no_pickle,
    files.listed_files,
    files.weights_readable,
    files.weights_stored_once,
    files.weights_finite,
    code.auto_map_names_classes,
    code.relative_imports,
    code.known_imports,
    code.no_unsafe_code,
    code.config_class,
    code.post_init,
    code.tied_weights,
    code.generation_mixin,
    code.initialization,
    code.buffers,
    config.config_fields,
    config.outdated_fields,
    config.generation_parameters,
    config.special_tokens,
    config.tokenizer_class,
    config.sizes,
    card.front_matter,
    card.required_metadata,
    card.languages_and_tags,
    card.repositories,
    card.model_index,
    card.eval_results,
    card.finished,
    card.links,
    card.fences_closed,
    card.snippets_compile,
    card.snippets_pinned,
    card.sections,
    *TEXT_RULES,
)

__all__ = ["RULES", "Problem", "check_folder", "lint", "scan_text_files"]


def lint(folder: Path) -> list[Problem]:
    """Everything that is wrong with a release folder, rule by rule. Nothing in the folder is imported or unpickled.

    Raises:
        AxionError: it is not a folder.
    """
    return _apply(RULES, folder)


def scan_text_files(folder: Path) -> list[Problem]:
    """The local paths and the secrets in the files of any folder, a Space's among them.

    Raises:
        AxionError: it is not a folder.
    """
    return _apply(TEXT_RULES, folder)


def check_folder(folder: Path) -> str:
    """Refuse a release folder that must not be published.

    Returns:
        How many rules it keeps, in a few words.

    Raises:
        AxionError: the first problem, and how many more there are.
    """
    problems = lint(folder)
    if problems:
        more = f" (and {len(problems) - 1} more: see them all by `python -m publish check`)" if problems[1:] else ""
        raise AxionError(f"{problems[0]}{more}")
    return f"{len(RULES)} rules, nothing found"


def _apply(rules: tuple[Rule, ...], path: Path) -> list[Problem]:
    folder = Folder(path)
    problems = [problem for rule in rules for problem in rule(folder)]
    return [
        replace(problem, what=hide_secrets(problem.what), remedy=hide_secrets(problem.remedy)) for problem in problems
    ]
