"""axe-core, which finds faults of accessibility in a page. Its script comes from npm, once, into the user's cache."""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from axion.errors import AxionError

if TYPE_CHECKING:
    from playwright.sync_api import Page

VERSION = "4.14.1"
SERIOUS = ("serious", "critical")
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")

RUN = """async (rules) => {
  const more = { "label-content-name-mismatch": { enabled: true } }; // experimental, but wanted
  const found = await axe.run(document, { runOnly: rules, rules: more, resultTypes: ["violations"] });
  return found.violations.map(({ id, impact, nodes }) => ({ id, impact, html: nodes.map((node) => node.html) }));
}"""


class NoAxe(AxionError):
    """axe-core cannot be had; the message says why."""


def axe_script() -> str:
    """The text of axe.min.js. Raises NoAxe."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "axion" / f"axe-{VERSION}.min.js"
    if cache.is_file():
        return cache.read_text(encoding="utf-8")
    npm = shutil.which("npm")
    if npm is None:
        raise NoAxe("npm is not installed, which fetches axe-core")
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(
            [npm, "pack", "--json", f"axe-core@{VERSION}"], cwd=folder, capture_output=True, text=True
        )
        if packed.returncode:
            raise NoAxe(f"npm cannot fetch axe-core {VERSION}")
        with tarfile.open(Path(folder) / json.loads(packed.stdout)[0]["filename"]) as archive:
            script = archive.extractfile("package/axe.min.js")
            text = script.read().decode() if script else ""
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(text, encoding="utf-8")
    return text


def find_faults(page: "Page", script: str) -> list[dict]:
    """What is wrong with the page as it is shown now: rule, impact, and the HTML of each place."""
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(script)
    return page.evaluate(RUN, list(RULES))
