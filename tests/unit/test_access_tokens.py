"""Tokens of somebody else: what is taken, and all that has to be refused."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from agents.gateway.access.access_tokens import TokenRefused, TokenVerifier
from agents.gateway.access.key_set import KeyAddress, KeyFile, KeySet, KeySetUnknown, KeySetUnusable

ISSUER, AUDIENCE = "https://id.example", "card-fraud"
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_KEY = rsa.generate_private_key(65537, 2048)
SHORT_KEY = rsa.generate_private_key(65537, 1024)  # noqa: S505  # it has to be refused
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def public(key: Any, key_id: str | None, **more: str) -> dict[str, Any]:
    """The key's public half as a JSON Web Key."""
    kinds: dict[type, Any] = {
        rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm,
        ed25519.Ed25519PrivateKey: OKPAlgorithm,
    }  # fmt: skip
    algorithm = next(kinds[kind] for kind in kinds if isinstance(key, kind))
    about = {} if key_id is None else {"kid": key_id}
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), **about, **more}


def document(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    """Those of a token that is taken; None takes one away."""
    usual = {"iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 600, "sub": "alice",
             "roles": ["read"], **changes}  # fmt: skip
    return {name: value for name, value in usual.items() if value is not None}


def token(key: Any = RSA_KEY, algorithm: str = "RS256", key_id: str | None = "r1",
          **changes: Any) -> str:  # fmt: skip
    return jwt.encode(claims(**changes), key, algorithm, {} if key_id is None else {"kid": key_id})


def by_hand(head: dict[str, Any], content: dict[str, Any], secret: bytes | None) -> str:
    """A token that no library would make: unsigned, or with an HMAC of *secret*."""
    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=")
             for each in (head, content)]  # fmt: skip
    signed = b".".join(parts)
    signature = b"" if secret is None else hmac.digest(secret, signed, hashlib.sha256)
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.fixture
def verifier(tmp_path: Path) -> TokenVerifier:
    path = tmp_path / "keys.json"
    path.write_bytes(document(public(RSA_KEY, "r1"), public(EC_KEY, "e1"), public(ED_KEY, "d1")))
    return TokenVerifier(KeyFile(path), ISSUER, AUDIENCE)


@pytest.mark.parametrize(
    ("key", "algorithm", "key_id"),
    [(RSA_KEY, "RS256", "r1"), (RSA_KEY, "PS512", "r1"), (EC_KEY, "ES256", "e1"),
     (ED_KEY, "EdDSA", "d1"), (EC_KEY, "ES256", None)],
)  # fmt: skip
async def test_a_token_of_the_issuer_is_taken(
    verifier: TokenVerifier, key: Any, algorithm: str, key_id: str | None
) -> None:
    caller = await verifier.caller(token(key, algorithm, key_id))
    assert (caller.name, caller.credential, {*caller.roles}) == ("alice", "token", {"read"})
    assert caller.may("read")
    assert not caller.may("publish")


@pytest.mark.parametrize(
    ("changes", "roles"),
    [
        ({"roles": ["publish", "read", "owner"]}, {"publish", "read"}),
        ({"roles": "publish read"}, {"publish", "read"}),
        ({"roles": None, "scope": "openid publish"}, {"publish"}),
        ({"scope": "admin"}, {"read", "admin"}),
        ({"roles": [["admin"], {"admin": 1}, 7]}, set()),
        ({"roles": {"admin": True}}, set()),
        ({"roles": None}, set()),
    ],
)
async def test_roles_are_those_of_ours_that_a_token_names(
    verifier: TokenVerifier, changes: dict[str, Any], roles: set[str]
) -> None:
    assert (await verifier.caller(token(**changes))).roles == roles


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["publish"]}}),
        ("https://id.example/roles", {"https://id.example/roles": ["publish"]}),
    ],
)
async def test_roles_may_stand_elsewhere(
    verifier: TokenVerifier, claim: str, changes: dict[str, Any]
) -> None:
    elsewhere = TokenVerifier(verifier.keys, ISSUER, AUDIENCE, claim)
    assert (await elsewhere.caller(token(**changes))).roles == {"publish"}


PEM = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
HEAD = {"alg": "HS256", "typ": "JWT", "kid": "r1"}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda: token(OTHER_KEY), "signature is wrong"),
        (lambda: token()[:-4] + "AAAA", "signature is wrong"),
        (lambda: token().replace(".", ".A", 1), "signature is wrong"),
        (lambda: token(exp=time.time() - 60), "has expired"),
        (lambda: token(exp=None), "has no exp"),
        (lambda: token(exp="never"), "is none"),
        (lambda: token(nbf=time.time() + 600), "does not hold yet"),
        (lambda: token(aud="elsewhere"), "for another audience"),
        (lambda: token(aud=["elsewhere", "there"]), "for another audience"),
        (lambda: token(aud=None), "has no aud"),
        (lambda: token(iss="https://evil.example"), "of another issuer"),
        (lambda: token(iss=None), "has no iss"),
        (lambda: token(key_id="r2"), "does not name"),
        (lambda: token(key_id="e1"), "does not name"),
        (lambda: token(key_id=None, algorithm="PS256", key=OTHER_KEY), "signature is wrong"),
        (lambda: token(sub=7), "is none"),
        (lambda: token(filler="x" * 9000), "more than 8,192 bytes"),
        (lambda: by_hand({**HEAD, "alg": "none"}, claims(), None), "signed with none of"),
        (lambda: by_hand({**HEAD, "alg": "nOnE"}, claims(), None), "signed with none of"),
        (lambda: by_hand(HEAD, claims(), PEM), "signed with none of"),
        (lambda: by_hand({**HEAD, "alg": "RS256"}, claims(), PEM), "signature is wrong"),
        (lambda: by_hand({**HEAD, "alg": ["RS256"]}, claims(), PEM), "signed with none of"),
        (lambda: by_hand({**HEAD, "kid": 7}, claims(), PEM), "is none"),
        (lambda: by_hand({"jwk": public(OTHER_KEY, "r1"), "alg": "RS256", "kid": "r1"},
                         claims(), PEM), "signature is wrong"),
        (lambda: jwt.encode(claims(), OTHER_KEY, "RS256",
                            {"kid": "r1", "jwk": public(OTHER_KEY, "r1")}), "signature is wrong"),
        (lambda: "a.b.c", "is none"),
        (lambda: "..", "is none"),
    ],
)  # fmt: skip
async def test_any_other_token_is_refused(
    verifier: TokenVerifier, wrong: Callable[[], str], why: str
) -> None:
    with pytest.raises(TokenRefused, match=why):
        await verifier.caller(wrong())


async def test_a_clock_may_be_a_little_wrong(verifier: TokenVerifier) -> None:
    now = time.time()
    assert await verifier.caller(token(exp=now - 10, nbf=now + 10, iat=now + 10))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "not JSON"),
        (b"[]", "no list `keys`"),
        (document(), "no public key"),
        (document({"kty": "oct", "k": "AAAA", "kid": "s"}), "no public key"),
        (document(public(RSA_KEY, "r", use="enc")), "no public key"),
        (document(public(RSA_KEY, "r", alg="HS256")), "no public key"),
        (document(RSAAlgorithm.to_jwk(RSA_KEY, as_dict=True)), "key 1 is private"),
        (document(public(SHORT_KEY, "r")), "less than 2048 bits"),
        (document({"kty": "RSA", "n": "!", "e": "AQAB"}), "key 1 is none"),
        (document({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}), "key 1 is none"),
    ],
)
def test_what_is_no_set_of_public_keys_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(KeySetUnusable, match=why):
        KeySet(content, "keys.json")


def test_a_key_is_used_for_what_it_says_alone() -> None:
    keys = KeySet(document(public(RSA_KEY, "r1", alg="PS256")), "keys.json")
    assert keys.find("r1", "PS256") is not None
    assert keys.find("r1", "RS256") is None


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_file_that_changes_is_read_again_and_a_wrong_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    path.write_bytes(document(public(RSA_KEY, "r1")))
    keys = KeyFile(path, clock)
    path.write_bytes(document(public(RSA_KEY, "r1"), public(EC_KEY, "e1")))
    assert await keys.find("e1", "ES256") is None, "it is not looked at for every request"
    clock.now += 2
    assert await keys.find("e1", "ES256") is not None
    path.write_text("broken")
    clock.now += 2
    assert await keys.find("e1", "ES256") is not None
    assert "the keys of before stay" in caplog.text


class Issuer:
    """An address that says what it is told to, and counts how often it is asked."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys, self.asked, self.is_away = keys, 0, False

    def __call__(self, url: str) -> bytes:
        self.asked += 1
        if self.is_away:
            raise OSError("nobody there")
        return document(*self.keys)


async def test_a_new_key_of_the_issuer_is_learned_and_unknown_ones_cost_little() -> None:
    issuer, clock = Issuer(public(RSA_KEY, "r1")), Clock()
    keys = KeyAddress("https://id.example/keys", issuer, clock)
    asked = [keys.find("r1", "RS256") for _ in range(20)]
    assert all(await asyncio.gather(*asked))
    assert issuer.asked == 1
    issuer.keys = (public(RSA_KEY, "r1"), public(EC_KEY, "r2"))
    assert await keys.find("r2", "ES256") is None, "it was asked a moment ago"
    clock.now += 11
    assert await keys.find("r2", "ES256") is not None
    for _ in range(50):
        assert await keys.find("forged", "RS256") is None
    assert issuer.asked == 2


async def test_what_the_issuer_said_last_holds_while_it_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    issuer, clock = Issuer(public(RSA_KEY, "r1")), Clock()
    keys = KeyAddress("https://id.example/keys", issuer, clock)
    issuer.is_away = True
    with caplog.at_level(logging.WARNING), pytest.raises(KeySetUnknown, match="not known yet"):
        await keys.find("r1", "RS256")
    assert "nobody there" in caplog.text
    issuer.is_away, clock.now = False, 11
    assert await keys.find("r1", "RS256") is not None
    issuer.is_away, clock.now = True, 1000
    assert await keys.find("r1", "RS256") is not None
    assert await keys.find("r2", "RS256") is None
    assert issuer.asked == 3
    issuer.is_away, issuer.keys, clock.now = False, (public(EC_KEY, "r2"),), 2000
    assert await keys.find("r1", "RS256") is not None, "it is asked behind the request"
    await keys.ask()
    assert await keys.find("r1", "RS256") is None, "what it has taken away holds no longer"


@pytest.mark.parametrize("url", ["http://id.example/keys", "ftp://id.example", "https://"])
def test_keys_come_by_https_alone(url: str) -> None:
    with pytest.raises(KeySetUnusable, match="no https address"):
        KeyAddress(url)
