"""Who may do what, by tokens that somebody else has issued (JWT, RFC 7519 and 8725)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidIssuerError,
    MissingRequiredClaimError,
    PyJWTError,
)

from agents.gateway.access.api_keys import ROLES, Caller
from agents.gateway.access.key_set import ALGORITHMS, KeySource

LEEWAY_S = 30
"""So far the issuer's clock may be from ours."""
_MOST_BYTES = 8192
_NAME_LETTERS = 64
_REASONS = (
    (ExpiredSignatureError, "the token has expired"),
    (ImmatureSignatureError, "the token does not hold yet"),
    (InvalidAudienceError, "the token is for another audience"),
    (InvalidIssuerError, "the token is of another issuer"),
)


class TokenRefused(Exception):
    """A token that is not one of ours, or no longer; says why."""


@dataclass(frozen=True, slots=True)
class TokenVerifier:
    """Takes tokens of one issuer that are meant for one audience."""

    keys: KeySource
    issuer: str
    audience: str
    roles_claim: str = "roles"
    """Name of the claim with the roles, or the way to it, such as `realm_access.roles`."""

    async def caller(self, token: str) -> Caller:
        """Whose token it is. Raises TokenRefused, and KeySetUnknown."""
        if len(token) > _MOST_BYTES:
            raise TokenRefused(f"the token has more than {_MOST_BYTES:,} bytes")
        try:
            head = jwt.get_unverified_header(token)
            algorithm, key_id = head.get("alg"), head.get("kid")
            if algorithm not in ALGORITHMS:
                raise TokenRefused(f"the token is signed with none of {', '.join(ALGORITHMS)}")
            key = await self.keys.find(key_id, algorithm)
            if key is None:
                raise TokenRefused("the token is signed by a key that its issuer does not name")
            claims: Mapping[str, Any] = jwt.decode(
                token, key, [algorithm], {"require": ["exp", "iss", "aud"]},
                audience=self.audience, issuer=self.issuer, leeway=LEEWAY_S,
            )  # fmt: skip
        except MissingRequiredClaimError as exc:
            raise TokenRefused(f"the token has no {exc.claim}") from exc
        except PyJWTError as exc:
            reason = next((said for kind, said in _REASONS if isinstance(exc, kind)), "")
            raise TokenRefused(reason or "the token is none, or its signature is wrong") from exc
        return Caller(_name(claims), self._roles(claims), "token")

    def _roles(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """Those that are ours, of the claim for roles and of `scope`."""
        at: Any = claims
        for name in self.roles_claim.split("."):
            at = at.get(name) if isinstance(at, Mapping) else None
        words = {*_words(claims.get(self.roles_claim, at)), *_words(claims.get("scope"))}
        return frozenset(words & {*ROLES})


def _words(claim: Any) -> Iterable[str]:
    if isinstance(claim, str):
        return claim.split()
    return [word for word in claim if isinstance(word, str)] if isinstance(claim, list) else []


def _name(claims: Mapping[str, Any]) -> str:
    name = claims.get("sub") or claims.get("client_id") or claims.get("azp")
    return str(name)[:_NAME_LETTERS] if name else "nobody named"
