"""The public keys that tokens are signed by (JWKS, RFC 7517): of a file, or of an issuer's address.

Only keys of kinds that sign with a private half are taken, each for the algorithms of its kind:
a token cannot have its signature checked in a way that its issuer never meant. A set that cannot be
read anew changes nothing, and is logged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import orjson
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from topics.errors import AnabranchError
from topics.file_content import read_file

log = logging.getLogger(__name__)

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_EC = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
ALGORITHMS = (*_RSA, *_EC.values(), "EdDSA")
"""What a token may be signed with: never nothing, nor a secret that a public key could be."""

_MOST_BYTES, _MOST_KEYS = 2**20, 100
_LEAST_RSA_BITS = 2048
_LOOK_S = 1.0
_WITHIN_S = 5.0
_FRESH_S, _AGAIN_S = 300.0, 10.0
"""Keys are asked for again after so long, and for a key that is not known, but no more often."""


class KeySetUnusable(AnabranchError):
    """A set of keys cannot be read, or is none."""

    def __init__(self, where: object, cause: str) -> None:
        super().__init__(
            f"{where}: {cause}; --jwks is a JSON Web Key Set with the public keys of who issues "
            "tokens, a file or an https address"
        )


class KeySetUnknown(AnabranchError):
    """No set of keys has come yet, so no token can be checked."""


class KeySet:
    """Keys by id and algorithm."""

    def __init__(self, content: bytes, where: object) -> None:
        """The keys of a JSON document. Raises KeySetUnusable."""
        try:
            document = orjson.loads(content)
        except orjson.JSONDecodeError as exc:
            raise KeySetUnusable(where, f"it is not JSON: {exc}") from exc
        entries = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(entries, list) or len(entries) > _MOST_KEYS:
            raise KeySetUnusable(where, f"it has no list `keys` of {_MOST_KEYS} at most")
        self._keys: dict[tuple[str | None, str], list[PyJWK]] = {}
        for number, entry in enumerate(entries, 1):
            if isinstance(entry, dict):
                self._add(entry, where, number)
        if not self._keys:
            raise KeySetUnusable(where, "there is no public key for signatures in it")

    def find(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        """The key of that id, for that algorithm; of no id, the only one there is."""
        keys = self._keys.get((key_id, algorithm), [])
        if key_id is None and not keys:
            keys = [
                key for (_, known), each in self._keys.items() if known == algorithm for key in each
            ]
        return keys[0] if len(keys) == 1 else None

    def _add(self, entry: Mapping[str, Any], where: object, number: int) -> None:
        if "d" in entry and _algorithms_of(entry):
            raise KeySetUnusable(where, f"key {number} is private: give its public half")
        if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
            return
        key_id = entry.get("kid")
        for algorithm in _algorithms_of(entry):
            try:
                key = PyJWK({**entry}, algorithm)
            except (PyJWTError, ValueError, TypeError) as exc:
                raise KeySetUnusable(where, f"key {number} is none: {exc}") from exc
            if (
                getattr(key.key, "key_size", _LEAST_RSA_BITS) < _LEAST_RSA_BITS
                and entry["kty"] == "RSA"
            ):
                raise KeySetUnusable(where, f"key {number} has less than {_LEAST_RSA_BITS} bits")
            name = key_id if isinstance(key_id, str) else None
            self._keys.setdefault((name, algorithm), []).append(key)


def _algorithms_of(entry: Mapping[str, Any]) -> list[str]:
    """What a key may be used for; nothing where it is of no kind that we take."""
    match entry.get("kty"), entry.get("crv"):
        case "RSA", _:
            kinds = [*_RSA]
        case "EC", str(curve) if curve in _EC:
            kinds = [_EC[curve]]
        case "OKP", "Ed25519":
            kinds = ["EdDSA"]
        case _:
            kinds = []
    only = entry.get("alg")
    return kinds if only is None else [kind for kind in kinds if kind == only]


class KeySource(Protocol):
    """Where keys are from."""

    async def ask(self) -> None:
        """Get them, or get them again, now; what goes wrong is logged."""

    async def find(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        """See `KeySet`. Raises KeySetUnknown."""


class KeyFile:
    """A file, which is read again when it has changed. Raises KeySetUnusable."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._stamp, self._keys = self._read()
        self._looked_at = clock()

    async def find(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        """See `KeySet`."""
        if self._clock() - self._looked_at > _LOOK_S:
            await self.ask()
        return self._keys.find(key_id, algorithm)

    async def ask(self) -> None:
        """See `KeySource`."""
        self._looked_at = self._clock()
        try:
            if self._now() != self._stamp:
                self._stamp, self._keys = self._read()
        except (OSError, KeySetUnusable) as exc:
            log.warning("the keys of before stay: %s", exc)

    def _now(self) -> tuple[int, int]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_size

    def _read(self) -> tuple[tuple[int, int], KeySet]:
        try:
            stamp = self._now()
            content = read_file(self._path, _MOST_BYTES)
        except OSError as exc:
            raise KeySetUnusable(self._path, exc.strerror or str(exc)) from exc
        return stamp, KeySet(content, self._path)


class KeyAddress:
    """An https address, which is asked again from time to time, and for keys that are not known.

    What it said last holds while it does not answer.
    """

    def __init__(
        self, url: str, fetch: Callable[[str], bytes] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """*fetch* gives an address's content; raises OSError. Raises KeySetUnusable."""
        if urlsplit(url).scheme != "https" or not urlsplit(url).hostname:
            raise KeySetUnusable(url, "it is no https address")
        self._url, self._fetch, self._clock = url, fetch or fetched, clock
        self._keys: KeySet | None = None
        self._asked_at = -_FRESH_S
        self._asking: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        """See `KeySet`. Raises KeySetUnknown."""
        if self._keys is not None:
            if self._clock() - self._asked_at > _FRESH_S:
                self._ask()
            if (key := self._keys.find(key_id, algorithm)) is not None:
                return key
        if self._clock() - self._asked_at > _AGAIN_S:
            self._ask()
        if self._asking is not None:
            await asyncio.shield(self._asking)
        if self._keys is None:
            raise KeySetUnknown(f"the keys at {self._url} are not known yet")
        return self._keys.find(key_id, algorithm)

    async def ask(self) -> None:
        """See `KeySource`."""
        self._ask()
        if self._asking is not None:
            await asyncio.shield(self._asking)

    def _ask(self) -> None:
        if self._asking is None:
            self._asked_at = self._clock()
            self._asking = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(_WITHIN_S):
                content = await asyncio.to_thread(self._fetch, self._url)
            self._keys = KeySet(content, self._url)
        except (OSError, KeySetUnusable, TimeoutError) as exc:
            cause = str(exc) or "no answer in time"
            log.warning(
                "the keys of before stay, as far as there are any: %s: %s", self._url, cause
            )
        finally:
            self._asking = None


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        """Go nowhere else: that might be in clear."""


def fetched(url: str) -> bytes:
    """What an https address answers. Raises OSError."""
    request = Request(url, headers={"accept": "application/json"})  # noqa: S310  # https, see above
    try:
        with build_opener(_NoRedirect).open(request, timeout=_WITHIN_S) as answer:
            content: bytes = answer.read(_MOST_BYTES + 1)
    except URLError as exc:  # HTTPError too
        raise OSError(str(exc)) from exc
    if len(content) > _MOST_BYTES:
        raise OSError(f"more than {_MOST_BYTES} bytes")
    return content
