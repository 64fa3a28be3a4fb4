"""A release to damage."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from axion.files import sha256
from publish.check.folder import Folder
from publish.check.lint import RULES, TEXT_RULES


@pytest.fixture
def spoilt(release, tmp_path) -> Callable[..., Path]:
    """Applies a change to a copy of the valid release and updates its manifest, so that only the change is wrong."""
    folder = shutil.copytree(release, tmp_path / "release")

    def spoil(change) -> Path:
        change(folder)
        manifest = folder / "release.json"
        info = json.loads(manifest.read_text(encoding="utf-8"))
        plain = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path != manifest]
        info["files"] = {path.relative_to(folder).as_posix(): sha256(path) for path in plain}
        manifest.write_text(json.dumps(info), encoding="utf-8")
        return folder

    return spoil


@pytest.fixture
def check_rule(spoilt):
    """Checks that a change gives exactly these problems, in one line each, and that `rule` reports one of them."""

    def check(rule, change, messages: list[str]) -> None:
        folder = Folder(spoilt(change))
        # Scanning every file for secrets takes most of the time, so it only runs where it should find something.
        rules = RULES if rule in TEXT_RULES or len(messages) > 1 else [each for each in RULES if each not in TEXT_RULES]
        found = [str(problem) for each in rules for problem in each(folder)]
        assert len(found) == len(messages), found
        for message in messages:
            assert any(re.search(message, line) for line in found), (message, found)
        assert list(rule(folder))
        assert not any("\n" in line for line in found)

    return check
