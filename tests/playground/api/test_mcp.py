"""The tools as seen by a real Model Context Protocol client."""

import json
import random
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count

import httpx
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from axion.inference.sampling import Sampling
from axion.inference.stream import stream
from axion.release import open_release
from axion.tampering import NAMES
from playground.api.mcp import MCP_PATH
from playground.generate.rate_limits import BURST
from playground.generate.request import LIMITS
from playground.server.corrections import McpForwardedFor
from tests.playground.conftest import run_async

_visitors = (f"192.0.2.{number}" for number in count(1))


@asynccontextmanager
async def connected(address: str, visitor: str):
    async with (
        httpx.AsyncClient(headers={"X-Forwarded-For": visitor}, timeout=60) as http,
        streamable_http_client(f"{address}{MCP_PATH}/", http_client=http) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        yield session


def talk(address: str, conversation: Callable[[ClientSession], Awaitable], visitor: str = "") -> object:
    """Run a client session and return its result; by default as a new visitor."""

    async def run() -> object:
        async with connected(address, visitor or next(_visitors)) as session:
            return await conversation(session)

    return run_async(run())


def call(server, tool: str, visitor: str = "", **arguments: object) -> CallToolResult:
    return talk(server.address, lambda session: session.call_tool(tool, arguments), visitor)


def content(result: CallToolResult) -> dict:
    assert not result.isError, result.content[0].text
    [part] = result.content
    return json.loads(part.text)


def test_the_tools_are_the_three_documented_functions(server):
    tools = {tool.name: tool for tool in talk(server.address, lambda session: session.list_tools()).tools}
    assert set(tools) == {"generate_text", "list_models", "show_experts"}
    assert all(len(tool.description) > 200 for tool in tools.values())
    schema = tools["generate_text"].inputSchema
    assert schema["required"] == ["prompt"]
    assert set(schema["properties"]) == {"prompt", "model", *LIMITS, "routing", *NAMES}
    for name, limit in LIMITS.items():
        default = f"{getattr(Sampling(), name):g}"
        told = schema["properties"][name]["description"]
        assert f"{limit.low:g} to {limit.high:.16g}, default {default}." in told
        assert "{" not in told
    whole = {name for name, entry in schema["properties"].items() if entry["type"] == "integer"}
    assert whole == {"top_k", "max_new_tokens", "min_new_tokens", "num_loops", "seed", "top_experts"}
    assert all(entry["description"] for entry in schema["properties"].values())


def test_there_are_no_resources_and_no_prompts(server):
    async def ask(session: ClientSession) -> list:
        resources, templates = await session.list_resources(), await session.list_resource_templates()
        return [*resources.resources, *templates.resourceTemplates, *(await session.list_prompts()).prompts]

    assert talk(server.address, ask) == []


def test_the_routing_matches_the_stream(server, releases):
    seed, prompt = random.randrange(2**53), f"# Pergunta:\nQuanto é {random.randrange(90)} + {random.randrange(9)}?\n"
    settings = {"temperature": 1.2, "top_p": 0.95, "max_new_tokens": 8, "seed": seed}
    answer = content(call(server, "generate_text", prompt=prompt, model="endless", routing=True, **settings))
    release = open_release(releases / "endless")
    steps = list(stream(release.model, release.tokenizer, prompt, Sampling(**settings)))
    told = [{name: value for name, value in step.items() if name != "s"} for step in answer["routing"]["steps"]]
    assert told == json.loads(json.dumps([step.to_record() for step in steps]))
    assert answer["text"] == "".join(step.text for step in steps if not step.is_prompt)
    assert {"layers", "first_layer", "experts", "bias"} < set(answer["routing"])


def test_the_bundled_model_answers_a_sum_and_is_listed_by_the_tools(server):
    a, b = random.randrange(10), random.randrange(10)
    prompt = f"# Pergunta:\nQuanto é {a} + {b}?\n--\n# Resposta:\n"
    answer = content(call(server, "generate_text", prompt=prompt, model="axion1-v0.1"))
    assert (answer["text"].strip(), answer["ended_by"], answer["finish_reason"]) == (str(a + b), "eos", "stop")
    names = [model["name"] for model in content(call(server, "list_models"))["models"]]
    assert "axion1-v0.1" in names
    assert len(content(call(server, "show_experts", model="axion1-v0.1"))["layers"]) == 4


def test_any_text_is_returned_as_json(server, releases):
    prompt = '# "\'\\ {"a": None} \n\t</script> é 😀'
    answer = content(call(server, "generate_text", prompt=prompt, model="plain", max_new_tokens=4, routing=True))
    read = [step["t"] for step in answer["routing"]["steps"] if step["prompt"]]
    tokenizer = open_release(releases / "plain").tokenizer
    assert "".join(read) == tokenizer.decode(tokenizer(prompt).input_ids, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "'prompt' is a required property"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": 5}, "5 is not of type 'string'"),
        ({"prompt": "a", "seed": 1.5}, "1.5 is not of type 'integer'"),
        ({"prompt": "a", "seed": -1}, "seed must be a whole number from 0 to 9007199254740991, not -1"),
        ({"prompt": "a", "top_k": True}, "True is not of type 'integer'"),
        ({"prompt": "a", "temperature": None}, "None is not of type 'number'"),
        ({"prompt": "a", "temperature": 9}, "temperature must be a number from 0 to 2, not 9"),
        ({"prompt": "a", "model": "nope"}, "this page does not offer that model"),
        ({"prompt": "# 1 " * 200}, "tokens, the model's context"),
        ({"prompt": "a" * 1_000_000}, "the prompt has 1,000,000 characters; the limit is 8,000"),
    ],
)
def test_a_mistake_is_reported_in_one_line(server, arguments, told):
    result = call(server, "generate_text", **arguments)
    assert result.isError
    [part] = result.content
    assert told in part.text
    assert "\n" not in part.text


def test_nan_and_a_huge_prompt_do_not_break_the_server(server):
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    call_it = (
        '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "generate_text", "arguments": %s}}'
    )
    for arguments in ('{"prompt": "a", "top_p": NaN}', json.dumps({"prompt": "a" * 8_000_000})):
        answer = httpx.post(f"{server.address}{MCP_PATH}/", content=call_it % arguments, headers=headers, timeout=60)
        assert answer.status_code in (200, 400, 413)
        assert "Traceback" not in answer.text
        assert '"isError":false' not in answer.text
    assert not call(server, "list_models").isError


def test_mcp_clients_are_rate_limited_by_their_own_address(server):
    arguments = {"prompt": "# ", "model": "plain", "max_new_tokens": 1}
    greedy = next(_visitors)

    async def ask_often(session: ClientSession) -> CallToolResult:
        for _ in range(3 * BURST):
            result = await session.call_tool("generate_text", arguments)
            if result.isError:
                return result
        pytest.fail("no call was rate-limited")

    assert "too many requests; try again in" in talk(server.address, ask_often, greedy).content[0].text
    assert not call(server, "generate_text", **arguments).isError


def test_clients_cannot_forge_their_address():
    seen = []

    async def app(scope, receive, send) -> None:
        seen.append(scope["headers"])

    def ask(path: str) -> list:
        claim = [(b"x-forwarded-for", b"1.2.3.4"), (b"accept", b"*/*"), (b"x-forwarded-for", b"5.6.7.8")]
        scope = {"type": "http", "path": path, "headers": claim, "client": ("203.0.113.9", 1)}
        run_async(McpForwardedFor(app)(scope, None, None))
        return [value for name, value in seen[-1] if name == b"x-forwarded-for"]

    assert ask(f"{MCP_PATH}/") == [b"203.0.113.9"]
    assert ask(f"{MCP_PATH}/messages/") == [b"203.0.113.9"]
    assert ask("/gradio_api/queue/join") == [
        b"1.2.3.4",
        b"5.6.7.8",
    ]  # here the server itself decides which proxies to trust
