"""Who may ask, and how often: before anything of a request but its head is looked at."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import Scope

from agents.gateway.access.access_tokens import TokenRefused, TokenVerifier
from agents.gateway.access.api_keys import ApiKeys, Caller
from agents.gateway.access.key_set import KeySetUnknown
from agents.gateway.inference.open_inference import GRPC_SERVICE
from agents.gateway.problem import Overloaded, Problem, Unavailable

_GRPC = f"/{GRPC_SERVICE}"
_OPEN = (
    "/healthz", "/readyz", "/ping", "/execution-parameters", "/v2/health/live", "/v2/health/ready",
    f"{_GRPC}/ServerLive", f"{_GRPC}/ServerReady", "/grpc.health.v1.Health/Check",
)  # fmt: skip
"""What probes ask, which have no key."""
_ABOUT = (f"{_GRPC}/ServerMetadata", f"{_GRPC}/ModelMetadata", f"{_GRPC}/ModelReady")
"""What gRPC asks by POST as well, and nothing is published."""
_DOTS_OF_TOKEN = 2
"""No key has any."""
_CALLERS = 10_000
"""So many callers' rates are remembered, the last ones."""


class RateLimit:
    """So many requests a second of each caller, and as many at once, in the mean.

    >>> now = [0.0]
    >>> limit = RateLimit(2, clock=lambda: now[0])
    >>> [limit.wait_s("a"), limit.wait_s("a"), limit.wait_s("a"), limit.wait_s("b")]
    [0.0, 0.0, 0.5, 0.0]
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Caller → requests that are left, and when that was true."""

    def wait_s(self, caller: str) -> float:
        """0 for a request that may be answered now; else how long to wait before another."""
        burst, now = max(1.0, self._rate), self._clock()
        left, since = self._left.pop(caller, (burst, now))
        left = min(burst, left + (now - since) * self._rate)
        allowed = left >= 1
        self._left[caller] = (left - allowed, now)
        if len(self._left) > _CALLERS:
            self._left.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._rate


class Guard:
    """Lets a request pass, or raises why not. Without keys and tokens all may do everything."""

    def __init__(
        self, keys: ApiKeys | None = None, rate: RateLimit | None = None,
        tokens: TokenVerifier | None = None,
    ) -> None:  # fmt: skip
        self._keys, self._rate, self._tokens = keys, rate, tokens

    @property
    def asks_for_a_key(self) -> bool:
        """Nobody may do anything without a key or a token."""
        return self._keys is not None or self._tokens is not None

    async def open(self) -> None:
        """Get what tokens are checked by."""
        if self._tokens is not None:
            await self._tokens.keys.ask()

    async def check(self, scope: Scope) -> None:
        """Raises Problem (401, 403), Overloaded, and Unavailable while tokens cannot be checked."""
        if scope["path"] in _OPEN:
            return
        if _is_from_elsewhere(scope):
            raise Problem(403, "a page of another origin may ask nothing here")
        name = (scope.get("client") or ("unknown",))[0]
        if self.asks_for_a_key:
            caller = await self._allowed(scope)
            name = f"{caller.credential} {caller.name}"
        if self._rate is not None and (wait_s := self._rate.wait_s(name)):
            raise Overloaded("more requests a second than a caller may send: come again", wait_s)

    async def still_allows(self, scope: Scope) -> bool:
        """Whether a request that has passed may go on: its key may be gone, its token old."""
        try:
            if self._keys is not None or self._tokens is not None:
                await self._allowed(scope)
        except Problem:
            return False
        return True

    async def _allowed(self, scope: Scope) -> Caller:
        caller = await self._caller(_credential(scope))
        role = needed_role(scope["method"], scope["path"])
        if not caller.may(role):
            raise Problem(403, f"the {caller.credential} of {caller.name} has not the role {role}")
        return caller

    async def _caller(self, word: str) -> Caller:
        if self._tokens is not None and word.count(".") == _DOTS_OF_TOKEN:
            try:
                return await self._tokens.caller(word)
            except TokenRefused as exc:
                raise _unknown(str(exc), 'Bearer error="invalid_token"') from exc
            except KeySetUnknown as exc:
                raise Unavailable(f"tokens cannot be checked: {exc}") from exc
        caller = self._keys.caller(word) if self._keys is not None and word else None
        if caller is None:
            kinds = [("key", self._keys), ("token", self._tokens)]
            kind = " or ".join(name for name, taken in kinds if taken is not None)
            also = ", or as X-API-Key" if self._keys is not None else ""
            word = kind.partition(" ")[0].upper()
            raise _unknown(
                f"no {kind} that is known: send it as Authorization: Bearer {word}{also}"
            )
        return caller


def _unknown(detail: str, challenge: str = "Bearer") -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": challenge})


def needed_role(method: str, path: str) -> str | None:
    """The role that a request needs; None where any key will do.

    >>> needed_role("POST", "/predict"), needed_role("GET", "/decisions/tx-1")
    ('publish', 'read')
    >>> needed_role("POST", "/inference.GRPCInferenceService/ModelInfer")
    'publish'
    """
    if path in _ABOUT:
        return None
    if method not in ("GET", "HEAD"):
        return "publish"
    is_contract = path in {"/openapi.json", "/v2"} or path.startswith("/v2/")
    return None if is_contract else "read"


def _is_from_elsewhere(scope: Scope) -> bool:
    """Whether a browser asks for a page that is not from here: it needs no leave to send."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        return True
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")


def _credential(scope: Scope) -> str:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    given = headers.get(b"authorization", b"").decode("latin-1")
    scheme, _, key = given.partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    return headers.get(b"x-api-key", b"").decode("latin-1")
