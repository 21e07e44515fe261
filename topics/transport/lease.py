"""The lease: which worker may write what follows from a partition, and for how long.

A consumer group gives a partition to one worker at a time, but no broker stops one that has not
heard that it is another's now: it was frozen, or cut off. So a worker writes only under its lease.

1. *Begun and renewed by the broker alone*: by the answer to a join or a sync, as of when it comes,
   and by an answered heartbeat, as of when that was sent (`GroupMembership`). The broker counts the
   member's session from no earlier than a heartbeat was sent, so the lease ends no later than it.
2. *Lost* when nothing was answered for the session's time; when the group has a newer generation
   than the fetch in hand; when a rebalance did not wait for that fetch any longer; and when another
   worker has joined by this one's name (`Lease.check`).
3. *Given back in order*: at a rebalance no more is read, and the fetch in hand is finished and
   committed and so are heartbeats, for half a session at most; then nothing is begun to be written
   until the next fetch (`MicroBatchConsumer.on_partitions_revoked`). A worker that joins by a name
   for the first time begins 1.5 heartbeats later: whoever had it has heard then.
4. *Looked at right before a request with records leaves*, with nothing awaited in between, and ten
   times a second while one is under way; what is under way then is cut off, down to the kernel
   (`LeasedWriter`). Nothing is marked as done or rewound without it either, and a broker takes no
   offsets of an older generation.
5. *Nothing more is written by who has lost it* in the middle of a write, or with no rebalance: that
   worker ends. One that a rebalance has overtaken goes on with what it is assigned then, and
   whoever has the partition reads the fetch again (`agents.workers.app`).
6. *Who hears nothing draws no conclusions*: silence of others does not count while the broker has
   not answered for a third of a session (`agents.workers.worker`, its clock), and a worker that is
   silent for too long ends its process (`agents.process.liveness`).

So of two workers that take a partition to be theirs only one can write, and what the earlier one
has written is on the broker before the later one looks for it.
"""

from __future__ import annotations

import time

from topics.errors import LeaseLost, NameTaken


class Lease:
    """One worker's lease in its consumer group."""

    def __init__(self, group: str, name: str | None, session_s: float) -> None:
        self.group = group
        self.name = name
        """By which it joins; None for a member without a name."""
        self.session_s = session_s
        self.name_is_taken = False
        """Another worker has joined by our name: nothing may be written any more."""
        self._renewed_at = 0.0
        self._generation = -1
        """Of the fetch in hand."""
        self._is_given_back = False

    def renew(self, at: float) -> None:
        """The broker has answered what was sent, or has answered, at that time (monotonic)."""
        self._renewed_at = at

    @property
    def silent_s(self) -> float:
        """Seconds since the broker last answered a heartbeat or a join; 0 before the first."""
        return time.monotonic() - self._renewed_at if self._renewed_at else 0.0

    @property
    def is_in_session(self) -> bool:
        """The broker has answered within the session's time."""
        return 0 < self.silent_s < self.session_s

    def begin(self, generation: int) -> None:
        """A fetch of that generation is taken up."""
        self._generation = generation
        self._is_given_back = False

    def give_back(self) -> None:
        """A rebalance goes on, whether or not the fetch in hand is done."""
        self._is_given_back = True

    def covers(self, generation: int) -> bool:
        """The fetch in hand is still this worker's, in a group that is at *generation*."""
        return self._generation == generation and not self._is_given_back

    def check(self, generation: int) -> None:
        """Raise LeaseLost or NameTaken unless the lease lasts; the group is at *generation*."""
        if self.name_is_taken:
            raise self.name_taken()
        if self.silent_s > self.session_s or not self.covers(generation):
            raise LeaseLost(self.group, self.silent_s)

    def name_taken(self) -> NameTaken:
        """What there is to say when `name_is_taken`."""
        return NameTaken(self.group, str(self.name))
