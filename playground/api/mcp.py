"""What programs may ask of the page: three functions, over Gradio's own API and, where `mcp` is installed, over MCP.

Their names, parameters and docstrings are what a language model reads that is to use them. Both ways share the page's
queue, its validation and the limits of visitors; every mistake is one line.
"""

import inspect
import json
import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, fields
from typing import NoReturn, TypeVar

import gradio as gr

from axion.errors import AxionError
from axion.inference.sampling import Sampling
from playground import GENERATIONS_AT_ONCE
from playground.api.responses import FINISH, ROUTING_HEAD
from playground.content.experts import describe_experts
from playground.generate.catalogue import Catalogue, OpenModel
from playground.generate.chat import can_chat
from playground.generate.events import live_events
from playground.generate.rate_limits import Visitors
from playground.generate.request import LIMITS, Refusal, Request, read_request
from playground.locales import DEFAULT
from playground.locales.controls import TEXT as HINTS
from playground.server.admission import address_of, answer
from playground.server.context import GENERATION, House

FAVOURITES = 8
"""So many favourite tokens of an expert are told; the page shows more."""

log = logging.getLogger(__name__)
F = TypeVar("F", bound=Callable)


def build_tools(house: House, page: gr.Blocks) -> None:
    """Add the public functions to the open page."""
    tools = Tools(house.catalogue, house.visitors)
    generation = gr.api(tools.generate_text, concurrency_limit=GENERATIONS_AT_ONCE, concurrency_id=GENERATION)
    # `gr.api` takes no validator; without one, calls too many would fill the page's queue before they are refused.
    page.fns[generation["id"]].validator = tools.admit
    gr.api(tools.list_models)
    gr.api(tools.show_experts)


def _describes_settings(function: F) -> F:
    """Puts a line for each sampling setting where the docstring says {settings}: Gradio reads one line a parameter."""
    lines = []
    for field in fields(Sampling):
        limit = LIMITS[field.name]
        hint, span = HINTS[DEFAULT][f"{field.name}_hint"], f"{limit.low:g} to {limit.high:.16g}"
        lines.append(f"{field.name}: {hint}. {span}, default {field.default:g}.")
    # Indented like the lines around it, which `inspect.getdoc` then takes away.
    function.__doc__ = inspect.getdoc(function).format(settings="\n    ".join(lines))
    return function


class Tools:
    """The functions; each answers with one JSON object, or raises gr.Error with one line."""

    def __init__(self, catalogue: Catalogue, visitors: Visitors) -> None:
        self._catalogue, self._visitors = catalogue, visitors

    @_describes_settings
    def generate_text(
        self,
        prompt: str,
        visitor: gr.Request,
        model: str = "",
        temperature: float = Sampling.temperature,
        top_k: int = Sampling.top_k,
        top_p: float = Sampling.top_p,
        min_p: float = Sampling.min_p,
        repetition_penalty: float = Sampling.repetition_penalty,
        max_new_tokens: int = Sampling.max_new_tokens,
        min_new_tokens: int = Sampling.min_new_tokens,
        seed: int = Sampling.seed,
        routing: bool = False,
    ) -> dict:
        """Continue a text with one of this page's tiny Axion language models (a mixture of experts, as DeepSeek-V3).

        The models know no facts and follow no instructions; they were taught sums and short word problems in Portuguese
        and English, written as "# Pergunta:\\nQuanto é 5 + 3?\\n--\\n# Resposta:\\n". The same model, prompt, settings
        and seed give the same text. Answers with an object: model, text (the new text alone), ended_by (eos: the model
        ended it; length: max_new_tokens; context: the model's context is full; time: the server's limit), finish_reason
        (stop or length), prompt_tokens, completion_tokens, sampling (every setting that was used, with the seed). With
        routing=true also routing: the number of layers with experts, first_layer (the number of the first of them, from
        1), experts a layer, experts_per_token, shared_experts, bias [layer][expert] (added to an expert's affinity only
        to choose), and steps, one object for each token of prompt and text: i position, id, t text, prompt (whether it
        is the prompt's), p probability, alt the likeliest tokens as [id, text, probability], e the experts that read
        it [layer][choice], heaviest first and counted from 0 (0 is E1 on the page), g their weights, a their
        affinities, d the experts that the bias displaced [layer], s seconds.

        Args:
            prompt: The text to continue, exactly as the model shall read it; it must fit into the model's context.
            model: A name that list_models gives; empty for the first model that works.
            {settings}
            routing: Whether to tell which experts read each token. This makes the answer long. Default false.
        """
        settings = {
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "repetition_penalty": repetition_penalty,
            "max_new_tokens": max_new_tokens,
            "min_new_tokens": min_new_tokens,
            "seed": seed,
        }
        try:
            request = read_request(prompt, settings)
            if not isinstance(routing, bool):
                raise AxionError("routing must be true or false")
            return generate(self._open(model), request, routing)
        except AxionError as error:
            _refuse(error)

    def admit(self, prompt: object, visitor: gr.Request, *others: object) -> list[dict]:
        """Count a call of `generate_text` before it waits, also one with a mistake, or say that it is one too many."""
        fields = ("prompt", *map(str, range(len(others))))
        try:
            self._visitors.admit(address_of(visitor))
        except AxionError as error:
            return answer({"prompt": str(error)}, fields)
        return answer({}, fields)

    def list_models(self) -> dict:
        """List the language models that this page offers, with their sizes.

        Answers with an object: models, a list of objects. Each has name (as the other tools take it), default (whether
        it is the one that is used where none is named), parameters with total, active (those that one token passes
        through) and embedding (the part of total in the token embedding), layers (those with experts), first_layer (the
        number of the first of them, from 1), experts in each such layer, experts_per_token, shared_experts,
        context_tokens, and can_chat (whether it was taught to hold a conversation; others only continue a text). A
        model that cannot be opened has name and error.
        """
        default = self._catalogue.default()
        return {"models": [self._describe(name, name == default) for name in self._catalogue.names]}

    def show_experts(self, model: str = "") -> dict:
        """Show what each expert of a model likes to read and how much of the work it does, as measured at its release.

        Answers with an object: model, load_sets (on which texts the load was measured), and layers, a list of objects
        with layer (its number) and experts. Each expert has expert (E1 is the first), load (set of texts → its work in
        times of its fair share, so 1 is fair), share (the part of the release's sample that it read), and favourites:
        tokens that it reads more often than chance would have it, each with text, count (how often it read it) and
        lift (times as often as its share would give). null stands for what the release has not measured.

        Args:
            model: A name that list_models gives; empty for the first model that works.
        """
        try:
            return summarise_experts(self._open(model))
        except AxionError as error:
            _refuse(error)

    def _describe(self, name: str, default: bool) -> dict:
        try:
            model = self._open(name)
        except AxionError as error:
            return {"name": name, "error": str(error)}
        facts = model.facts
        return {
            "name": name,
            "default": default,
            "parameters": {"total": facts.total, "active": facts.active, "embedding": facts.embedding},
            "layers": facts.layers,
            "first_layer": facts.first_layer,
            "experts": facts.experts,
            "experts_per_token": facts.experts_per_token,
            "shared_experts": facts.shared_experts,
            "context_tokens": facts.context,
            "can_chat": can_chat(model),
        }

    def _open(self, name: object) -> OpenModel:
        name = self._catalogue.default() if name == "" else name
        try:
            return self._catalogue.open(name)
        except Refusal:
            raise
        except AxionError as error:  # its release is broken, and how is the operator's business
            log.error("%s cannot be opened: %s", name, error)
            raise AxionError(f"the model {name} cannot be opened; the server's log says more") from None


def _refuse(error: AxionError) -> NoReturn:
    raise gr.Error(str(error), print_exception=False) from None


def generate(model: OpenModel, request: Request, routing: bool = False) -> dict:
    """The whole answer to a checked wish; its shape is told in `Tools.generate_text`.

    Raises:
        AxionError: the prompt leaves no room in the model's context, or the model failed.
    """
    start: dict = {}
    steps, end = [], {}
    with closing(live_events(model, request, cut=False)) as events:
        for event in events:
            kind = event.pop("kind")
            if kind == "error":
                raise AxionError(event["message"])
            if kind == "start":
                start = event
            elif kind == "step":
                steps.append(event)
            else:
                end = event
    drawn = [step for step in steps if not step["prompt"]]
    told = {
        "model": model.name,
        "text": "".join(step["t"] for step in drawn),
        "finish_reason": FINISH[end["reason"]],
        "ended_by": end["reason"],
        "prompt_tokens": len(steps) - len(drawn),
        "completion_tokens": len(drawn),
        "sampling": asdict(request.sampling),
    }
    return told | ({"routing": {name: start[name] for name in ROUTING_HEAD} | {"steps": steps}} if routing else {})


def summarise_experts(model: OpenModel) -> dict:
    """What the page's tab tells of the experts, in short. Raises AxionError where the release's numbers are broken."""
    told = describe_experts(model)
    layers = [
        {
            "layer": told["first_layer"] + row,
            "experts": [_summarise(told, row, expert) for expert in range(told["experts"])],
        }
        for row in range(told["layers"])
    ]
    return {"model": model.name, "load_sets": list(told["load"]), "layers": layers}


def _summarise(told: dict, row: int, expert: int) -> dict:
    card = told["cards"] and told["cards"][row][expert]
    return {
        "expert": f"E{expert + 1}",
        "load": {name: layers[row][expert] for name, layers in told["load"].items()} or None,
        "share": card["share"] if card else None,
        "favourites": card
        and [{"text": text, "count": count, "lift": lift} for text, count, _, lift, _ in card["tokens"][:FAVOURITES]],
    }


def answer_in_json(page: gr.Blocks) -> None:
    """Let the page's MCP server, once it is launched, write results as JSON; Gradio's own way is Python's `repr`."""
    from mcp.types import TextContent

    def to_content(data: list, root_url: str) -> list[TextContent]:
        return [TextContent(type="text", text=json.dumps(value, ensure_ascii=False)) for value in data]

    page.mcp_server_obj.postprocess_output_data = to_content
