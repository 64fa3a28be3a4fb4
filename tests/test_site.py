"""The project's site: its series, its notes, and that its links lead somewhere."""

import re
from pathlib import Path

import pytest

from axion.errors import AxionError
from axion.series import families, series
from playground.locales import format_number
from tools import site
from tools.site import read_notes, write_site


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A site whose demo is one file, since tests/playground/web has the real ones. Read it, don't change it."""

    def demo(models, folder: Path) -> dict[str, Path]:
        folder.mkdir(parents=True)
        (folder / "index.html").write_text("the demo")
        return {"folder": folder / "index.html", "file": folder / "one.html"}

    folder = tmp_path_factory.mktemp("site") / "site"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "write_page", demo)
        write_site(folder)
        (folder / "old.html").write_text("")
        write_site(folder)
    return folder


def test_the_first_page_has_every_version_with_its_sizes(written):
    html = (written / "index.html").read_text(encoding="utf-8")
    assert not (written / "old.html").exists()
    for family in families():
        for member in series(family):
            rows = re.findall("<tr>.*?</tr>", html)
            [row] = [row for row in rows if f"{member.title} <small>v{member.version}" in row]
            assert ("released" in row) == member.released
            if member.is_counted:
                assert format_number(member.parameters, "en") in row and format_number(member.active or 0, "en") in row


def test_every_link_and_picture_exists(written):
    pages = [path for path in written.rglob("*.html") if path.parent.name != "demo"]
    assert len(pages) == 1 + len(read_notes(site.DOCS)) > 5
    for path in pages:
        html = path.read_text(encoding="utf-8")
        for target in re.findall(r'(?:href|src)="([^"]*)"', html):
            if target.startswith("https://") or target == "demo/one.html":
                continue
            name = target.partition("#")[0]
            assert not name or (path.parent / name).is_file(), f"{path.name}: {target}"
            assert "<!--" not in html and "&lt;!--" not in html


def test_a_foreign_folder_is_left_alone_and_a_note_needs_a_title(tmp_path):
    (tmp_path / "mine.md").write_text("no title")
    with pytest.raises(AxionError, match="has no title"):
        read_notes(tmp_path)
    with pytest.raises(AxionError, match="is not empty"):
        write_site(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.md"]
