"""Secrets and local paths are found in every form and every file, are never shown, and cause no false positives."""

import json
import random
import re
import string

import pytest

from axion.release import RELEASES
from publish.check.lint import scan_text_files

HEX = "0123456789abcdef"


def drawn(length, alphabet=string.ascii_letters + string.digits, seed=0):
    """A random token, generated so that no scanner mistakes this file for a leak."""
    return "7a" + "".join(random.Random(seed).choices(alphabet, k=length - 2))


UPPER = string.ascii_uppercase + string.digits
JWT = f"eyJ{drawn(20)}.eyJ{drawn(40, seed=1)}.{drawn(43, seed=2)}"
SECRETS = {
    "Hugging Face": f"hf_{drawn(34)}",
    "Hugging Face, organisation": f"api_org_{drawn(34)}",
    "OpenAI": f"sk-proj-{drawn(48)}",
    "OpenAI, old": f"sk-{drawn(20)}T3BlbkFJ{drawn(20, seed=1)}",
    "OpenRouter": f"sk-or-v1-{drawn(64, HEX)}",
    "Anthropic": f"sk-ant-api03-{drawn(60)}",
    "GitHub": f"ghp_{drawn(36)}",
    "GitHub, fine-grained": f"github_pat_{drawn(22)}_{drawn(59, seed=1)}",
    "GitLab": f"glpat-{drawn(20)}",
    "AWS": "AKIA" + drawn(16, UPPER).upper(),
    "AWS, secret": f"aws_secret_access_key = {drawn(40)}",
    "AWS, environment": f"export AWS_SECRET_ACCESS_KEY={drawn(40)}",
    "Google": f"AIza{drawn(35)}",
    "Slack": f"xoxb-{drawn(12, string.digits)}-{drawn(24)}",
    "Stripe": f"sk_live_{drawn(24)}",
    "W&B": f"wandb login {drawn(40, HEX)}",
    "W&B, key": f"api_key: {drawn(40, HEX)}",
    "PyPI": f"pypi-AgEIcHlwaS5vcmc{drawn(70)}",
    "npm": f"npm_{drawn(36)}",
    "JWT": f"cookie {JWT}",
    "SSH": "-----BEGIN OPENSSH PRIVATE" + " KEY-----\nb3BlbnNzaC1rZXkx",
    "RSA": "-----BEGIN RSA PRIVATE" + " KEY-----",
    "PGP": "-----BEGIN PGP PRIVATE" + " KEY BLOCK-----",
    "URL": f"https://someone:{drawn(12)}@example.org/x.git",
    "netrc": f"machine api.wandb.ai\n  login user\n  password {drawn(30)}",
    "bearer": f"Authorization: Bearer {drawn(30)}",
    "password, JSON": json.dumps({"password": drawn(12)}),
    "token, Python": f"token = '{drawn(20)}'",
    "API key, keyword": f'Client(apiKey="{drawn(20)}")',
    "secret, YAML": f"client_secret: {drawn(24)}",
}
HARMLESS = [
    f'"model.safetensors": "{drawn(64, HEX)}", "git_commit": "{drawn(40, HEX)}"',
    '"pad_token": "<pad>", "eos_token": "<|end_of_text_2|>", "tokens_per_second": 25508, "secret": 1022',
    "hf_" + "x" * 34 + " sk-" + "x" * 48 + " ghp_" + "0" * 36,
    "token = os.environ['HF_TOKEN_2']; password = getpass.getpass('password2: ')",
    'token="your-token-goes-here-1", api_key="<api key 123456789>", password: ${{ secrets.PASSWORD_1234 }}',
    "https://user:password@example.org/a https://example.org:8080/@someone https://{user}:{key1}@host",
    "eos_token_id=eos, pad_token_id=tokenizer.pad_token_id, max_new_tokens=1234567890123456",
    "risk-averse-tasks-of-2026, sk-learn-compatible-estimators-of-2026, disk-usage, hub.hf_raise_for_status_of_a_call",
    f"  verifyToken: {JWT}",
    "the password is the same for all of them; a token is a piece of text; an API key: none",
]


@pytest.mark.parametrize("form", SECRETS)
def test_secrets_of_every_form_are_found_and_never_shown(tmp_path, form):
    (tmp_path / "notes.md").write_text(f"# Notes\n\nsee {SECRETS[form]} here\n")
    found = scan_text_files(tmp_path)
    assert found and {problem.line for problem in found} <= {3, 4, 5}, found
    words = max(re.findall(r"[A-Za-z0-9]{5,}", SECRETS[form]), key=len)
    assert not any(words in str(problem) or words in repr(problem) for problem in found)


@pytest.mark.parametrize("words", HARMLESS)
@pytest.mark.parametrize("name", ["a.md", "a.json", "a.py", "a.png"])
def test_text_that_resembles_a_secret_is_accepted(tmp_path, words, name):
    (tmp_path / name).write_text(words)
    assert scan_text_files(tmp_path) == []


def test_an_expression_in_code_is_not_a_secret(tmp_path):
    (tmp_path / "a.py").write_text("def f(self, token=settings4.tokens_of_2026_and_7): ...\n")
    assert scan_text_files(tmp_path) == []


@pytest.mark.parametrize(
    "harmless", ["https://example.org/home/me/x", "/homepage/x", '{"t": "A:\\nB"}', "and/or/tmp", "../tmp/x", "~/x"]
)
def test_text_that_resembles_a_local_path_is_accepted(tmp_path, harmless):
    (tmp_path / "a.json").write_text(harmless)
    assert scan_text_files(tmp_path) == []


def test_this_project_has_no_false_positives():
    for folder in ("axion", "playground", "publish", "model_cards", "configs", "docs"):
        assert [
            str(problem) for problem in scan_text_files(RELEASES.parent / folder) if ".pyc" not in problem.file
        ] == []


def test_a_very_long_line_is_scanned_in_seconds(tmp_path):
    (tmp_path / "a.json").write_text('{"token": "' + "aA1 " * 250_000 + f'hf_{drawn(34)}"}}')
    (tmp_path / "b.md").write_text("password" * 30_000 + "eyJ" * 30_000 + "sk-" * 30_000 + "://" * 30_000)
    assert [(problem.file, problem.line) for problem in scan_text_files(tmp_path)] == [("a.json", 1)]
