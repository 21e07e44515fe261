"""What is read before a redrive: what cannot be is left out, and harms no other event."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest
from aiokafka.structs import ConsumerRecord

from agents.redrive.dead_letter_index import Coordinates, DeadLetter, DeadLetterIndex
from agents.redrive.preparation import KnownOutputs, RedrivePlanner, Selection, find_outputs
from agents.redrive.sender import RedriveProgress
from tests.unit.redrives import event_of, redrive_of
from tests.unit.stage_batches import batch_of
from tests.unit.topic_log import TopicLog, record
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.topology import Topology
from topics.records.dead_letter import dead_letter
from topics.records.stage_batch import Failure, StageBatch
from topics.records.wire import encode
from topics.redrive.wire import encode_redrive

PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline
TOPOLOGY = Topology.of(PIPELINE)


def letter_record(offset: int, attempt: int = 1, published_ms: int = 5) -> ConsumerRecord:
    letter = dead_letter(
        Failure(0, "features", "InvalidEvent", "amount: missing"), (TOPOLOGY.events, 0, offset),
        (b"k", b"{}", ()), 5, published_ms=published_ms, attempt=attempt,
    )  # fmt: skip
    return record(
        TOPOLOGY.dead_letters, 0, letter.value, key=letter.key, headers=letter.headers
    )  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        letter_record(-1), letter_record(2**62), letter_record(7, attempt=0),
        letter_record(7, attempt=1001), letter_record(7, published_ms=2**62 + 1),
        letter_record(7, published_ms=-(10**30)),
    ],
)  # fmt: skip
def test_a_dead_letter_whose_numbers_no_redrive_record_can_say_is_none(
    wrong: ConsumerRecord,
) -> None:
    letters = DeadLetterIndex("id")
    letters.add_dead_letter(wrong, payloads=True)
    assert letters.newest == {}
    letters.add_dead_letter(letter_record(7), payloads=True)
    assert list(letters.newest) == [Coordinates(0, 7)]


def test_after_as_many_attempts_as_a_redrive_record_can_say_a_letter_is_given_up() -> None:
    letters = DeadLetterIndex("id")
    assert letters.state(DeadLetter.of(letter_record(7, 999), "id"), 2000) == "dead"
    assert letters.state(DeadLetter.of(letter_record(7, 1000), "id"), 2000) == "given up"


@dataclass
class StageTopic:
    """A tail of one stage topic."""

    topic: str
    batches: Sequence[StageBatch]

    async def since(self, topic: str, partition: int, since_ms: int) -> int:
        return 0

    async def chunks(
        self, topic: str, partition: int, start: int
    ) -> AsyncIterator[list[ConsumerRecord]]:
        if topic == self.topic:
            for offset, batch in enumerate(self.batches[start:]):
                value, headers = encode(batch)
                yield [record(topic, offset, value, headers=headers, partition=partition)]


async def test_outputs_of_another_source_or_component_are_not_taken_for_the_letters() -> None:
    own = replace(batch_of("features", [7]), topic=TOPOLOGY.events)
    foreign = [
        replace(own, topic="others.events"), replace(own, partition=1),
        replace(own, component="terminals"),
    ]  # fmt: skip
    tail = StageTopic(TOPOLOGY.stage("features"), [*foreign, own])
    known = KnownOutputs()
    letter = DeadLetter.of(letter_record(7), "id")
    await find_outputs(cast("Any", tail), TOPOLOGY, [letter], known)
    assert known.present(letter.source) == {"features"}
    (batch,) = known.of(0, "features", np.array([7]))
    assert batch.topic == TOPOLOGY.events
    assert known.present(Coordinates(1, 7)) == frozenset()


async def test_what_travelled_with_another_source_s_event_is_not_taken_for_a_letter_s() -> None:
    log, letters = TopicLog(), DeadLetterIndex("id")
    letter = DeadLetter.of(letter_record(7, attempt=2), "id")
    for offset, topic in enumerate(["others.events", TOPOLOGY.events]):
        batch = redrive_of("features", offsets=[7])
        (output,) = batch.outputs["features"]
        batch = replace(
            batch, topic=topic, outputs={"features": [replace(output, topic=topic)]}
        )  # fmt: skip
        sent = encode_redrive(batch, 5)
        log.write([record(TOPOLOGY.redrive, offset, sent.value, headers=sent.headers)])
        letters.last[letter.source, 2] = (0, offset)
        planner = RedrivePlanner(cast("Any", log), PIPELINE, letters)
        (redrive,) = await planner.redrive_batches(Selection([letter]))
        assert list(redrive.outputs) == (["features"] if topic == TOPOLOGY.events else [])
        redrive.check_outputs()


def test_one_that_the_topic_does_not_take_is_not_counted_as_ended_by_somebody_else() -> None:
    progress, event = RedriveProgress(), event_of(7)
    attempt = (Coordinates(0, 7), 2)
    progress.add_ending(attempt, "decision")
    assert progress.add_sent({attempt}) == 1
    progress.add_refused(event, "too large")
    assert (progress.under_way, progress.ended, progress.sent) == (0, 0, set())
    assert progress.refused == [(event, "too large")]
