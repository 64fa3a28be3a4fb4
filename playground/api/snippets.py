"""Programs that ask for what the first tab's controls say, ready to be copied: pure functions from a wish to text.

Prompt and settings stand in them as shell words, JSON or Python literals, so that any text comes out as it went in.
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from axion.inference.sampling import Sampling
from axion.release import RELEASES, Release
from playground.api.requests import SETTINGS as OPENAI_NAMES
from playground.generate.request import Request
from playground.server.corrections import MCP_PATH

ALWAYS = ("temperature", "max_new_tokens", "seed")
"""Settings that a snippet names even where they have their default, because these are what people change first."""
NAMES = {"max_new_tokens": "max_tokens"} | OPENAI_NAMES
"""Ours → those of the OpenAI-style interface."""
OPENAI_OWN = ("temperature", "top_p", "max_tokens", "seed")
"""Parameters that OpenAI's own library knows; the others have to go through its `extra_body`."""


@dataclass(frozen=True)
class Place:
    """Where a program finds a release."""

    name: str
    """What `from_pretrained` takes."""
    revision: str = ""
    """The commit, of a model on the Hub."""
    known: bool = True
    """False for a folder of the operator's, which visitors see no path of: `name` is then the folder's own name."""


def find_place(release: Release) -> Place:
    """Where others find this release."""
    if release.folder.resolve().parent == RELEASES:
        return Place(f"{RELEASES.name}/{release.folder.resolve().name}")
    if "/" in release.name:
        repo_id, _, revision = release.name.partition("@")
        return Place(repo_id, revision)
    return Place(release.name, known=False)


def curl(address: str, model: str, request: Request) -> str:
    """A shell command; `address` is the page's own, without a slash at its end."""
    body = json.dumps(_openai_body(model, request), ensure_ascii=False, indent=2)
    return (
        f"curl {shlex.quote(f'{address}/v1/completions')} \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(body)}\n"
    )


def openai(address: str, model: str, request: Request) -> str:
    """Python with OpenAI's library: the text, and the experts of each of its tokens."""
    body = _openai_body(model, request)
    own = {name: value for name, value in body.items() if name in ("model", "prompt", *OPENAI_OWN)}
    extra = {name: value for name, value in body.items() if name not in own} | {"routing": True}
    return (
        "# pip install openai\n"
        "from openai import OpenAI\n\n"
        f'client = OpenAI(base_url={_python(f"{address}/v1")}, api_key="none")\n'
        "answer = client.completions.create(\n"
        f"{_arguments(own)}"
        f"    extra_body={_python(extra)},\n"
        ")\n"
        "[choice] = answer.choices\n"
        "print(choice.text)\n"
        'for step in choice.routing["steps"]:\n'
        '    print(repr(step["t"]), step["e"])  # the experts of each layer, counted from 0\n'
    )


def gradio_client(address: str, model: str, request: Request) -> str:
    """Python with Gradio's client: the text, and the experts of each of its tokens."""
    arguments = {"prompt": request.prompt, "model": model} | _settings(request) | {"routing": True}
    return (
        "# pip install gradio_client\n"
        "from gradio_client import Client\n\n"
        f"client = Client({_python(f'{address}/')}, verbose=False)\n"
        "answer = client.predict(\n"
        f"{_arguments(arguments)}"
        '    api_name="/generate_text",\n'
        ")\n"
        'print(answer["text"])\n'
        'for step in answer["routing"]["steps"]:\n'
        '    print(repr(step["t"]), step["e"])  # the experts of each layer, counted from 0\n'
    )


def transformers(place: Place, request: Request, note: str = "") -> str:
    """Python with transformers, which needs the release and not this page.

    Args:
        note: a comment for a place that is not known.
    """
    drawn = request.sampling.temperature > 0
    settings = _settings(request)
    seed = settings.pop("seed")
    if drawn:
        settings = {"do_sample": True, "top_k": request.sampling.top_k} | settings  # else it would take the top 50
    else:
        settings = {"do_sample": False} | {
            name: value for name, value in settings.items() if name not in ("temperature", "top_k", "top_p", "min_p")
        }
    pin = f", revision={_python(place.revision)}" if place.revision else ""
    return (
        "# pip install torch transformers\n"
        f"from transformers import AutoModelForCausalLM, AutoTokenizer{', set_seed' if drawn else ''}\n\n"
        f"name = {_python(place.name)}{'' if place.known else f'  # {note}'}\n"
        f"model = AutoModelForCausalLM.from_pretrained(name{pin}, trust_remote_code=True)\n"
        f"tokenizer = AutoTokenizer.from_pretrained(name{pin}, trust_remote_code=True)\n\n"
        f"prompt = {_python(request.prompt)}\n"
        'inputs = tokenizer(prompt, return_tensors="pt")\n'
        f"{f'set_seed({seed})' + chr(10) if drawn else ''}"
        "output = model.generate(\n"
        "    **inputs,\n"
        f"{_arguments(settings)}"
        ")\n"
        "print(tokenizer.decode(output[0, inputs.input_ids.shape[1] :], skip_special_tokens=True))\n"
    )


def mcp_configuration(address: str) -> str:
    """What programs with MCP ask for."""
    return _json({"mcpServers": {"axion": {"type": "http", "url": f"{address}{MCP_PATH}/"}}})


def mcp_arguments(model: str, request: Request) -> str:
    """The arguments of a call of the tool `generate_text`."""
    return _json({"prompt": request.prompt, "model": model} | _settings(request) | {"routing": True})


def _settings(request: Request) -> dict[str, int | float]:
    """Those that make a difference, and those of ALWAYS."""
    default = asdict(Sampling())
    values = asdict(request.sampling)
    return {name: value for name, value in values.items() if name in ALWAYS or value != default[name]}


def _openai_body(model: str, request: Request) -> dict[str, object]:
    settings = {NAMES[name]: value for name, value in _settings(request).items()}
    return {"model": model, "prompt": request.prompt} | settings


def _arguments(values: Mapping[str, object]) -> str:
    return "".join(f"    {name}={_python(value)},\n" for name, value in values.items())


def _python(value: object) -> str:
    """A literal; of texts, in double quotes where that needs no escapes, as people write them."""
    if isinstance(value, str) and '"' not in value and "'" not in value:
        return f'"{repr(value)[1:-1]}"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_python(name)}: {_python(part)}" for name, part in value.items()) + "}"
    return repr(value)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
