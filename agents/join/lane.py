"""One lane of one of a join's inputs: what it has answered, and whether it is alive."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field, replace

from agents.join.stage_rows import Reason
from agents.workers import WORKER_ENDED
from topics.records import Heartbeat, StageBatch

LaneKey = tuple[str, int]
"""A stage, and the number of its lane."""
Position = tuple[Hashable, int]
"""Where a batch came from: a topic-partition, and the offset to commit after it."""

ENDINGS = 7
"""A component is down when so many of its workers, one after the other, said that they were about
to run on rows, and gave no answer to them. One row that ends its workers ends five at most before
it is passed over, see `agents.recovery.poison_rows`."""
SILENT_WORKERS = 10
"""It is down, too, when so many of them came, one after the other, and none gave an answer, though
there were rows for it: they got no further than starting, or ended at another partition's rows."""
_COMES_S = 1.0
"""Workers that came within so many (attended) seconds are one: no process starts in less, and a
join that reads hours of heartbeats at once knows of rows that nobody owed then."""
_BATCH_BYTES = 4096
_ROW_BYTES = 160
_FAILURE_BYTES = 500
"""What a batch, a row and a failure take as Python objects besides the record, about that."""
_GETS_ON = 2
"""So many answers in a row to what nobody has said to try show that it gets on again."""


def held_bytes(record_bytes: int, batch: StageBatch) -> int:
    """About how much memory *batch*, read from a record of so many bytes, takes while it is held.

    Its arrays are views of the record, which therefore stays as long as any of its rows.
    """
    objects = _ROW_BYTES * len(batch) + _FAILURE_BYTES * len(batch.failures)
    return record_bytes + _BATCH_BYTES + objects


@dataclass(slots=True)
class PendingBatch:
    """A batch that came, as far as its rows have not left the join."""

    batch: StageBatch
    position: Position
    arrived_at: float
    finished: bool = False
    nbytes: int = 0
    """What it takes until all of its rows have left."""


@dataclass(slots=True)
class LanePrefix:
    """What a lane gives to a prefix of rows."""

    batches: list[StageBatch] = field(default_factory=list)
    covered: list[tuple[int, int]] = field(default_factory=list)
    """Source offsets that it answers for, first and last."""

    @property
    def rows(self) -> int:
        """How many rows it gives."""
        return sum(map(len, self.batches))


@dataclass(slots=True)
class Lane:
    """Most stages have one lane; a repartitioned one has one for each partition of its key."""

    stage: str
    number: int
    laned: bool
    """Its stage is repartitioned: its batches say which lane they are of."""
    several: bool
    """Its stage has more lanes than this one."""
    opened: int
    """The highest source offset that had ended when the join was opened."""
    frontier: int
    """The highest source offset that it has answered, as far as is known."""
    heard_at: float
    """When it last gave a sign of life (attended seconds)."""
    progressed_at: float
    """When it last answered rows (monotonic seconds)."""
    heard: bool = False
    """It has said how far it is; before that, its frontier is the join's."""
    batches: deque[PendingBatch] = field(default_factory=deque)
    rows: int = 0
    nbytes: int = 0
    """Of all its batches."""
    left_as: Reason | None = None
    """Why rows have ended without its answer, until it has caught up with them."""
    _heartbeat: Heartbeat | None = None
    """The last one, if nothing came after it."""
    _trying: str | None = None
    """The worker that has said to run on rows which have no answer yet."""
    _ended: int = 0
    """Workers, one after the other, that were trying when the next one came."""
    _untried: int = 0
    """Answers since then to what nobody has said to try."""
    _silent_workers: set[str] = field(default_factory=set)
    """Workers that came since it last had an answer, or nothing to answer: no more than so many."""
    _came_at: float = float("-inf")
    """When the last of them came (attended seconds)."""

    @property
    def key(self) -> LaneKey:
        """What it is known by."""
        return (self.stage, self.number)

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.stage}[{self.number}]" if self.several else self.stage

    def hear(self, heartbeat: Heartbeat, now: float, attended: float, known: int) -> None:
        """Take note of a heartbeat; *known* is the highest source offset that there is a row of."""
        self.heard_at = attended
        self._heartbeat = heartbeat
        if heartbeat.frontier >= 0:
            self._advance(heartbeat.frontier, now)
        owes = known > self.frontier
        if heartbeat.state == "starting" or (owes and heartbeat.state == "working"):
            self._come(heartbeat.worker, attended)
        elif not owes:
            self._silent_workers.clear()
        if heartbeat.tried is not None:
            self._ended += self._trying not in (None, heartbeat.worker)
            self._trying, self._untried = heartbeat.worker, 0

    def _come(self, worker: str, attended: float) -> None:
        is_another = (
            worker not in self._silent_workers and len(self._silent_workers) < SILENT_WORKERS
        )
        if is_another and attended - self._came_at >= _COMES_S:
            self._silent_workers.add(worker)
            self._came_at = attended

    def push(self, pending: PendingBatch, done: int, now: float, attended: float) -> int:
        """Take in a batch; rows up to offset *done*, or that came before, are dropped.

        Returns how many of its rows are new to the lane, but came when the join was *done* with
        them.
        """
        self.heard_at = attended
        self._heartbeat = None
        batch, offsets = pending.batch, pending.batch.rows.offsets
        # What had ended when the join was opened is read again, and late for nobody.
        known = int(offsets.searchsorted(max(self.frontier, self.opened), "right"))
        first = max(known, int(offsets.searchsorted(done, "right")))
        self._advance(batch.covers_to, now)
        if self._trying is None:
            self._untried += 1
        elif not all(failure.error == WORKER_ENDED for failure in batch.failures) or (
            len(batch.failures) < len(batch)
        ):
            self._untried = _GETS_ON  # rows that were tried are answered, not passed over
        if self._untried >= _GETS_ON:
            self._ended = 0
        self._trying = None
        pending.batch = batch[first:] if first else batch
        self.batches.append(pending)
        self.rows += len(pending.batch)
        self.nbytes += pending.nbytes
        return first - known

    def _advance(self, frontier: int, now: float) -> None:
        if not self.heard:
            self.frontier, self.heard = frontier, True
        elif frontier <= self.frontier:
            return
        self.frontier = frontier
        self.progressed_at = now
        self._silent_workers.clear()

    def claim(self) -> str:
        """Which input it says to wait for that is down; empty when it says no such thing."""
        heartbeat = self._heartbeat
        if heartbeat is None or not heartbeat.down:
            return ""
        return f"it waits for {', '.join(heartbeat.waiting_for)}, which is down"

    def down(self, attended: float, stall_timeout_s: float) -> str:
        """Why it is down by itself; empty while it is not."""
        if self._ended >= ENDINGS:
            return f"{self._ended} of its workers ended, the last at the row behind {self.frontier}"
        if len(self._silent_workers) >= SILENT_WORKERS:
            came = len(self._silent_workers)
            return f"{came} of its workers came, one after the other, without an answer"
        silent_s = attended - self.heard_at
        if silent_s > stall_timeout_s:
            return f"neither output nor sign of life for {silent_s:.0f} s"
        return ""

    def cut(self, limit: int, most_bytes: int, done: int) -> int:
        """The last source offset up to *limit* before which rows are to leave in one go.

        They have up to *most_bytes*, or are one batch, and where the lane is its stage's only
        one their outputs are of one width: a model that was replaced may have had another.
        """
        if len(self.batches) < 2:  # mostly: each batch leaves as soon as it has come
            return limit
        nbytes, width, last = 0, None, done
        for pending in self.batches:
            batch = pending.batch
            if last >= limit:
                break
            if not len(batch):
                continue
            nbytes += pending.nbytes
            of_width = batch.output.shape[1] if batch.present.any() else width
            other = not self.several and width is not None and of_width != width
            if last > done and (nbytes > most_bytes or other):
                return last
            last, width = int(batch.rows.offsets[-1]), of_width
        return limit

    def peek(self, limit: int) -> LanePrefix:
        """All rows up to source offset *limit*; they stay."""
        part = LanePrefix()
        for pending in self.batches:
            n = int(pending.batch.rows.offsets.searchsorted(limit, "right"))
            if n:
                part.batches.append(pending.batch[:n])
            if n < len(pending.batch):
                break
        return part

    def take(self, limit: int) -> LanePrefix:
        """All rows up to source offset *limit*; batches that have no more are finished."""
        part = LanePrefix()
        while self.batches:
            head = self.batches[0]
            n = int(head.batch.rows.offsets.searchsorted(limit, "right"))
            self.rows -= n
            if n:
                part.batches.append(head.batch[:n])
            if n < len(head.batch):
                if n:
                    part.covered.append((head.batch.covers_from, part.batches[-1].covers_to))
                    head.batch = head.batch[n:]
                break
            if self.several and head.batch.covers_to > limit:
                # It answers for rows that are still here, though none is its own: a join that is
                # opened anew has to hear of that again.
                if n:
                    part.covered.append((head.batch.covers_from, part.batches[-1].covers_to))
                    head.batch = replace(head.batch[n:], covers_to=head.batch.covers_to)
                break
            part.covered.append((head.batch.covers_from, head.batch.covers_to))
            head.finished = True
            self.nbytes -= head.nbytes
            self.batches.popleft()
        return part
