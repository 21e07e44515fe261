"""How far a worker is behind, partition by partition."""

from __future__ import annotations

from collections.abc import Iterable

from topics.transport import MicroBatchConsumer


def partition_lag(consumer: MicroBatchConsumer, owned: Iterable[int]) -> dict[int, int]:
    """Each partition that is *owned* → records left to do, of all its topics."""
    behind = dict.fromkeys(owned, 0)
    for tp in consumer.assignment():
        if tp.partition in behind:
            behind[tp.partition] += consumer.lag_of(tp)
    return behind
