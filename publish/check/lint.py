"""Check a release folder for common publishing mistakes, without running any of its code.

The rules are applied in order: files, code, configuration, card, and finally content that no file may have. Each rule
is a function in the module of its subject. Its docstring gives the reason, often with the issue where others met the
problem (`project#number` is a thread on GitHub).
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
    config.generation_valid,
    config.special_tokens,
    config.tokenizer_class,
    config.sizes,
    config.encoding,
    card.front_matter,
    card.required_metadata,
    card.languages_and_tags,
    card.repositories,
    card.base_model,
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
    """Find all problems of a release folder, rule by rule. Nothing in it is imported or unpickled.

    Raises:
        AxionError: it is not a folder.
    """
    return _apply(RULES, folder)


def scan_text_files(folder: Path) -> list[Problem]:
    """Find local paths and secrets in the files of any folder.

    Raises:
        AxionError: it is not a folder.
    """
    return _apply(TEXT_RULES, folder)


def check_folder(folder: Path) -> str:
    """Check that a release folder can be published.

    Returns:
        A summary with the number of rules.

    Raises:
        AxionError: the first problem, and how many more there are.
    """
    problems = lint(folder)
    if problems:
        more = f" (and {len(problems) - 1} more; `python -m publish check` lists them all)" if problems[1:] else ""
        raise AxionError(f"{problems[0]}{more}")
    return f"{len(RULES)} rules, no problems"


def _apply(rules: tuple[Rule, ...], path: Path) -> list[Problem]:
    folder = Folder(path)
    problems = [problem for rule in rules for problem in rule(folder)]
    return [
        replace(problem, what=hide_secrets(problem.what), remedy=hide_secrets(problem.remedy)) for problem in problems
    ]
