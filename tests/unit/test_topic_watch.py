"""What running workers notice of their topics."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import ConsumerRecord

from agents.identity.topic_watch import TopicWatch, raise_changed
from tests.unit.topic_log import TopicLog, record
from topics.errors import AnabranchError, TopicMismatch, TopicMissing, TopicRecreated
from topics.kafka.topic_identity import TopicIdentity
from topics.pipeline.topology import Topology

TOPOLOGY = Topology("p", ("features",), 2)
WITH_WINDOWS = Topology("p", ("features", "places"), 2, ("places",), ("places",), ("places",))


def broker(id_: str | None = "a") -> TopicLog:
    return TopicLog(dict.fromkeys(TOPOLOGY.all, TopicIdentity(id_, 2)))


def _event(offset: int, value: bytes = b"{}", published_ms: int = 5) -> ConsumerRecord:
    return record("p.events", offset, value, published_ms=published_ms)


async def refusal(watch: TopicWatch, error: type[AnabranchError]) -> str:
    with pytest.raises(error) as caught:
        await watch.look()
    return str(caught.value)


async def test_topics_that_stay_as_they_are_are_fine() -> None:
    log = broker()
    watch = await TopicWatch.begin(log, TOPOLOGY)
    for _ in range(3):
        await watch.look()


@pytest.mark.parametrize("topic", TOPOLOGY.all)
async def test_a_topic_that_gets_another_id_or_more_partitions_is_told(topic: str) -> None:
    log = broker()
    watch = await TopicWatch.begin(log, TOPOLOGY)
    log.topics[topic] = TopicIdentity("b", 2)
    told = await refusal(watch, TopicRecreated)
    assert f"{topic} had the id a, and has b now: {topic} was deleted and made anew" in told
    log.topics[topic] = TopicIdentity("a", 3)
    told = await refusal(watch, TopicMismatch)
    assert f"{topic} has 3 partitions, the pipeline file says 2" in told


@pytest.mark.parametrize("topic", WITH_WINDOWS.all)
async def test_what_was_made_anew_while_no_worker_ran_is_refused_where_offsets_of_it_are_known(
    topic: str,
) -> None:
    log = TopicLog(dict.fromkeys(WITH_WINDOWS.all, TopicIdentity("a", 2)))
    earlier = (await TopicWatch.begin(log, WITH_WINDOWS)).ids
    assert set(earlier) == set(WITH_WINDOWS.all)
    log.topics[topic] = TopicIdentity("b", 2)
    if topic in ("p.control", "p.redrive", "p.reports", "p.places.state"):
        assert (await TopicWatch.begin(log, WITH_WINDOWS, earlier)).ids[topic] == "b"
        return
    with pytest.raises(TopicRecreated) as caught:
        await TopicWatch.begin(log, WITH_WINDOWS, earlier)
    assert f"{topic} has the id b, but the workers of p dealt with the topic" in str(caught.value)
    assert "delete its consumer groups" in str(caught.value)


async def test_a_start_compares_no_topic_that_is_new_to_the_file_and_none_without_an_id() -> None:
    earlier = {"p.features": "a", "p.dropped": "a"}
    watch = await TopicWatch.begin(broker(), TOPOLOGY, earlier)
    assert "p.dropped" not in watch.ids
    assert (await TopicWatch.begin(broker(None), TOPOLOGY, earlier)).ids == {}


async def test_a_topic_is_gone_when_it_is_not_there_twice_in_a_row() -> None:
    log = broker()
    watch = await TopicWatch.begin(log, TOPOLOGY)
    for _ in range(3):  # a broker that has just started may not know of it yet
        log.topics["p.features"] = None
        await watch.look()
        log.topics["p.features"] = TopicIdentity("a", 2)
        await watch.look()
    log.topics["p.features"] = None
    await watch.look()
    assert "topic p.features is missing" in await refusal(watch, TopicMissing)


async def test_topics_that_are_hidden_or_were_never_there_are_nobodys_concern() -> None:
    log = broker()
    log.topics["p.redrive"] = None
    del log.topics["p.control"]
    watch = await TopicWatch.begin(log, TOPOLOGY)
    await watch.look()
    await watch.look()
    log.topics["p.redrive"] = TopicIdentity("made later", 2)
    await watch.look()
    log.topics["p.redrive"] = TopicIdentity("made again", 2)
    await refusal(watch, TopicRecreated)


async def test_without_ids_the_newest_record_of_a_source_tells() -> None:
    log = broker(None)
    log.write([_event(0), _event(1)])
    watch = await TopicWatch.begin(log, TOPOLOGY)
    log.write([_event(2, b'{"x": 1}')])
    await watch.look()
    tp = next(iter(log.records))
    log.first[tp] = 3  # retention
    await watch.look()
    log.write([_event(3)])
    await watch.look()
    log.records[tp][-1] = _event(3, b'{"x": 2}')
    assert "p.events[0]@3 is another record than before" in await refusal(watch, TopicRecreated)
    log.records[tp][-1] = _event(3, published_ms=6)
    await refusal(watch, TopicRecreated)
    log.first[tp], log.end[tp], log.records[tp] = 0, 2, log.records[tp][:2]
    told = await refusal(watch, TopicRecreated)
    assert "p.events[0] had a record at offset 3, and ends at 2 now" in told


async def test_a_broker_that_does_not_answer_is_asked_again() -> None:
    log = broker()
    watch = await TopicWatch.begin(log, TOPOLOGY)
    answers = iter([KafkaConnectionError("away"), None, KafkaConnectionError("away")])
    identities = log.identities

    async def flaky(topics: object) -> object:
        if (failure := next(answers, None)) is not None:
            raise failure
        return await identities(topics)  # type: ignore[arg-type]  # passed on

    log.identities = flaky  # type: ignore[method-assign, assignment]  # a broker with moods
    looking = asyncio.create_task(raise_changed(watch, 0.001))
    await asyncio.sleep(0.05)
    assert not looking.done()
    log.topics["p.events"] = TopicIdentity("b", 2)
    with pytest.raises(TopicRecreated):
        await asyncio.wait_for(looking, 10)
