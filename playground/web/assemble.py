"""Builds the page: a folder for any static host, and one file that opens from a USB stick."""

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from axion.errors import AxionError
from axion.files import new_folder, writing
from axion.release import NEEDED
from axion.tampering import NAMES
from playground.content.documentation import contents_html
from playground.content.markup import TEMPLATES, render
from playground.content.properties import View, view_properties
from playground.generate.catalogue import Catalogue, OpenModel
from playground.generate.comparison import OWN, SHARED, START
from playground.generate.events import start_event
from playground.generate.request import DEFAULTS, LIMITS, MAX_PROMPT_CHARACTERS
from playground.locales import DEFAULT, LANGUAGES, by_language, texts
from playground.views import STYLES, bundle, template
from playground.web.content import describe_model, problem_form, to_json

WEB = Path(__file__).parent
DECODER = WEB / "decoder-fp32.wasm"

TABS = ("playground", "chat", "experts", "compare", "model", "api")
BASIC = ("temperature", "max_new_tokens", "seed")
HUB_STORES = ("https://*.hf.co", "https://*.huggingface.co", "https://*.xethub.hf.co")
"""Where the Hub keeps large files."""
VIEW_NAMES: tuple[View, ...] = ("trace", "chat", "compare", "experts", "charts")
TEXT_PARTS = ("page", "controls", "compare", "errors", "web")
_PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")
OPTIONAL = ("generation_config.json",)
"""Files of a release that the decoder reads where they exist."""

INDEX, SCRIPT, STYLE, WORKER, WASM, OFFLINE, ICON = (
    "index.html",
    "page.js",
    "page.css",
    "worker.js",
    "decoder.wasm",
    "service_worker.js",
    "favicon.svg",
)


@dataclass(frozen=True)
class PageModel:
    """A model of the page."""

    model: OpenModel
    folder: str
    """Its folder in the page."""
    address: str | None = None
    """Where its files are, with a slash at the end, if they are not in the page."""

    @property
    def files(self) -> list[Path]:
        """The files that the decoder reads."""
        folder = self.model.release.folder
        return [folder / name for name in (*NEEDED, *OPTIONAL) if (folder / name).is_file()]

    def path(self, name: str) -> str:
        """Where the page finds one of its files."""
        return (self.address or f"{self.folder}/") + name


@dataclass(frozen=True)
class Page:
    """A page's files by name, except `index.html`, and the data in it."""

    data: dict[str, Any]
    files: dict[str, bytes]
    models: tuple[PageModel, ...]
    facts: str
    connects: tuple[str, ...] = field(default=())
    """Origins besides its own that the page reads from."""


def write_page(references: Sequence[str], folder: Path, weights_on_hub: bool = False) -> dict[str, Path]:
    """Write the page that shows some releases: a folder, and in it one file that is the whole page.

    Args:
        references: folders, names under releases/, or Hub ids with their commit.
        folder: it is new, empty, or an earlier page, which is replaced.
        weights_on_hub: visitors' browsers read the files of models on the Hub from there; then there is no single file.

    Returns:
        "folder": the folder's `index.html`, and "file": the single file.

    Raises:
        AxionError: a release is broken or cannot be shown, the folder has other files, or it cannot be written.
    """
    if folder.exists() and not _is_page(folder) and any(folder.iterdir()):
        raise AxionError(f"{folder} is not empty, and is no page of Axion; choose a new folder for the page")
    page = build_page(references, _hub_addresses(references) if weights_on_hub else {})
    single = _single_name(page)
    files = folder_files(page, single) | ({single: single_file(page).encode()} if single else {})
    with writing(folder):
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
        with new_folder(folder, lambda: False) as staging:
            for path, content in files.items():
                target = staging / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
    return {"folder": folder / INDEX} | ({"file": folder / single} if single else {})


def _single_name(page: Page) -> str | None:
    """The name of the single file; None where a model is not in the page."""
    return None if page.connects else f"{page.models[0].folder.rpartition('/')[2]}.html"


def _hub_addresses(references: Sequence[str]) -> dict[str, str]:
    """Hub id with its commit → where browsers find the files of that commit."""
    pinned = [reference.partition("@") for reference in references if _PINNED.fullmatch(reference)]
    return {f"{repo}@{commit}": f"{constants.ENDPOINT}/{repo}/resolve/{commit}/" for repo, _, commit in pinned}


def _is_page(folder: Path) -> bool:
    return folder.is_dir() and all((folder / name).is_file() for name in (INDEX, SCRIPT, WORKER, OFFLINE))


def build_page(references: Sequence[str], addresses: Mapping[str, str] | None = None) -> Page:
    """The page that shows some releases.

    Args:
        references: see `write_page`.
        addresses: reference → where visitors' browsers find the files of that release, if they are not in the page.

    Raises:
        AxionError: a release is broken, or cannot be shown.
    """
    catalogue = Catalogue(references, with_local=False)
    models = tuple(_page_models(catalogue, addresses or {}))
    described = {each.model.name: each.model.release.info for each in models}
    script = f'"use strict";\n(() => {{\n{bundle(WEB / "page" / "start.js")}}})();\n'
    files = {
        STYLE: _style().encode(),
        SCRIPT: script.encode(),
        WORKER: bundle(WEB / "worker.js").encode(),
        WASM: DECODER.read_bytes(),
        ICON: (TEMPLATES / "favicon.svg").read_bytes(),
    }
    for each in models:
        others = [(name, info) for name, info in described.items() if name != each.model.name]
        files[f"{each.folder}/content.json"] = to_json(describe_model(each.model, others)).encode()
        if not each.address:
            files |= {each.path(file.name): file.read_bytes() for file in each.files}
    first = describe_facts(models[0].model)
    return Page(_data(models), files, models, first, _origins(models))


def describe_facts(model: OpenModel) -> str:
    """The head of the page before its script runs."""
    return render("facts.html", DEFAULT, error=False, facts=model.facts, text=texts("page", DEFAULT))


def _page_models(catalogue: Catalogue, addresses: Mapping[str, str]) -> list[PageModel]:
    models: list[PageModel] = []
    for name in catalogue.names:
        folder = "models/" + (re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model")
        if folder in (each.folder for each in models):  # names that differ only in signs
            folder += f"-{len(models)}"
        models.append(PageModel(catalogue.open(name), folder, addresses.get(catalogue.reference(name))))
    return models


def _origins(models: Sequence[PageModel]) -> tuple[str, ...]:
    """The hosts of files that are not in the page; the Hub redirects to hosts of its own."""
    found = [re.match(r"https?://[^/]+", each.address) for each in models if each.address]
    hosts = tuple(dict.fromkeys(match[0] for match in found if match))
    return (*hosts, *HUB_STORES) if hosts else ()


def _data(models: Sequence[PageModel]) -> dict[str, Any]:
    """What the page's script reads; see page/start.js."""
    return {
        "language": DEFAULT,
        "texts": {language: {part: dict(texts(part, language)) for part in TEXT_PARTS} for language in LANGUAGES},
        "views": {view: {language: view_properties(view, language) for language in LANGUAGES} for view in VIEW_NAMES},
        "contents": {language: contents_html(language) for language in LANGUAGES},
        "defaults": DEFAULTS,
        "tampering": NAMES,
        "highestSeed": LIMITS["seed"].high,
        "compare": START,
        "problem": problem_form(),
        "worker": WORKER,
        "decoder": WASM,
        "models": [
            {
                "name": each.model.name,
                "content": f"{each.folder}/content.json",
                "start": start_event(each.model, "", {}),
                "files": {file.name: _describe_file(each.path(file.name), file) for file in each.files},
            }
            for each in models
        ],
    }


def _describe_file(path: str, file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    return {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def folder_files(page: Page, single: str | None = None) -> dict[str, bytes]:
    """All files of the page as a folder.

    Args:
        single: the name of the page as one file beside it, which it then offers to save.
    """
    index = _render(page, _folder_policy(page), {**page.data, "offline": OFFLINE}, single=single).encode()
    files = {INDEX: index, **page.files}
    models = tuple(f"{each.folder}/" for each in page.models[1:])
    kept = [f"./{'' if name == INDEX else name}" for name in files if not name.startswith(models)]
    version = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in files.values())).hexdigest()[:16]
    worker = (WEB / "service_worker.js").read_text(encoding="utf-8")
    files[OFFLINE] = f'const VERSION = "{version}";\nconst FILES = {to_json(kept)};\n{worker}'.encode()
    return files


def single_file(page: Page) -> str:
    """The whole page as one HTML file, which needs neither a server nor a network.

    Raises:
        AxionError: a model's files are not in the page.
    """
    if away := [each.model.name for each in page.models if each.address]:
        raise AxionError(f"{away[0]} stays on the Hub, so the page cannot be one file")
    script, style = (page.files[name].decode() for name in (SCRIPT, STYLE))
    inside = {
        path: base64.b64encode(gzip.compress(content, mtime=0)).decode()
        for path, content in page.files.items()
        if path not in (SCRIPT, STYLE, ICON)
    }
    policy = _policy(script=f"'sha256-{_digest(script)}'", style=f"'sha256-{_digest(style)}'", worker="blob:")
    icon = "data:image/svg+xml;base64," + base64.b64encode(page.files[ICON]).decode()
    data = {**page.data, "offline": None}
    return _render(page, policy, data, script=script, style=style, inside=inside, favicon=icon)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _folder_policy(page: Page) -> str:
    connect = " ".join(["'self'", *page.connects])
    return _policy(script="'self'", style="'self'", worker="'self' blob:", connect=connect)


def _policy(script: str, style: str, worker: str, connect: str = "'none'") -> str:
    """The Content-Security-Policy: no script but the page's own, and no other host.

    Charts and bars are placed by style attributes, which may not name files.
    """
    rules = {
        "default-src": "'none'",
        "script-src": f"{script} 'wasm-unsafe-eval'",
        "style-src-elem": style,
        "style-src-attr": "'unsafe-inline'",
        "worker-src": worker,
        "connect-src": connect,
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _render(
    page: Page,
    policy: str,
    data: Mapping[str, Any],
    *,
    script: str | None = None,
    style: str | None = None,
    inside: Mapping[str, str] | None = None,
    favicon: str = ICON,
    single: str | None = None,
) -> str:
    environment = Environment(
        loader=FileSystemLoader(WEB), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["word"] = _word
    if script and re.search(r"</script|<!--", script, re.IGNORECASE):
        raise AssertionError("the page's script cannot stand inside HTML")
    return (
        environment.get_template("page.html")
        .render(
            language=DEFAULT,
            languages=LANGUAGES,
            policy=policy,
            without_script=" · ".join(table["without_script"] for table in by_language("page").values()),
            facts=page.facts,
            models=[each.model for each in page.models],
            tabs=TABS,
            limits=LIMITS,
            basic=BASIC,
            own=OWN,
            shared=SHARED,
            longest_prompt=MAX_PROMPT_CHARACTERS,
            views={view: template(view) for view in VIEW_NAMES if view != "charts"},
            data=to_json(data),
            script=script,
            style=style,
            inside=inside or {},
            favicon=favicon,
            single=single,
        )
        .strip()
    )


def _word(place: str) -> str:
    """The text at `part.key` of the locale files, before the page's script chooses a language."""
    part, _, key = place.partition(".")
    return texts(part, DEFAULT)[key]


def _style() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in [WEB / "css" / "page.css", *STYLES])
