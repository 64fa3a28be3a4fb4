"""Names, permissions and errors, with the loopback Hub."""

from json import JSONDecodeError

import httpx2
import pytest
from huggingface_hub import HfApi, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import _http

from axion.errors import AxionError
from publish.hub import client as publish_hub
from publish.hub import errors
from publish.hub.errors import hub_errors
from tests.hub import accounts

REPO = "someone/Tiny"
SECRET = "hf_" + "s" * 34


def refusal(status: int, message: str = "no", **headers) -> HfHubHTTPError:
    request = httpx2.Request("POST", "http://hub/api")
    response = httpx2.Response(status, request=request, headers=headers)
    return HfHubHTTPError(message, response=response, server_message=message)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (refusal(401), "hf auth login"),
        (refusal(402), "paid plan"),
        (refusal(403, "You are not in the team"), "You are not in the team; the token has no write access: give"),
        (refusal(412), "has changed in the meantime"),
        (refusal(429), "wait a few minutes"),
        (refusal(500, "it is broken\nmore lines"), "it is broken$"),
        (OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set"),
        (httpx2.ConnectError("no route to host"), "cannot be reached"),
        (ConnectionResetError(104, "Connection reset by peer"), "cannot be reached"),
        (RuntimeError("an upload of hf_xet failed"), "cannot be reached"),
        (JSONDecodeError("Expecting value", "<html>", 0), "did not answer about someone/Tiny in JSON"),
        (KeyError("sha"), r"answer about someone/Tiny cannot be read \(KeyError"),
        (refusal(429, **{"RateLimit": '"api";r=0;t=3000'}), "it asks to wait 3000 seconds"),
        (refusal(400, f"bad token {SECRET}"), "bad token hf_…$"),
    ],
)
def test_errors_are_one_line_of_advice_without_a_token(error, advice):
    with pytest.raises(AxionError, match=advice) as caught, hub_errors(REPO):
        raise error
    assert "\n" not in str(caught.value) and SECRET not in str(caught.value)


@pytest.mark.parametrize("repo_id", ["", "Axion1", "a/b/c", "some one/Axion1", "someone/Axion1..x", "someone/-Axion1"])
def test_repository_names_that_the_hub_would_refuse_are_rejected(repo_id):
    with pytest.raises(AxionError, match="--repo-id"):
        publish_hub.check_repo_id(repo_id)


def test_a_name_with_a_dot_is_accepted():
    publish_hub.check_repo_id("someone/Axion1-v0.1")


@pytest.mark.parametrize(
    ("token", "line"),
    [
        ("UNKNOWN", "token is invalid"),
        ("STRANGER", "publish as stranger/Tiny"),
        ("SOMEONE_READS", "give the token write access to the repositories of someone"),
        ("SOMEONE_FINE", "give the token write access to the repositories of someone"),
    ],
)
def test_permissions_are_checked_before_any_work(hub, monkeypatch, token, line):
    monkeypatch.setenv("HF_TOKEN", getattr(accounts, token))
    with pytest.raises(AxionError, match=line) as caught:
        publish_hub.check_access(REPO)
    assert getattr(accounts, token) not in str(caught.value)


@pytest.mark.parametrize("token", ["STRANGER", "SOMEONE_READS", "SOMEONE_FINE"])
def test_somebody_elses_repository_is_refused(hub, monkeypatch, token):
    HfApi().create_repo(REPO)
    monkeypatch.setenv("HF_TOKEN", getattr(accounts, token))
    with pytest.raises(AxionError, match=r"the Hub refused someone/Tiny .*write|is not on the Hub, or"):
        publish_hub.check_access(REPO)


def test_the_users_name_an_organisation_and_a_token_for_one_repository(hub, monkeypatch):
    publish_hub.check_access(REPO)
    publish_hub.check_access("team/Tiny")
    HfApi().create_repo("someone/fine")
    monkeypatch.setenv("HF_TOKEN", accounts.SOMEONE_FINE)
    publish_hub.check_access("someone/fine")


@pytest.mark.parametrize(("permission", "may"), [("repo.write", True), ("repo.content.read", False)])
def test_a_fine_grained_token_for_a_whole_account(permission, may):
    scope = {"entity": {"type": "user", "name": "someone"}, "permissions": [permission]}
    assert publish_hub._can_create({"role": "fineGrained", "fineGrained": {"scoped": [scope]}}, "someone") is may


WRITES = {"accessToken": {"role": "write"}}


@pytest.mark.parametrize(("orgs", "auth"), [(None, WRITES), ([], None)])
def test_a_user_without_organisations_or_rights_is_accepted(hub, orgs, auth):
    assert publish_hub.check_access(REPO, user={"name": "someone", "orgs": orgs, "auth": auth}) is False


@pytest.mark.parametrize(("orgs", "auth"), [([{}], WRITES), (3, WRITES), ([], {"accessToken": "x"})])
def test_an_unreadable_user_is_reported_in_one_line(hub, orgs, auth):
    with pytest.raises(AxionError, match=r"^the Hub's answer about someone/Tiny cannot be read \("):
        publish_hub.check_access(REPO, user={"name": "someone", "orgs": orgs, "auth": auth})


def test_without_a_token_no_request_is_made(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(AxionError, match="hf auth login"):
        publish_hub.check_access(REPO)
    assert hub.log == []


def test_missing_repositories_and_revisions(hub):
    assert publish_hub.head(REPO) is None and publish_hub.tags(REPO, must_exist=False) == {}
    publish_hub.create_repo(REPO)
    assert publish_hub.head(REPO, "v9") is None and len(publish_hub.head(REPO)) == 40


def test_retries_wait_as_long_as_the_hub_asks(monkeypatch):
    slept, answers = [], [refusal(429, **{"RateLimit": '"api";r=0;t=55'}), refusal(503), None]
    monkeypatch.setattr(errors.time, "sleep", slept.append)

    def call():
        if (answer := answers.pop(0)) is not None:
            raise answer
        return "done"

    assert errors.retry(call) == "done" and slept == [55, errors.RETRY_DELAYS[1]]


def test_a_wait_that_the_hub_asks_for_is_reported_and_has_a_limit(monkeypatch, caplog):
    monkeypatch.setattr(errors.time, "sleep", lambda seconds: None)
    answers = [refusal(429, **{"Retry-After": "55"}), refusal(429, **{"Retry-After": "3600"})]

    def call():
        raise answers.pop(0)

    with pytest.raises(HfHubHTTPError):
        errors.retry(call)
    assert answers == [] and [record.getMessage() for record in caplog.records] == [
        "The Hub's rate limit is exceeded, waiting 55 seconds as it asks"
    ]


def test_the_library_does_not_sleep_for_longer_than_that(monkeypatch):
    asked = []

    def refuse(request):
        asked.append(request)
        return httpx2.Response(429, headers={"Retry-After": "3600"}, request=request)

    monkeypatch.setattr(errors, "default_client_factory", lambda: httpx2.Client(transport=httpx2.MockTransport(refuse)))
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: pytest.fail(f"it sleeps for {seconds} seconds"))
    try:
        errors.limit_waits()
        with pytest.raises(HfHubHTTPError):
            _http.http_backoff("GET", "http://hub.invalid/api")
    finally:
        set_client_factory(_http.default_client_factory)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "some/file"), "^some/file: No space left on device$"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "^someone/Tiny: No space left on device$"),
    ],
)
def test_a_full_disk_is_not_reported_as_a_network_error(error, line):
    with pytest.raises(AxionError, match=line), hub_errors(REPO):
        raise error


@pytest.mark.parametrize("on", ["GET /api/whoami-v2", "GET */auth-check/write", "GET */revision/*", "GET */refs"])
def test_an_html_page_instead_of_json_is_reported_in_one_line(hub, monkeypatch, on):
    monkeypatch.setattr(errors.time, "sleep", lambda seconds: None)
    publish_hub.create_repo(REPO)
    hub.fail("not JSON", on, sticky=True)
    reported = []
    for call in (publish_hub.check_access, publish_hub.head, publish_hub.tags):
        try:
            call(REPO)
        except AxionError as error:
            reported.append(str(error))
    # The client does not look at the body of an auth-check.
    assert len(reported) == ("auth-check" not in on) and all("in JSON, as the Hub does" in line for line in reported)
    hub.heal()
    hub.fail("not JSON", on)
    publish_hub.check_access(REPO)
    assert publish_hub.tags(REPO) == {} and publish_hub.head(REPO)


def test_private_requires_a_new_or_private_repository(hub):
    assert publish_hub.check_access(REPO, private=True) is False
    publish_hub.create_repo(REPO, private=True)
    assert publish_hub.check_access(REPO, private=True) is True
    HfApi().update_repo_settings(REPO, private=False)
    for call in (publish_hub.check_access, publish_hub.create_repo):
        with pytest.raises(AxionError, match=r"exists and is public.*make it private in its settings"):
            call(REPO, private=True)


def test_a_pull_request_to_somebody_elses_repository_is_allowed(hub, monkeypatch):
    HfApi().create_repo(REPO)
    monkeypatch.setenv("HF_TOKEN", accounts.STRANGER)
    assert publish_hub.check_access(REPO, pull_request=True) is True
    with pytest.raises(AxionError, match="publish as stranger/other"):
        publish_hub.check_access("someone/other", pull_request=True)


def test_transient_errors_are_retried_and_others_are_not(monkeypatch):
    calls = []
    monkeypatch.setattr(errors.time, "sleep", lambda seconds: None)

    def fail(status):
        calls.append(status)
        raise refusal(status)

    expected = dict.fromkeys(errors.TRANSIENT_STATUSES, len(errors.RETRY_DELAYS) + 1)
    for status, times in {**expected, 403: 1, 412: 1}.items():
        with pytest.raises(HfHubHTTPError):
            errors.retry(lambda status=status: fail(status))
        assert calls.count(status) == times


def test_errors_that_the_client_wraps_at_a_commit_are_unwrapped():
    with pytest.raises(httpx2.HTTPError), publish_hub._commit_errors(REPO):  # transient, so it is retried
        raise JSONDecodeError("an error page", "<html>", 0)
    reported = pytest.raises(AxionError, match=r"the Hub refused someone/Tiny: bad hf_… here")
    with reported as caught, publish_hub._commit_errors(REPO):
        raise ValueError(f"bad {SECRET}\nhere")
    assert "\n" not in str(caught.value)


def test_a_tag_that_somebody_else_created_meanwhile_is_an_error(hub, monkeypatch):
    publish_hub.create_repo(REPO)
    ours = publish_hub.head(REPO)
    answers = iter([{}, {"v0.1": "f" * 40}])
    monkeypatch.setattr(publish_hub, "tags", lambda repo_id: next(answers))
    with pytest.raises(AxionError, match="release tags are never moved"):
        publish_hub.tag(REPO, "v0.1", ours)


def test_a_card_that_the_hub_refuses_is_reported_in_one_line(hub, tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: nonsense\n---\n")
    publish_hub.create_repo(REPO)
    with pytest.raises(AxionError, match=r"the Hub refused someone/Tiny: Invalid metadata.*license") as caught:
        publish_hub.push(tmp_path, REPO, "A card")
    assert "\n" not in str(caught.value)
