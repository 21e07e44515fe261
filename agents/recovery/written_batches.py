"""How far a component has answered, and what it has written, as its topic says."""

from __future__ import annotations

from contextlib import aclosing, suppress
from functools import partial

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.workers import GAP, TailReader, readable
from topics.errors import WireError
from topics.records import HEADER, Heartbeat, Ints, StageBatch, decode, heartbeat_of

_FEW = 8


async def last_answer(tail: TailReader, topic: str, partition: int, component: str) -> int:
    """The highest source offset that *component* has answered on its topic; -1 for none."""
    answers = await tail.last_read(topic, partition, partial(answered_to, component))
    return max(answers, default=-1)


def answered_to(component: str, record: ConsumerRecord) -> int | None:
    """Up to which source offset *component* has answers, as a record of its topic says.

    None when it does not say. Raises WireError for a record that is not of the component.
    """
    headers = dict(record.headers)
    heartbeat = heartbeat_of(record.value, headers)
    about = decode(record.value, headers) if heartbeat is None else heartbeat
    if (about.component, about.partition) != (component, record.partition):
        raise WireError(f"it is of {about.component}[{about.partition}], which belongs elsewhere")
    if isinstance(about, Heartbeat):
        return about.frontier if about.frontier >= 0 else None
    return int(about.rows.offsets[-1])


class WrittenBatches:
    """The outputs of a component in one partition, from a source offset on, as they stand.

    Read again by those that are behind it: they are computed from what stands.
    """

    def __init__(self, tail: TailReader, topic: str, partition: int, position: int) -> None:
        self._tail = tail
        self._topic = topic
        self._partition = partition
        self._position = position
        self._next: list[StageBatch] = []

    @classmethod
    async def after(
        cls, tail: TailReader, topic: str, partition: int, offset: int
    ) -> WrittenBatches:
        """The outputs for source offsets behind *offset*: where they begin is looked for."""
        first, end = await tail.bounds(topic, partition)
        start, back = end, GAP
        while start > first:
            start = max(first, end - back)
            records = await tail.between(topic, partition, start, min(end, start + _FEW))
            offsets = readable(records, _first_source_offset)
            if offsets and offsets[0] <= offset + 1:
                break
            back *= 2
        return cls(tail, topic, partition, start)

    async def of(self, offsets: Ints) -> list[StageBatch]:
        """The outputs for these source offsets (N,), ascending, and behind those asked before."""
        outputs: list[StageBatch] = []
        last = int(offsets[-1])
        while not self._next or self._next[-1].covers_to < last:
            if not await self._read_on():
                break
        waiting, self._next = self._next, []
        for batch in waiting:
            n = int(batch.rows.offsets.searchsorted(last, "right"))
            outputs += _only(batch[:n], offsets)
            if n < len(batch):
                self._next.append(batch[n:])
        return outputs

    async def _read_on(self) -> bool:
        """Read the next records, as many as come in one fetch; False when there are no more."""
        _, end = await self._tail.bounds(self._topic, self._partition)
        if self._position >= end:
            return False
        until = min(end, self._position + GAP)
        chunks = self._tail.between_chunks(self._topic, self._partition, self._position, until)
        async with aclosing(chunks):
            async for records in chunks:
                for record in records:
                    self._take(record)
                if records:
                    self._position = records[-1].offset + 1
                    return True
        self._position = until
        return True

    def _take(self, record: ConsumerRecord) -> None:
        headers = dict(record.headers)
        if HEADER in headers:
            return
        with suppress(WireError):  # not ours: everybody else who reads the topic says so
            self._next.append(decode(record.value, headers))


def _first_source_offset(record: ConsumerRecord) -> int | None:
    """The first source offset that this record, or the next one, may be about."""
    headers = dict(record.headers)
    heartbeat = heartbeat_of(record.value, headers)
    if heartbeat is not None:
        return heartbeat.frontier + 1 if heartbeat.frontier >= 0 else None
    return int(decode(record.value, headers).rows.offsets[0])


def _only(batch: StageBatch, offsets: Ints) -> list[StageBatch]:
    """The batch's rows of these offsets, in runs."""
    wanted = np.isin(batch.rows.offsets, offsets)
    if not wanted.any():
        return []
    edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False)).tolist()
    return [batch[start:stop] for start, stop in zip(edges[::2], edges[1::2], strict=True)]
