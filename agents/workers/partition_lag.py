"""How far a worker is behind, partition by partition."""

from __future__ import annotations

from collections.abc import Iterable

from faust.types import TP

from topics.transport import MicroBatchConsumer


def partition_lag(consumer: MicroBatchConsumer, owned: Iterable[int]) -> dict[int, int]:
    """Each partition that is *owned* → records left to do, of all its topics."""
    behind = dict.fromkeys(owned, 0)
    for tp in consumer.assignment():
        if tp.partition in behind:
            behind[tp.partition] += max(0, consumer.stable_end(tp) - _done(consumer, tp))
    return behind


def _done(consumer: MicroBatchConsumer, tp: TP) -> int:
    """The offset before which all is dealt with, as `MicroBatchConsumer.lag` has it."""
    done = consumer._done.get(tp)  # noqa: SLF001  # nobody else needs one partition's
    return consumer.committed(tp) if done is None else done
