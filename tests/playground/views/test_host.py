"""The interface between the views and the page around them."""

import re

import pytest

from playground.server.markup import SERVER, VIEWS, bundle, script

HOST = {"element", "props", "watch", "trigger", "inspect", "busy"}
GRADIO_HOST = "start(gradioHost(element, props, watch, trigger, server));\n"
MODULES = sorted(VIEWS.glob("*.js"))
STARTED = ("trace", "chat", "compare", "experts", "charts")


def test_views_do_not_know_gradio():
    for path in [*VIEWS.glob("*.js"), *VIEWS.glob("*.html"), *VIEWS.glob("css/*.css")]:
        text = path.read_text(encoding="utf-8").lower()
        assert "gradio" not in text and "html-container" not in text and "elem_id" not in text, path.name


def test_views_use_only_the_six_names_of_a_host():
    used: set[str] = set()
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        used |= set(re.findall(r"\bhost\.(\w+)", text))
        for names in re.findall(r"const \{([^}]*)\} = (?:trace\.)?host;", text):
            used |= {name.strip() for name in names.split(",")}
        # A view only queries nodes inside its own element.
        assert not re.search(r"document\.(querySelector|getElement)", text), path.name
    assert used == HOST


@pytest.mark.parametrize("view", STARTED)
def test_a_bundle_has_every_module_once_after_what_it_imports(view):
    text = bundle(VIEWS / f"{view}.js")
    assert not re.search(r"^(import|export)\b", text, re.MULTILINE)
    assert not re.search(r"^\s*//", text, re.MULTILINE)
    names = re.findall(r"^(?:async )?(?:const|let|function) (\w+)", text, re.MULTILINE)
    assert len(names) == len(set(names)), "two modules define the same top-level name"
    assert names.count("createToolkit") == 1 and names[-1] not in ("createToolkit", "make")
    assert text.index("function createToolkit(") < text.index("function start(")
    shown = script(view)
    assert shown.startswith('"use strict";') and shown.endswith(GRADIO_HOST)


def test_every_module_belongs_to_a_view():
    bundled = "".join(bundle(VIEWS / f"{view}.js") for view in STARTED)
    for path in MODULES:
        exported = re.findall(r"^export (?:function|const) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert exported and all(f" {name}" in bundled for name in exported), path.name
    assert "start" in bundle(SERVER / "contents.js")
