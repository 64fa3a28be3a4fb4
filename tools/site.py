"""The project's own site: `python -m tools.site --out DIR [--models RELEASE …]`.

Its first page has the series, from the files in configs/series, with their total and active parameters; research notes
are the essays in docs/; the demo and the documentation are the page without a server. Any static host can serve it.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from axion.errors import AxionError
from axion.files import new_folder, writing
from axion.series import Member, collection_title, families, series
from axion.shipped import ROOT
from playground.content.markup import TEMPLATES as PAGE_TEMPLATES
from playground.locales import DEFAULT, format_number, format_short
from playground.views import VIEWS
from playground.web.assemble import write_page
from playground.web.markdown import to_html

TEMPLATES = Path(__file__).parent / "templates"
DOCS = ROOT / "docs"
BUNDLED = "axion1-v0.1"
DEMO, NOTES = "demo", "notes"
STYLES = (VIEWS / "css" / "palette.css", VIEWS / "css" / "documentation.css", TEMPLATES / "site.css")
IMAGES = {".png", ".webp", ".svg"}

_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_LINK = re.compile(r'<a href="(?!https?:|#)([^"]*)">(.*?)</a>', re.DOTALL)


@dataclass(frozen=True)
class Note:
    """A research note."""

    name: str
    title: str
    lead: str
    """The HTML of its first paragraph of text."""
    html: str


def read_notes(docs: Path) -> list[Note]:
    """The notes in a folder, by title."""
    return sorted((_read_note(path) for path in docs.glob("*.md")), key=lambda note: note.title)


def _read_note(path: Path) -> Note:
    text = _COMMENT.sub("", path.read_text(encoding="utf-8"))
    title = _TITLE.search(text)
    if not title:
        raise AxionError(f"{path} has no title; begin it with a line such as `# What each expert reads`")
    html = _LINK.sub(_relink, to_html(_TITLE.sub("", text, count=1)))
    lead = re.search(r"<p>(?!<img)(.*?)</p>", html, re.DOTALL)
    return Note(path.stem, title[1], re.sub(r"<a [^>]*>|</a>", "", lead[1]) if lead else "", html)


def _relink(link: re.Match) -> str:
    """A link between notes leads to the other page; other files of the repository, which a site lacks, are named."""
    place, text = link[1], link[2]
    name, _, anchor = place.partition("#")
    if name.endswith(".md") and "/" not in name:
        return f'<a href="{name[:-3]}.html{"#" + anchor if anchor else ""}">{text}</a>'
    return f"{text} (<code>{name.removeprefix('../')}</code>)"


def write_site(folder: Path, models: Sequence[str] = (BUNDLED,), docs: Path = DOCS) -> Path:
    """Write the site; an earlier one is replaced.

    Args:
        folder: new, empty, or an earlier site.
        models: the releases that the demo shows.
        docs: the folder of the notes.

    Returns:
        Its first page.

    Raises:
        AxionError: a release or a series is broken, the folder has other files, or it cannot be written.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / DEMO / "index.html").is_file():
        raise AxionError(f"{folder} is not empty, and is no site of Axion; choose a new folder")
    notes = read_notes(docs)
    members = {family: series(family) for family in families()}
    titles = {family: collection_title(family) for family in members}
    template = _environment().get_template("site.html.j2").render
    with writing(folder):
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
        with new_folder(folder, lambda: False) as staging:
            single = write_page(models, staging / DEMO).get("file")
            home = {"members": members, "titles": titles, "notes": notes, "single": single and single.name}
            _write(staging / "index.html", template(note=None, up="", **home))
            for note in notes:
                _write(staging / NOTES / f"{note.name}.html", template(note=note, up="../", **home))
            for image in (path for path in docs.iterdir() if path.suffix in IMAGES):
                shutil.copyfile(image, staging / NOTES / image.name)
            shutil.copyfile(PAGE_TEMPLATES / "favicon.svg", staging / "favicon.svg")
            _write(staging / "site.css", "\n".join(path.read_text(encoding="utf-8") for path in STYLES))
    return folder / "index.html"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: format_number(value, DEFAULT)
    environment.filters["size"] = _size
    return environment


def _size(member: Member) -> str:
    """A counted size is exact; that of a version without a recipe is nominal."""
    if member.is_counted:
        return format_number(member.parameters, DEFAULT)
    return f"about {format_short(member.parameters, DEFAULT)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a mistake is one line on standard error and exit code 2."""
    parser = argparse.ArgumentParser(prog="tools.site", description="Write the project's site.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", metavar="DIR")
    parser.add_argument("--models", nargs="+", default=[BUNDLED], metavar="RELEASE")
    options = parser.parse_args(arguments)
    try:
        print(write_site(options.out, options.models))
    except AxionError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
