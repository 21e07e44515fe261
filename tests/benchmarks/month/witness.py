"""What stands on the topics, read by a plain consumer from offset 0: nothing of ours but JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

_TOPICS = ("decisions", "dead-letters", "monitor", "renewals", "control")
_METADATA_MS = 5000
"""Some topics are made while it reads."""


class SeenDecision(NamedTuple):
    """A decision, as far as it is judged."""

    score: float | None
    action: str
    """What was done."""
    degraded: bool


@dataclass(slots=True)
class Witness:
    """Follows what a pipeline writes."""

    broker: str
    pipeline: str
    decided: dict[str, SeenDecision] = field(default_factory=dict)
    """Event id → its first decision."""
    times_decided: Counter[str] = field(default_factory=Counter)
    dead_letters: int = 0
    monitor: list[Mapping[str, Any]] = field(default_factory=list)
    renewals: list[Mapping[str, Any]] = field(default_factory=list)
    control: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    explored: int = 0

    @property
    def prepares_renewal(self) -> bool:
        """A renewal has begun, and its challengers do not run yet."""
        newest = max((each.get("renewal", 0) for each in self.renewals), default=0)
        is_over = any(
            each.get("kind") == "verdict" or each.get("step") == "compare"
            for each in self.renewals if each.get("renewal") == newest
        )  # fmt: skip
        return newest > 0 and not is_over

    async def follow(self) -> None:
        """Read for ever."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.broker, enable_auto_commit=False,
            auto_offset_reset="earliest", isolation_level="read_committed",
            metadata_max_age_ms=_METADATA_MS,
        )  # fmt: skip
        await consumer.start()
        consumer.subscribe(pattern=rf"^{self.pipeline}\.({'|'.join(_TOPICS)})$")
        read = dict[TopicPartition, int]()
        try:
            while True:
                fetched = await consumer.getmany(timeout_ms=200)
                for tp, records in fetched.items():
                    for record in records:
                        # Where a topic has been made since, all may be given from the start again.
                        if record.offset >= read.get(tp, 0):
                            self._take(tp.topic.removeprefix(f"{self.pipeline}."), record)
                            read[tp] = record.offset + 1
        finally:
            await consumer.stop()

    def _take(self, topic: str, record: Any) -> None:
        if topic == "dead-letters":
            self.dead_letters += 1
            return
        if record.value is None:
            return
        with suppress(ValueError):
            said = json.loads(record.value)
            if topic == "decisions":
                self._decision(said)
            elif topic == "monitor":
                self.monitor.append(said)
            elif topic == "renewals":
                self.renewals.append(said)
            elif topic == "control":
                self.control.append((record.key.decode(), said))

    def _decision(self, said: Mapping[str, Any]) -> None:
        name = str(said["event_id"])
        self.times_decided[name] += 1
        self.explored += said.get("explored") is True
        self.decided.setdefault(
            name, SeenDecision(said["score"], str(said["decision"]), bool(said["degraded"]))
        )
