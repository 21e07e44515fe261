r"""What aiokafka 0.14 does wrongly, done rightly.

- Header keys need not be text. Kafka's protocol says that they are UTF-8, but no broker checks it,
  and aiokafka gives up on the whole partition: one such record would stop every reader of it, again
  and again. `TolerantRecords` makes readable text of the key, such as `trace\xff`.
- A member of a group that knows several assignors joins with one request, see `join_at_once`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiokafka.protocol.group import JoinGroupRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords


def join_at_once(coordinator: Any) -> None:
    """Make *coordinator*, an aiokafka GroupCoordinator, name all its assignors in one request.

    aiokafka sends a request after each assignor that it adds to the list (aio-libs/aiokafka#1168).
    To a broker a member whose list is another one has changed, and all have to join again: two
    members of a group that start at once may do that to each other for ever.
    """
    assignors = {each.name: each for each in coordinator._assignors}
    send = coordinator._send_req

    async def send_req(request: Any) -> Any:
        if isinstance(request, JoinGroupRequest):
            topics = coordinator._subscription.subscription.topics
            request._group_protocols = [
                (name, each.metadata(topics).encode()) for name, each in assignors.items()
            ]
        return await send(request)

    coordinator._assignors = tuple(assignors.values())[:1]  # one turn of aiokafka's loop over them
    coordinator._lookup_assignor = assignors.get
    coordinator._send_req = send_req


class TolerantRecords:
    """What a fetch has brought of a partition, batch by batch; aiokafka's interface."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._records = MemoryRecords(data)
        self._given = 0
        self.has_next = self._records.has_next
        self.size_in_bytes = self._records.size_in_bytes

    def next_batch(self) -> TolerantBatch:
        """The next batch, undecoded."""
        self._given += 1
        return TolerantBatch(self._records.next_batch(), self._data, self._given)


class TolerantBatch:
    """A batch that decodes itself as aiokafka does, and with more patience if that fails."""

    def __init__(self, batch: Any, data: bytes, number: int) -> None:
        self._batch = batch
        self._data = data
        self._number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            return iter(list(self._patient()))

    def _patient(self) -> Any:
        """The same batch, decoded in Python: aiokafka's fast decoder keeps its bytes to itself."""
        start = 0
        for _ in range(self._number - 1):
            start += self._size(start)
        return _PatientBatch(bytearray(self._data[start : start + self._size(start)]))

    def _size(self, start: int) -> int:
        """Bytes of the batch there: after its offset it says how many follow that length."""
        return 12 + int.from_bytes(self._data[start + 8 : start + 12], "big")


class _PatientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka has no types
    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer: bytearray = _Readable(self._buffer)


class _Readable(bytearray):
    """Bytes that always decode: what is no text is written as its hexadecimal code."""

    def __getitem__(self, at: Any) -> Any:
        got = super().__getitem__(at)
        return _Readable(got) if isinstance(at, slice) else got

    def decode(self, encoding: str = "utf-8", errors: str = "") -> str:  # noqa: ARG002  # its interface
        return bytes(self).decode(encoding, "backslashreplace")
