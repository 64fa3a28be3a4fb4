"""Programs that make a request, ready to be copied: pure functions from a request to text.

Prompt and settings are quoted as shell words, JSON or Python literals, so that any text survives unchanged.
"""

import json
import shlex
from collections.abc import Mapping

from playground.api.mcp import MCP_PATH
from playground.api.requests import PARAMETER_NAMES
from playground.generate.places import Place
from playground.generate.request import DEFAULTS, Request, settings_of

ALWAYS = ("temperature", "max_new_tokens", "seed")
"""Settings that a snippet names even at their default, because people change these first."""
OPENAI_OWN = ("temperature", "top_p", "max_tokens", "seed")
"""Parameters that OpenAI's library knows; the others go through its `extra_body`."""


def curl(address: str, request: Request) -> str:
    """A shell command; `address` is that of the page, without a trailing slash."""
    body = json.dumps(_openai_body(request), ensure_ascii=False, indent=2)
    return (
        f"curl {shlex.quote(f'{address}/v1/completions')} \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(body)}\n"
    )


def openai(address: str, request: Request) -> str:
    """Python with OpenAI's library: the text, and the experts of each token."""
    body = _openai_body(request)
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
        '    print(repr(step["t"]), step["e"])  # the experts in each layer, counted from 0\n'
    )


def gradio_client(address: str, request: Request) -> str:
    """Python with Gradio's client: the text, and the experts of each token."""
    arguments = _tool_arguments(request)
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
        '    print(repr(step["t"]), step["e"])  # the experts in each layer, counted from 0\n'
    )


def transformers(place: Place, request: Request, note: str = "") -> str:
    """Python with transformers, which needs the release but not this page.

    What is changed in the model is not done there, which a comment says.

    Args:
        note: a comment beside the name of a place that is not known.
    """
    drawn = request.sampling.temperature > 0
    settings = _settings(request)
    seed = settings.pop("seed")
    if drawn:
        settings = {"do_sample": True, "top_k": request.sampling.top_k} | settings  # transformers' default is 50
    else:
        settings = {"do_sample": False} | {
            name: value for name, value in settings.items() if name not in ("temperature", "top_k", "top_p", "min_p")
        }
    pin = f", revision={_python(place.revision)}" if place.revision else ""
    untold = f"# reads the model as it is, without {request.tampering}\n" if request.tampering else ""
    return (
        "# pip install torch transformers\n"
        f"{untold}"
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
    """The entry for the configuration of an MCP client."""
    return _json({"mcpServers": {"axion": {"type": "http", "url": f"{address}{MCP_PATH}/"}}})


def mcp_arguments(request: Request) -> str:
    """The arguments of a call of the tool `generate_text`."""
    return _json(_tool_arguments(request))


def _tool_arguments(request: Request) -> dict[str, object]:
    changes: dict[str, object] = {**request.tampering.to_texts()}
    if request.tampering.top_experts is not None:
        changes["top_experts"] = request.tampering.top_experts  # the tool takes a number
    return {"prompt": request.prompt, "model": request.model, **_settings(request), **changes, "routing": True}


def _settings(request: Request) -> dict[str, int | float]:
    """The settings that are not at their default, and those of ALWAYS."""
    values = settings_of(request.sampling)
    return {name: value for name, value in values.items() if name in ALWAYS or value != DEFAULTS[name]}


def _openai_body(request: Request) -> dict[str, object]:
    settings = {PARAMETER_NAMES[name]: value for name, value in _settings(request).items()}
    return {"model": request.model, "prompt": request.prompt, **settings, **request.tampering.to_texts()}


def _arguments(values: Mapping[str, object]) -> str:
    return "".join(f"    {name}={_python(value)},\n" for name, value in values.items())


def _python(value: object) -> str:
    """A Python literal, in double quotes where that needs no escapes."""
    if isinstance(value, str) and '"' not in value and "'" not in value:
        return f'"{repr(value)[1:-1]}"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_python(name)}: {_python(part)}" for name, part in value.items()) + "}"
    return repr(value)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
