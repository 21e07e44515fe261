"""Which decisions are explained: those of some kinds, and a share of all others."""

from __future__ import annotations

from hashlib import blake2b

from topics.pipeline import Explain

_BYTES = 8


class Selection:
    """By what `explain:` of a pipeline file says: for one event always the same answer.

    >>> some = Selection(Explain(when=["decline"], share_of_others=0.25))
    >>> some.asks_for("decline", b"p.events/0/1")
    True
    >>> sum(some.asks_for("approve", b"p.events/0/%d" % offset) for offset in range(10_000))
    2538
    """

    def __init__(self, explain: Explain) -> None:
        self._when = frozenset(explain.when)
        self._below = int(explain.share_of_others * 2 ** (8 * _BYTES))

    def asks_for(self, decision: str, event: bytes) -> bool:
        """Whether a *decision* about the *event* of those coordinates is to be explained.

        The event is as `topics.records.source_id` has it. Chosen by a hash of it, the share is the
        same on every replica, and again when topics are read again.
        """
        if decision in self._when:
            return True
        return int.from_bytes(blake2b(event, digest_size=_BYTES).digest()) < self._below
