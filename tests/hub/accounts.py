"""Accounts and tokens: GET /api/whoami-v2, and read and write permissions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.hub.store import Repo

ORGS = {"someone": ("team",), "teammate": ("team",), "stranger": ()}
"""The accounts, each with the organisations that it may write to."""


@dataclass(frozen=True)
class Token:
    """What a token grants. A fine-grained token can only access the repositories in `repos` ("someone/name")."""

    user: str
    role: str = "write"
    repos: frozenset[str] = field(default=frozenset())

    def belongs_to(self, namespace: str) -> bool:
        return namespace == self.user or namespace in ORGS.get(self.user, ())

    def may_read(self, repo: Repo) -> bool:
        return self.belongs_to(repo.namespace) and (self.role != "fineGrained" or repo.id in self.repos)

    def may_write(self, repo: Repo) -> bool:
        return self.role != "read" and self.may_read(repo)

    def may_create_in(self, namespace: str) -> bool:
        return self.role == "write" and self.belongs_to(namespace)

    def whoami(self, pro: bool) -> dict:
        """The response of /api/whoami-v2."""
        access: dict = {
            "displayName": f"loopback {self.role}",
            "role": self.role,
            "createdAt": "2026-01-01T00:00:00.000Z",
        }
        if self.role == "fineGrained":
            scoped = [
                {"entity": {"type": "model", "name": name}, "permissions": ["repo.content.read", "repo.write"]}
                for name in sorted(self.repos)
            ]
            access["fineGrained"] = {"canReadGatedRepos": False, "global": [], "scoped": scoped}
        return {
            "type": "user",
            "id": f"id-of-{self.user}",
            "name": self.user,
            "fullname": self.user.capitalize(),
            "email": f"{self.user}@example.org",
            "isPro": pro,
            "orgs": [
                {"type": "org", "id": f"id-of-{org}", "name": org, "fullname": org.capitalize(), "roleInOrg": "write"}
                for org in ORGS.get(self.user, ())
            ],
            "auth": {"type": "access_token", "accessToken": access},
        }


def _well_formed(label: str) -> str:
    return f"hf_{label:x<34}"


SOMEONE = _well_formed("someoneWrites")
SOMEONE_READS = _well_formed("someoneReads")
SOMEONE_FINE = _well_formed("someoneFine")
TEAMMATE = _well_formed("teammateWrites")
STRANGER = _well_formed("strangerWrites")
UNKNOWN = _well_formed("nobody")
"""Well formed, but unknown."""

TOKENS = {
    SOMEONE: Token("someone"),
    SOMEONE_READS: Token("someone", "read"),
    SOMEONE_FINE: Token("someone", "fineGrained", frozenset({"someone/fine"})),
    TEAMMATE: Token("teammate"),
    STRANGER: Token("stranger"),
}
