"""Who may do what: API keys, of which a file has only digests, each with its roles.

A line of the file is `NAME ROLES SHA256`, such as `shop publish,read 5e88…`; `#` begins a comment.
Keys are 256 random bits, so a plain digest of one tells nobody the key. The file is read again when
it has changed; one that is wrong then changes nothing, and is logged.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from topics.errors import AnabranchError
from topics.file_content import read_file

log = logging.getLogger(__name__)

Role = Literal["publish", "read", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

_MOST_BYTES = 2**20
_LOOK_S = 1.0
_NAME = re.compile(r"[\w.@-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class KeysUnusable(AnabranchError):
    """The file of keys is not there, or not what it has to be."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(
            f"{path}: {cause}; each line is NAME ROLES SHA256, and `anabranch gateway PIPELINE "
            "--keys FILE --new-key NAME` adds one"
        )


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key or token it is."""

    name: str
    roles: frozenset[str]
    credential: Literal["key", "token"] = "key"

    def may(self, role: str | None) -> bool:
        """Whether the caller has a *role*; None is what everybody known may."""
        return role is None or role in self.roles or "admin" in self.roles


class ApiKeys:
    """The keys of a file. Raises KeysUnusable; *clock* is monotonic, in seconds."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._stamp, self._callers = self._read()
        self._looked_at = clock()

    def caller(self, key: str) -> Caller | None:
        """Whose *key* it is; None for nobody's."""
        now = self._clock()
        if now - self._looked_at > _LOOK_S:
            self._looked_at = now
            self._look()
        return self._callers.get(_digest(key))

    def _look(self) -> None:
        try:
            if _stamp(self._path) != self._stamp:
                self._stamp, self._callers = self._read()
        except (OSError, KeysUnusable) as exc:
            log.warning("the keys of before stay: %s", exc)

    def _read(self) -> tuple[tuple[int, int], Mapping[str, Caller]]:
        try:
            stamp = _stamp(self._path)
            text = read_file(self._path, _MOST_BYTES).decode()
        except (OSError, UnicodeDecodeError) as exc:
            cause = getattr(exc, "strerror", None) or type(exc).__name__
            raise KeysUnusable(self._path, cause) from exc
        callers: dict[str, Caller] = {}
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            if len(words) != 3 or not _NAME.fullmatch(words[0]) or not _DIGEST.fullmatch(words[2]):
                raise KeysUnusable(self._path, f"line {number} is no key")
            roles = frozenset(words[1].split(","))
            if not roles <= {*ROLES}:
                unknown = ", ".join(sorted(roles - {*ROLES}))
                raise KeysUnusable(self._path, f"line {number} has no role of ours: {unknown}")
            callers[words[2]] = Caller(words[0], roles)
        if not callers:
            raise KeysUnusable(self._path, "there is no key in it")
        return stamp, callers


def add_key(path: Path, name: str, roles: Collection[Role]) -> str:
    """Make a key, add its digest to the file, which may be new, and return the key itself.

    Raises KeysUnusable.
    """
    if not _NAME.fullmatch(name):
        raise KeysUnusable(path, f"{name!r} is no name: letters, digits, . @ _ -")
    key = secrets.token_urlsafe(32)
    line = f"{name} {','.join(roles)} {_digest(key)}\n"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "a") as file:
            file.write(line)
    except OSError as exc:
        raise KeysUnusable(path, exc.strerror or str(exc)) from exc
    return key


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size
