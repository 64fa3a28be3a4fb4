"""Patterns of secrets: what tokens, keys and passwords look like in text.

Two measures avoid false positives. Issued tokens are random, so `hf_xxxxxxxx` in a manual does not count. And a value
after a name such as `password` only counts if it looks random.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

ISSUED = {
    # Tokens that a service issues have a fixed prefix, and end where their alphabet ends.
    "a Hugging Face token": r"(?:hf_(?:oauth_)?|api_org_)[A-Za-z0-9]{30,}",
    "an Anthropic key": r"sk-ant-[\w-]{20,}",
    "an OpenAI key": (r"sk-(?!ant-)(?:(?:or-v1-)?[0-9a-f]{32,}|(?=[\w-]{0,99}[A-Z])(?=[\w-]{0,99}[0-9])[\w-]{20,})"),
    "a GitHub token": r"(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,})",
    "a GitLab token": r"gl(?:pat|dt|rt|ft|cbt|ptt|oas|soat|agent|imt)-[\w-]{20,}",
    "an AWS access key": r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])",
    "a Google key": r"(?:AIza[\w-]{35}|GOCSPX-[\w-]{20,}|ya29\.[\w-]{20,})",
    "a Slack token": r"(?:xox[abeoprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/T\w{6,}/B\w{6,}/\w{16,})",
    "a Stripe key": r"(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{16,}",
    "a Weights & Biases key": r"wandb_v\d_\w{40,}",
    "a PyPI token": r"pypi-AgE[\w-]{50,}",
    "an npm token": r"npm_[A-Za-z0-9]{36}",
    "a Docker token": r"dckr_(?:pat|oat)_[\w-]{20,}",
    "a SendGrid key": r"SG\.[\w-]{22}\.[\w-]{43}",
    "a Telegram token": r"[0-9]{8,10}:AA[\w-]{33}",
    "a key of an inference service": r"(?:gsk_|r8_|nvapi-|xai-|tvly-|dop_v1_|dapi)[A-Za-z0-9_-]{32,}",
    # The Hub's `verifyToken` is a public signature.
    "a JSON Web Token": r"(?<!verifyToken: )(?<!verifyToken: [\"'])eyJ[\w-]{10,500}\.eyJ[\w-]{10,4000}\.[\w-]{10,}",
}
"""Kind → pattern of the whole secret."""

NAMED = {
    # Secrets without a form of their own are recognised by their context; the group is the secret.
    "a private key": r"(-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----)",
    "a Weights & Biases key": (
        r"(?i:wandb|weights.?and.?biases|api.?key)[^\n]{0,60}?(?<![0-9A-Fa-f])([0-9a-f]{40})(?![0-9A-Fa-f])"
    ),
    "a URL with a password": r"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@'\"<>]{0,100}:([^\s/@'\"<>]{3,200})@",
    "a .netrc password": r"\bmachine\s{1,9}\S{1,99}\s{1,9}login\s{1,9}\S{1,99}\s{1,9}password\s{1,9}(\S{3,200})",
    "a bearer token": r"\b(?i:bearer)[ \t]{1,3}([A-Za-z0-9._~+/-]{20,200})",
}
_NAME = (
    r"(?i:(?<!verify)(?<!verify_)(?:pass(?:word|wd|phrase)|secret(?:[_-]?(?:access[_-]?)?key)?|token|api[_-]?key"
    r"|(?:access|auth|account|private)[_-]?key|credentials?))"
)
_IS = r"[\"']?[ \t]{0,3}(?::=|=>|=|:)[ \t]{0,3}"
_QUOTED = re.compile(_NAME + _IS + r"[\"']([^\s\"'`<>{}()$]{8,200})[\"']")
_BARE = re.compile(_NAME + _IS + r"([A-Za-z0-9+/=_.~!@#%^&*-]{16,200})(?![\w(\[])")
_PATTERNS = [
    *((kind, re.compile(rf"(?<![A-Za-z0-9])({pattern})")) for kind, pattern in ISSUED.items()),
    *((kind, re.compile(pattern)) for kind, pattern in NAMED.items()),
]
_PLACEHOLDER = re.compile(
    r"(?i)^(?:your|my|the|some|change|insert|user|pass|secret|token)|example|x{4}|\*{3}|\.{3}|…|[${]"
)


class Found(NamedTuple):
    """A secret in a text, by offsets. The secret itself is deliberately not included."""

    kind: str
    start: int
    end: int


def find_secrets(text: str, code: bool = False) -> Iterator[Found]:
    """Find all secrets in a text, kind by kind.

    Args:
        text: lines may be of any length.
        code: the text is source code, where a value without quotes is an expression.
    """
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            secret = match[1]
            if kind == "a private key" or (_bits(secret) > 2 and not _PLACEHOLDER.search(secret)):
                yield Found(kind, *match.span(1))
    for pattern in (_QUOTED,) if code else (_QUOTED, _BARE):
        for match in pattern.finditer(text):
            if _looks_random(match[1]):
                yield Found("a password or key", *match.span(1))


def hide_secrets(text: str) -> str:
    """The text with each secret replaced by an ellipsis."""
    for found in sorted(find_secrets(text), key=lambda found: -found.start):
        text = text[: found.start] + "…" + text[found.end :]
    return text


def _looks_random(value: str) -> bool:
    """Whether a value has letters and digits and few repetitions, and so is neither a word nor a number."""
    mixed = re.search("[A-Za-z]", value) and re.search("[0-9]", value)
    return bool(mixed) and _bits(value) >= 2.75 and not _PLACEHOLDER.search(value)


def _bits(text: str) -> float:
    """Shannon entropy of the characters, in bits per character: 0 for xxxx, about 4 for a random token."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)
