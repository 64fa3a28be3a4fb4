"""Three public functions for programs: over Gradio's API and, where `mcp` is installed, over MCP.

Their names, parameters and docstrings are the documentation that a language model reads before it calls them. They
share the page's queue, validation and rate limits; every mistake is reported in one line.
"""

import inspect
import json
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from typing import Any, NoReturn, TypeVar

import gradio as gr
from gradio.events import api as add_function

from axion.errors import AxionError
from axion.inference.sampling import Sampling
from axion.tampering import NAMES
from playground.api.responses import FINISH, ROUTING_HEAD
from playground.content.experts import describe_experts
from playground.generate.catalogue import Catalogue, OpenModel
from playground.generate.events import live_events
from playground.generate.request import DEFAULTS, LIMITS, Request, read_request, settings_of
from playground.locales import DEFAULT, format_number, texts

MCP_PATH = "/gradio_api/mcp"
"""Where Gradio serves MCP."""
FAVOURITES = 8
"""How many favourite tokens of an expert are returned; the page shows more."""

F = TypeVar("F", bound=Callable)


def has_mcp() -> bool:
    """Whether the package `mcp` is installed."""
    try:
        return find_spec("mcp") is not None
    except ValueError:  # it was imported and then taken out of `sys.modules`
        return False


def build_tools(page: gr.Blocks, catalogue: Catalogue, admit: Callable[..., list[dict]], **queue: Any) -> None:
    """Add the public functions to the open page.

    Args:
        admit: the validator of `generate_text`, which counts a call before it waits in the queue.
        queue: the settings of Gradio's queue for `generate_text`.
    """
    tools = Tools(catalogue)
    generation = add_function(tools.generate_text, **queue)
    # `gr.api` takes no validator; without one, excess calls would fill the page's queue before they are refused.
    page.fns[generation["id"]].validator = admit
    add_function(tools.list_models)
    add_function(tools.show_experts)


def _describes_settings(function: F) -> F:
    """Replaces {settings} in the docstring by one line per setting, which is the form that Gradio reads."""
    hints, lines = texts("controls", DEFAULT), []
    for name, limit in LIMITS.items():
        low, high, default = (
            format_number(value, DEFAULT, grouped=False) for value in (limit.low, limit.high, DEFAULTS[name])
        )
        lines.append(f"{name}: {hints[f'{name}_hint']}. {low} to {high}, default {default}.")
    # Indented like the lines around it; `inspect.getdoc` removes the indentation later.
    function.__doc__ = (inspect.getdoc(function) or "").format(settings="\n    ".join(lines))
    return function


class Tools:
    """The functions. Each returns one JSON object, or raises gr.Error with one line."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    @_describes_settings
    def generate_text(
        self,
        prompt: str,
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
        num_loops: int = Sampling.num_loops,  # this and those below came later, so they are last
        mute: str = "",
        force: str = "",
        top_experts: int = 0,
        bias: str = "",
        scale: str = "",
        mute_head: str = "",
    ) -> dict:
        """Continue a text with one of this page's tiny Axion language models (mixtures of experts, like DeepSeek-V3).

        The models know no facts and follow no instructions. They were trained on sums and short word problems in
        Portuguese and English, written as "# Pergunta:\\nQuanto é 5 + 3?\\n--\\n# Resposta:\\n". The same model,
        prompt, settings and seed give the same text. Returns an object: model, text (the new text alone), ended_by
        (eos: the model ended the text; length: max_new_tokens; context: the model's context is full; time: the server's
        time limit), finish_reason (stop or length), prompt_tokens, completion_tokens, sampling (every setting that was
        used, with the seed), tampering (what was changed in the model; an empty object where nothing was). With
        routing=true also routing: layers (how many rows the lists below have), rows (the [layer, loop] of each row,
        from 1), first_layer (the number of the first layer with experts), experts (per layer), experts_per_token,
        shared_experts, bias [row][expert] (added to an expert's affinity when experts are chosen, but not to its
        weight), and steps, one object for each token of prompt and text: i position, id, t text, prompt (whether it
        belongs to the prompt), p probability, alt the most likely tokens as [id, text, probability], e the experts that
        the token is routed to [row][choice], highest weight first, numbered from 0 (0 is E1 on the page), g their
        weights, a their affinities, d the experts that the bias displaced [row], s seconds.

        Args:
            prompt: The text to continue, exactly as the model reads it; it must fit into the model's context.
            model: A name from list_models; empty for the first model that works.
            {settings}
            routing: Whether to return the routing of each token, which makes the answer long. Default false.
            mute: Experts to take away, such as L2.E4,L3.E1 (layer 2, expert 4); the router chooses among the others.
            force: Experts that every token is routed to in their layer, such as L1.E2.
            top_experts: Routed experts per token in each layer; 0 for as many as the model has.
            bias: The balancing bias of the choice: off, or numbers for experts, such as L2.E4=0.1.
            scale: Factors on experts' weights, after these were normalised, such as L1.E2=0.5.
            mute_head: Attention heads to take away, such as L1.H3 (layer 1, head 3).
        """
        settings = {
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "repetition_penalty": repetition_penalty,
            "max_new_tokens": max_new_tokens,
            "min_new_tokens": min_new_tokens,
            "num_loops": num_loops,
            "seed": seed,
        }
        tampering = dict(zip(NAMES, (mute, force, top_experts or None, bias, scale, mute_head), strict=True))
        try:
            opened = self._open(model)
            asked = {"model": opened.name, "prompt": prompt, "sampling": settings, "tampering": tampering}
            request = read_request(self._catalogue, asked)
            if not isinstance(routing, bool):
                raise AxionError("routing must be true or false")
            return generate(opened, request, routing)
        except AxionError as error:
            _refuse(error)

    def list_models(self) -> dict:
        """List the language models of this page, with their sizes.

        Returns an object: models, a list of objects. Each has name (the argument of the other tools), default (whether
        it is used when none is named), parameters with total, active (used for one token) and embedding (the part of
        total in the token embedding), layers (how many have experts), first_layer (the number of the first of them,
        from 1; null without any), experts (in each of these layers), experts_per_token, shared_experts,
        context_tokens, and can_chat (whether it was trained to hold a conversation; others only continue a text). A
        model that has not been downloaded yet has only name and default, and one that cannot be opened has name and
        error.
        """
        default = self._catalogue.default()
        return {"models": [self._describe(name, name == default) for name in self._catalogue.names]}

    def show_experts(self, model: str = "") -> dict:
        """Show which tokens each expert of a model favours and how large its load is, as measured for the release.

        Returns an object: model, load_sets (the texts on which the load was measured), and layers, a list of objects
        with layer (its number) and experts. Each expert has expert (E1 is the first), load (set of texts → tokens
        routed to it, as a multiple of its fair share, so 1 is fair), share (the fraction of the release's sample that
        was routed to it), and favourites: tokens that are routed to it more often than chance explains, each with text,
        count (how often) and lift (relative to its share). null stands for what the release has not measured.

        Args:
            model: A name from list_models; empty for the first model that works.
        """
        try:
            return summarise_experts(self._open(model))
        except AxionError as error:
            _refuse(error)

    def _describe(self, name: str, default: bool) -> dict:
        try:
            known = self._catalogue.facts_for_program(name)
        except AxionError as error:
            return {"name": name, "error": str(error)}
        if known is None:
            return {"name": name, "default": default}
        facts, can_chat = known
        return {
            "name": name,
            "default": default,
            "parameters": {"total": facts.total, "active": facts.active, "embedding": facts.embedding},
            "layers": facts.mixture_layers,
            "first_layer": facts.first_layer if facts.mixture_layers else None,
            "experts": facts.experts,
            "experts_per_token": facts.experts_per_token,
            "shared_experts": facts.shared_experts,
            "context_tokens": facts.context,
            "can_chat": can_chat,
        }

    def _open(self, name: object) -> OpenModel:
        return self._catalogue.open_for_program(self._catalogue.default() if name == "" else name)


def _refuse(error: AxionError) -> NoReturn:
    raise gr.Error(str(error), print_exception=False) from None


def generate(model: OpenModel, request: Request, routing: bool = False) -> dict:
    """The whole answer to a checked request; `Tools.generate_text` describes its form.

    Args:
        model: the one that `request` names, opened.

    Raises:
        AxionError: the prompt leaves no room in the model's context, or the model failed.
    """
    start, steps, end = {}, [], {}
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
    answer = {
        "model": request.model,
        "text": "".join(step["t"] for step in drawn),
        "finish_reason": FINISH[end["reason"]],
        "ended_by": end["reason"],
        "prompt_tokens": len(steps) - len(drawn),
        "completion_tokens": len(drawn),
        "sampling": settings_of(request.sampling),
        "tampering": request.tampering.to_texts(),
    }
    if routing:
        answer["routing"] = {name: start[name] for name in ROUTING_HEAD} | {"steps": steps}
    return answer


def summarise_experts(model: OpenModel) -> dict:
    """The facts of the page's Experts tab, in short. Raises AxionError where the release's numbers are broken."""
    described = describe_experts(model)
    layers = [
        {
            "layer": layer,
            **({"loop": loop} if model.facts.is_looped else {}),
            "experts": [_summarise(described, row, expert) for expert in range(described["experts"])],
        }
        for row, (layer, loop) in enumerate(described["rows"])
    ]
    return {"model": model.name, "load_sets": list(described["load"]), "layers": layers}


def _summarise(described: dict, row: int, expert: int) -> dict:
    card = described["cards"] and described["cards"][row][expert]
    return {
        "expert": f"L{described['rows'][row][0]}.E{expert + 1}",
        "load": {name: layers[row][expert] for name, layers in described["load"].items()} or None,
        "share": card["share"] if card else None,
        "favourites": card
        and [{"text": text, "count": count, "lift": lift} for text, count, _, lift, *_ in card["tokens"][:FAVOURITES]],
    }


def answer_in_json(page: gr.Blocks) -> None:
    """Make the MCP server of a launched page return JSON, where Gradio itself would return Python's `repr`."""
    from mcp.types import TextContent

    def to_content(data: list, root_url: str) -> list[TextContent]:
        return [TextContent(type="text", text=json.dumps(value, ensure_ascii=False)) for value in data]

    setattr(page.mcp_server_obj, "postprocess_output_data", to_content)  # noqa: B010 (Gradio's class declares a method)
