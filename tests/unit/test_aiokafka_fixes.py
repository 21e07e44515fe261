"""What aiokafka does wrongly: done rightly here, and noticed when it mends it itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance, GroupCoordinator
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.protocol.group import JoinGroupRequest, JoinGroupResponse_v5, SyncGroupRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from topics.kafka.aiokafka_fixes import TolerantRecords, join_at_once
from topics.transport.assignor import PartitionNumberAssignor

GZIP = 1


class Raw(str):
    """A header key of bytes that are no UTF-8."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"tr\xffce"


def batch(keys: list[str], *, codec: int = 0, first: int = 0) -> bytes:
    """A record batch whose records have these header keys."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, -1, 2**20)
    for offset, key in enumerate(keys):
        builder.append(offset, 1000 + offset, b"k%d" % offset, b"v", [(key, b"h")])
    made = bytearray(builder.build())
    made[:8] = first.to_bytes(8, "big")
    return bytes(made)


@pytest.mark.parametrize("codec", [0, GZIP])
def test_a_header_key_that_is_no_text_becomes_readable(codec: int) -> None:
    data = batch(["a", "b"]) + batch(["c", Raw("x"), "é"], codec=codec, first=2)
    records, found = TolerantRecords(data), []
    assert records.size_in_bytes() == len(data)
    while records.has_next():
        made = records.next_batch()
        assert made.validate_crc()
        found += [(r.offset, r.key, r.value, r.timestamp, list(r.headers)) for r in made]
    assert [(offset, headers) for offset, *_, headers in found] == [
        (0, [("a", b"h")]), (1, [("b", b"h")]), (2, [("c", b"h")]),
        (3, [("tr\\xffce", b"h")]), (4, [("é", b"h")]),
    ]  # fmt: skip
    assert [(key, value, at) for _, key, value, at, _ in found[2:]] == [
        (b"k0", b"v", 1000), (b"k1", b"v", 1001), (b"k2", b"v", 1002),
    ]  # fmt: skip


def test_a_batch_that_is_corrupt_is_still_refused() -> None:
    data = bytearray(batch(["a"]))
    data[-3] ^= 0xFF
    assert not TolerantRecords(bytes(data)).next_batch().validate_crc()


class Coordinator:
    """What of a GroupCoordinator a join asks for; it notes what is sent."""

    member_id, generation, _group_instance_id, _rebalance_timeout_ms = "", -1, None, 60_000
    _lookup_assignor = GroupCoordinator._lookup_assignor

    def __init__(self) -> None:
        self._assignors = (PartitionNumberAssignor, RangePartitionAssignor)
        self._subscription = SimpleNamespace(subscription=SimpleNamespace(topics={"t"}))
        self.offered: list[list[str]] = []

    async def _send_req(self, request: object) -> object:
        if isinstance(request, JoinGroupRequest):
            self.offered.append([name for name, _ in request._group_protocols])
            if not self.member_id:
                return JoinGroupResponse_v5(0, 79, -1, "", "", "given", [])
            return JoinGroupResponse_v5(0, 0, 1, "range", "another", self.member_id, [])
        assert isinstance(request, SyncGroupRequest)
        return SimpleNamespace(error_code=0, member_assignment=b"")

    async def join(self) -> None:
        subscription = SimpleNamespace(topics={"t"}, active=True)
        await CoordinatorGroupRebalance(
            self, "group", 0, subscription, self._assignors, 10_000, 100
        ).perform_group_join()


async def test_a_member_with_two_assignors_joins_with_one_list_of_them() -> None:
    coordinator = Coordinator()
    join_at_once(coordinator)
    await coordinator.join()
    await coordinator.join()
    all_of_them = ["anabranch", "range"]
    assert coordinator.offered == [all_of_them] * 3  # the first answer only gives it its id
    assert coordinator._lookup_assignor("range") is RangePartitionAssignor
    assert coordinator._lookup_assignor("sticky") is None


async def test_aiokafka_itself_still_joins_once_for_each_assignor() -> None:
    coordinator = Coordinator()
    coordinator.member_id = "given"
    await coordinator.join()
    assert coordinator.offered != [["anabranch", "range"]], "join_at_once is not needed any more"
