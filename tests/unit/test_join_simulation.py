"""Whole logs of stages with lanes, read in any order, with restarts: every row leaves once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random

import pytest

from agents.join import Moment, PartitionJoin
from agents.join.lane import Position
from tests.unit.stage_batches import batch_of
from topics.records.heartbeat import Heartbeat
from topics.records.stage_batch import StageBatch

NOW = Moment(0.0, 0.0, lambda _: False)
Log = list[StageBatch | Heartbeat]


def chunks(random: Random, offsets: Sequence[int]) -> list[Sequence[int]]:
    found, at = [], 0
    while at < len(offsets):
        count = random.randint(1, random.choice([3, 12]))
        found.append(offsets[at : at + count])
        at += count
    return found


def whole_log(random: Random, stage: str, offsets: Sequence[int]) -> Log:
    log: Log = []
    after = 0
    for part in chunks(random, offsets):
        log.append(batch_of(stage, part, covers_from=after))
        after = part[-1] + 1
    return log


def laned_log(random: Random, stage: str, offsets: Sequence[int], lanes: list[int]) -> Log:
    """Of every lane the rows that are its own, and how far it answers; one may be far ahead."""
    logs: list[Log] = []
    for lane in range(max(lanes) + 2):
        log: Log = []
        after = 0
        for part in chunks(random, offsets):
            own = [offset for offset in part if lanes[offsets.index(offset)] == lane]
            batch = batch_of(stage, own) if own else batch_of(stage, [0])[:0]
            log.append(replace(batch, lane=lane, covers_from=after, covers_to=part[-1]))
            after = part[-1] + 1
            if random.random() < 0.2:
                heartbeat = Heartbeat(component=stage, partition=0, lane=lane, worker="w",
                                 state="working", frontier=part[-1])  # fmt: skip
                log.append(heartbeat)
            if random.random() < 0.1:  # a worker starts anew, and writes some again
                log.extend(log[-random.randint(1, 4) :])
        logs.append(log)
    weights = [random.random() ** 3 + 0.01 for _ in logs]
    mixed: Log = []
    while any(logs):
        (lane,) = random.choices(range(len(logs)), weights)
        if logs[lane]:
            mixed.append(logs[lane].pop(0))
    return mixed


@pytest.mark.parametrize("block", range(10))
def test_every_row_leaves_once_in_order_and_with_every_answer_whatever_is_read_when(
    block: int,
) -> None:
    for seed in range(30 * block, 30 * block + 30):
        random = Random(seed)
        offsets = sorted(random.sample(range(160), random.randint(5, 80)))
        lanes = [random.randrange(3) if random.random() < 0.7 else 0 for _ in offsets]
        laned = random.choice([["b"], ["b", "c"]])
        logs = {stage: laned_log(random, stage, offsets, lanes) for stage in laned}
        if random.random() < 0.5:
            logs["a"] = whole_log(random, "a", offsets)
        check(random, logs, dict.fromkeys(laned, max(lanes) + 2), offsets)


def paused_inputs(join: PartitionJoin, stages: Iterable[str], max_bytes: int) -> set[str]:
    """Inputs that are not read: never the one that the others wait for, but all that are full."""
    paused = join.full_inputs()
    behind = min(stages, key=join.frontier_of)
    assert behind not in paused
    for stage in stages:
        is_ahead = join.frontier_of(stage) > join.frontier_of(behind)
        assert stage in paused or not is_ahead or join.bytes_of(stage) < max_bytes
    return paused


def push(
    join: PartitionJoin, batch: StageBatch, at: Position, size: int, max_bytes: int | None
) -> None:
    """Give it a batch of a record of *size* bytes; *max_bytes* where its stage has lanes."""
    stage = batch.component
    before = join.bytes_of(stage)
    is_ahead = join.frontier_of(stage, batch.lane) > join.frontier_of(stage)
    join.push(batch, at, NOW, size)
    came = join.bytes_of(stage) - before
    if max_bytes is None:
        assert came >= size, "what has no lanes is paused, not refused"
    elif is_ahead and before >= max_bytes:
        assert came == 0, "a lane that is ahead is held beyond the bound"


def check(random: Random, logs: dict[str, Log], lanes: dict[str, int], offsets: list[int]) -> None:
    committed, position = dict.fromkeys(logs, 0), dict.fromkeys(logs, 0)
    done, seen, max_rows = -1, list[int](), random.choice([random.randint(1, 30), 10**9])
    max_bytes = random.choice([1, random.randint(1, 100_000), 10**9])

    def opened() -> PartitionJoin:
        return PartitionJoin(list(logs), done=done, at=NOW, stall_timeout_s=10,
                             max_rows=max_rows, max_bytes=max_bytes, lanes=lanes)  # fmt: skip

    join = opened()
    for step in range(6000):
        if step < 3000 and random.random() < 0.01:
            join, position = opened(), dict(committed)
        paused = paused_inputs(join, logs, max_bytes)
        for stage in random.sample(list(logs), len(logs)):
            if stage in paused:
                continue
            count = random.randint(0, 8)
            for record in logs[stage][position[stage] : position[stage] + count]:
                position[stage] += 1
                at = (stage, position[stage])
                if isinstance(record, Heartbeat):
                    join.hear(record, at, NOW)
                else:
                    size = random.choice([0, 10, 50_000, 200_000])
                    push(join, record, at, size, max_bytes if stage in lanes else None)
        while (joined := join.pop()) is not None:
            rows = joined.rows.offsets.tolist()
            assert rows == offsets[len(seen) : len(seen) + len(rows)]
            assert all(answers.present.all() for answers in joined.stages.values())
            assert joined.unaccounted == 0
            seen += rows
            done = rows[-1] if rows else done
            committed |= {str(source): to for source, to in joined.positions.items()}
        position |= {str(source): to for source, to in join.read_again().items()}
        assert join.late_rows == 0
        if seen == offsets and all(committed[name] == len(log) for name, log in logs.items()):
            return
    raise AssertionError(f"it stands still: {len(seen)} of {len(offsets)} rows, {committed}")
