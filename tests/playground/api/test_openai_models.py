"""Models, methods and paths of the OpenAI-compatible API, and the API on the page's server."""

import openai
import pytest

from tests.playground.api.openai_server import check_error, good


def test_models(client):
    assert [model.id for model in client.models.list()][:4] == ["plain", "endless", "broken", "chatty"]
    assert client.models.retrieve("plain").object == "model"
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("gpt-4")
    assert error.value.code == "model_not_found"


def test_methods_and_addresses(http):
    for path, method, allowed in [
        ("/completions", "GET", "POST, OPTIONS"),
        ("/chat/completions", "DELETE", "POST, OPTIONS"),
        ("/models", "POST", "GET, OPTIONS"),
        ("/models/plain", "PUT", "GET, OPTIONS"),
    ]:
        answer = http.request(method, path)
        check_error(answer, 405)
        assert answer.headers["allow"] == allowed
    assert http.options("/completions").headers["allow"] == "POST, OPTIONS"
    check_error(http.post("/embeddings", json={}), 404)
    check_error(http.post("/completions", json=good(model="../plain")), 404, "model", "model_not_found")


def test_a_broken_model_is_reported_without_details(http, caplog):
    assert "broken" in check_error(http.post("/completions", json=good(model="broken")), 500)
    assert "config.json" in caplog.text


def test_the_page_server_includes_the_api(visitor):
    names = [model["id"] for model in visitor.get("/v1/models").json()["data"]]
    assert names[0] == "plain"
    answer = visitor.post("/v1/completions", json=good())
    assert answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] >= 1
    check_error(visitor.get("/v1/completions"), 405)
    check_error(visitor.get("/v1/engines"), 404)


def test_only_local_pages_may_call_a_local_server(visitor):
    def allowed(origin: str, host: str | None = None) -> str | None:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"} | ({"Host": host} if host else {})
        return visitor.options("/v1/completions", headers=headers).headers.get("access-control-allow-origin")

    assert allowed("https://school.example", host="axion.example") == "https://school.example"
    assert allowed("http://localhost:8000") == "http://localhost:8000"
    assert allowed("https://school.example") is None
