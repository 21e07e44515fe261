"""A log is taken up again where the snapshot was made, and nothing in between is passed over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from agents.recovery.log_rewind import LogRewind
from topics.transport.fetch import continued

EVENTS = TP("p.events", 0)


def worker_of(first: int, rewound: list[int]) -> Any:
    async def bounds(_topic: str, _partition: int) -> tuple[int, int]:
        return first, 1000

    batches = SimpleNamespace(rewind=lambda _tp, offset: rewound.append(offset))
    return SimpleNamespace(
        tail=SimpleNamespace(bounds=bounds),
        wiring=SimpleNamespace(app=SimpleNamespace(batches=batches)),
    )


async def test_fetches_that_were_on_their_way_are_left_until_the_log_comes_again() -> None:
    rewound: list[int] = []
    worker, resumption = worker_of(0, rewound), LogRewind(40)
    assert await resumption.leaves(worker, EVENTS, 100)
    assert rewound == [40]
    assert await resumption.leaves(worker, EVENTS, 120), "fetched before the log was rewound"
    assert not await resumption.leaves(worker, EVENTS, 40)
    assert not await resumption.leaves(worker, EVENTS, 120)
    assert rewound == [40]


async def test_a_log_without_records_in_between_is_taken_up_at_the_next() -> None:
    worker, resumption = worker_of(0, []), LogRewind(40)
    assert await resumption.leaves(worker, EVENTS, 100)
    assert not await resumption.leaves(worker, EVENTS, 100)


@pytest.mark.parametrize("read_from", [None, 100, 200])
async def test_there_is_nothing_to_rewind_before_the_snapshot(read_from: int | None) -> None:
    rewound: list[int] = []
    assert not await LogRewind(read_from).leaves(worker_of(0, rewound), EVENTS, 100)
    assert rewound == []


async def test_what_was_deleted_is_said(caplog: pytest.LogCaptureFixture) -> None:
    rewound: list[int] = []
    assert await LogRewind(0).leaves(worker_of(30, rewound), EVENTS, 100)
    assert rewound == [30]
    assert "offsets 0 to 29 were deleted" in caplog.text


async def test_what_is_deleted_after_the_log_was_rewound_is_not_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rewound: list[int] = []
    worker, resumption = worker_of(0, rewound), LogRewind(40)
    assert await resumption.leaves(worker, EVENTS, 100)
    worker.tail = worker_of(110, rewound).tail
    assert await resumption.leaves(worker, EVENTS, 120), "those from 110 on come before"
    assert not await resumption.leaves(worker, EVENTS, 110)
    assert "offsets before 110 were deleted" in caplog.text
    assert not await resumption.leaves(worker, EVENTS, 120)


def test_what_is_fetched_after_a_rewind_does_not_follow_what_was_before_it() -> None:
    def records(*offsets: int) -> Any:
        return [SimpleNamespace(offset=offset) for offset in offsets]

    assert continued([], records(7, 8)) == records(7, 8)
    assert continued(records(5, 6), records(7, 9)) == records(5, 6, 7, 9)
    assert continued(records(120, 121), records(40, 41)) == records(40, 41)
