"""Publishing at a rate, whatever comes of it: an open loop.

An event's timestamp is the time at which it was due. A publisher, or a broker, that falls
behind makes events late, not fewer, so no wait is left out of the figures (what Gil Tene
calls coordinated omission).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from threading import Event as Flag

from confluent_kafka import Producer

from tests.benchmarks.broker import Broker
from tests.benchmarks.load import Event

_FLUSH_S = 30.0
_ERRORS = 3
"""The log level of syslog: that a new broker asks for patience is no news."""


class NotPublished(Exception):
    """The broker has not taken every event."""


def publish_paced(
    broker: Broker, topic: str, events: Iterable[Event], rate: float, start_s: float, stop: Flag
) -> int:
    """Publish *events*, the nth due at start_s + n / rate by the wall clock; how many there were.

    Ends early when *stop* is set. Raises NotPublished.
    """
    producer = Producer({
        "bootstrap.servers": broker.address, "enable.idempotence": True, "linger.ms": 0,
        "partitioner": "murmur2_random", "log_level": _ERRORS,
    })  # fmt: skip
    given = 0
    for event in events:
        due_s = start_s + given / rate
        if (left_s := due_s - time.time()) > 0:
            time.sleep(left_s)
        if stop.is_set():
            break
        _produce(producer, topic, event, int(due_s * 1000))
        given += 1
    if left := producer.flush(_FLUSH_S):
        raise NotPublished(f"{left} of {given} events after {_FLUSH_S:.0f} s")
    return given


def _produce(producer: Producer, topic: str, event: Event, timestamp_ms: int) -> None:
    while True:
        try:
            producer.produce(topic, event.value, event.key, timestamp=timestamp_ms)
        except BufferError:  # the broker is far behind: wait, the event's time stays as it is
            producer.poll(0.01)
        else:
            producer.poll(0)
            return
