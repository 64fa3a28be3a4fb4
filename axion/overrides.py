"""`key.path=value` overrides of a recipe, as `--set` gives them."""

import re
from collections.abc import Sequence
from typing import Any

from axion.data.recipe import with_sources
from axion.errors import AxionError, one_line
from axion.files import parse_yaml

_KIND = re.compile(r"\s*tokenizer\.kind\s*=")


def apply_overrides(content: dict[str, Any], overrides: Sequence[str]) -> None:
    """Sets keys of a recipe that is not yet checked, one after the other; see `axion.recipe.load_recipe`.

    Raises:
        AxionError: an override has another form, or names nothing that holds keys.
    """
    _forget_other_tokenizer(content, overrides)
    for override in overrides:
        _apply(content, override)


def _forget_other_tokenizer(content: dict, overrides: Sequence[str]) -> None:
    """Where overrides give the tokenizer another kind, removes the settings that the recipe has for its own kind."""
    kinds = [override.partition("=")[2].strip() for override in overrides if _KIND.match(override)]
    section = content.get("tokenizer")
    if kinds and isinstance(section, dict) and kinds[-1] != section.get("kind", "bpe"):
        content["tokenizer"] = {}


def _apply(content: dict, override: str) -> None:
    key, separator, value = override.partition("=")
    *parents, last = key.strip().split(".")
    if not separator or not last:
        raise AxionError(f"--set takes key.path=value, for example training.epochs=2; got {override!r}")
    if [*parents, last][:2] == ["data", "sources"] and isinstance(content.get("data", {}), dict):
        try:
            content["data"] = with_sources(content.get("data", {}))
        except ValueError as error:
            raise AxionError(f"--set {override!r}: {error}") from None
    node: Any = content
    for depth, name in enumerate(parents):
        node = _child(node, name)
        if not isinstance(node, dict | list):
            raise AxionError(f"--set {override!r}: {'.'.join(parents[: depth + 1])} holds no keys of its own")
    if isinstance(node, list):
        raise AxionError(f"--set {override!r}: {key.rpartition('.')[0]} is a list; name a key of one of its entries")
    try:
        node[last] = parse_yaml(value)
    except ValueError as error:
        raise AxionError(f"--set {one_line(override, 80)}: the value is not valid YAML: {one_line(error)}") from None


def _child(node: dict | list, name: str) -> Any:
    """The value that a part of an override's path names: a key, a list entry by index, or a source by kind."""
    if isinstance(node, dict):
        return node.setdefault(name, {})
    if name.isdecimal() and int(name) < len(node):
        return node[int(name)]
    of_kind = [entry for entry in node if isinstance(entry, dict) and entry.get("kind") == name]
    if len(of_kind) > 1:
        number = next(index for index, entry in enumerate(node) if entry is of_kind[0])
        raise AxionError(f"there are {len(of_kind)} sources of kind {name}; write data.sources.{number} for the first")
    return of_kind[0] if of_kind else None
