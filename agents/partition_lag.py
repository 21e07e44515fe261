"""How far a worker is behind, partition by partition."""

from __future__ import annotations

from collections.abc import Sequence

from faust.types import TP

from topics.consumer import MicroBatchConsumer


def partition_lag(consumer: MicroBatchConsumer, topics: Sequence[str]) -> dict[int, int]:
    """Each partition that the worker owns, which is in all of *topics* → records left to do.

    Those of other topics that it has of the partition count too.
    """
    assigned = consumer.assignment()
    owned = set.intersection(
        *({tp.partition for tp in assigned if tp.topic == topic} for topic in topics)
    )
    behind = dict.fromkeys(sorted(owned), 0)
    for tp in assigned:
        if tp.partition in behind:
            behind[tp.partition] += max(0, consumer.highwater(tp) - _done(consumer, tp))
    return behind


def _done(consumer: MicroBatchConsumer, tp: TP) -> int:
    """The offset before which all is dealt with, as `MicroBatchConsumer.lag` has it."""
    done = consumer._done.get(tp)  # noqa: SLF001  # nobody else needs one partition's
    return consumer.committed(tp) if done is None else done
