"""Topics that are made anew, widened, trimmed or compacted, while workers run and while none does.

A topic that was made anew is refused however far it has grown; what is left of the one that there
was never is.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from agents.broker.pipeline_topics import ensure_topics
from agents.identity.topic_watch import raise_changed
from agents.process.runner import PipelineRun, run_workers
from agents.service.open_pipeline import open_pipeline
from agents.workers import topic_tail as tail
from agents.workers.metrics import Metrics
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    decided,
    decisions_of,
    pipeline_running,
    publish,
    publish_raw,
    records_of,
    renamed,
    settled,
    simulated,
    stopped,
    worker_process,
)
from tests.kafka.topics_changed import (
    create_topic,
    delete_groups,
    delete_records,
    delete_topics,
    pipeline_groups,
    recreate,
    widen,
)
from tests.kafka_nodes import RUN, free_ports
from topics.errors import TopicMismatch, TopicMissing, TopicRecreated
from topics.kafka.batches import Record
from topics.kafka.topic_identity import TopicIdentity, topic_identities
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

RUNBOOK = RUN.parents[1] / "runbooks" / "AnabranchTopicMismatch.md"
REFUSED_WITHIN_S = 60
OFTEN_S = 0.5
"""For tests of what is noticed: how soon it is at the interval that ships, others try."""


@pytest.fixture
def no_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a broker that knows no topic ids: Kafka before 2.8, Event Hubs, Redpanda."""
    of_kafka = topic_identities

    async def without(client: object, topics: object) -> Mapping[str, TopicIdentity | None]:
        told = await of_kafka(client, topics)  # type: ignore[arg-type]  # passed on
        return {topic: each and each._replace(id=None) for topic, each in told.items()}

    monkeypatch.setattr(tail, "topic_identities", without)


@pytest.fixture(params=["ids", "no ids"])
def either(request: pytest.FixtureRequest) -> None:
    """With a broker that tells topics' ids, and with one that does not."""
    if request.param == "no ids":
        request.getfixturevalue("no_ids")


@asynccontextmanager
async def _workers(own: Trained, broker: BrokerSettings) -> AsyncIterator[PipelineRun]:
    """All components, which may fail."""
    await ensure_topics(broker, Topology.of(own.pipeline))
    async with run_workers(open_pipeline(own.file, own.registry), broker, Metrics()) as workers:
        yield workers


async def refusal_at_start(own: Trained, broker: BrokerSettings) -> BaseException:
    """What ends the components when they are started."""
    async with _workers(own, broker) as workers, asyncio.timeout(REFUSED_WITHIN_S):
        return (await workers.failed())[1]


async def _decided_and_stopped(own: Trained, broker: BrokerSettings, events: int) -> None:
    """The pipeline has decided so many events, and runs no longer."""
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, simulated(own.pipeline, events), 4000)
        await settled(broker, own.pipeline, events)


async def test_an_events_topic_made_anew_and_grown_while_workers_run_ends_them_and_their_successors(
    own: Trained, broker: BrokerSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    topology = Topology.of(own.pipeline)
    with worker_process(own, broker) as worker:
        await publish(broker, own.pipeline, simulated(own.pipeline, 400), 4000)
        await settled(broker, own.pipeline, 400)
        await recreate(broker, topology.events)
        await publish(broker, own.pipeline, simulated(own.pipeline, 1000, seed=8), 4000)
        assert await asyncio.to_thread(worker.wait, REFUSED_WITHIN_S) == 1
    assert f"{topology.events} was deleted and made anew" in capfd.readouterr().out
    # It may have read on in the new topic before it noticed: what it wrote then is no excuse.
    for _ in range(2):
        with worker_process(own, broker) as worker:
            assert await asyncio.to_thread(worker.wait, REFUSED_WITHIN_S) == 1
        assert f"{topology.events} has the id" in capfd.readouterr().out
    ended = len(await records_of(broker, topology.decisions))
    await _as_the_runbook_says(own, broker)
    async with pipeline_running(own, broker):
        audit = await settled(broker, own.pipeline, 1000)
    assert audit.passed
    assert ended < audit.total.decided == 1000


async def _as_the_runbook_says(own: Trained, broker: BrokerSettings) -> None:
    """Delete what the runbook's commands delete: Kafka's own tools are not among its libraries."""
    topology = Topology.of(own.pipeline)
    page = RUNBOOK.read_text().replace("PIPELINE", topology.pipeline)
    (pattern,) = {*re.findall(r"--delete --topic '(.+)'$", page, re.MULTILINE)}
    chosen = [topic for topic in topology.all if re.fullmatch(pattern, topic)]
    assert {*topology.all} - {*chosen} == {*topology.sources, topology.control}
    await delete_topics(broker, *chosen)
    await delete_groups(broker, await pipeline_groups(broker, topology))


async def test_an_events_topic_made_anew_and_grown_while_nothing_runs_is_refused_at_every_start(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    await _decided_and_stopped(own, broker, 400)
    await recreate(broker, topology.events)
    await publish(broker, own.pipeline, simulated(own.pipeline, 1000, seed=8), 4000)
    for _ in range(2):
        refusal = await refusal_at_start(own, broker)
        assert isinstance(refusal, TopicRecreated)
        assert f"{topology.events} has the id" in str(refusal)
    assert len(await records_of(broker, topology.decisions)) == 400
    other = renamed(own, own.home)  # the other way out
    async with pipeline_running(other, broker):
        await publish(broker, other.pipeline, simulated(own.pipeline, 1000, seed=8), 4000)
        assert (await settled(broker, other.pipeline, 1000)).passed


@pytest.mark.usefixtures("no_ids")
async def test_without_ids_a_topic_made_anew_and_grown_is_known_by_its_records(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    await _decided_and_stopped(own, broker, 400)
    await recreate(broker, topology.events)
    await publish(broker, own.pipeline, simulated(own.pipeline, 1000), 4000)  # the same events
    for _ in range(2):
        refusal = await refusal_at_start(own, broker)
        assert isinstance(refusal, TopicRecreated)
        assert "is not the record that was dealt with: that was published at" in str(refusal)
    assert len(await records_of(broker, topology.decisions)) == 400


@pytest.mark.usefixtures("either")
async def test_running_workers_notice_a_topic_made_anew_and_grown(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    async with _workers(own, broker) as workers:
        await publish(broker, own.pipeline, simulated(own.pipeline, 400), 4000)
        await settled(broker, own.pipeline, 400)
        await workers.topics.look()
        looking = asyncio.create_task(raise_changed(workers.topics, OFTEN_S))
        await recreate(broker, topology.events)
        await publish(broker, own.pipeline, simulated(own.pipeline, 1000, seed=8), 4000)
        with pytest.raises(TopicRecreated, match=f"(?s){topology.events}.*made anew"):
            await asyncio.wait_for(looking, REFUSED_WITHIN_S)


@pytest.mark.usefixtures("no_ids")
async def test_rows_of_the_new_topic_that_were_decided_before_it_was_noticed_hide_nothing(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    async with _workers(own, broker) as workers:
        await publish(broker, own.pipeline, simulated(own.pipeline, 400), 4000)
        await settled(broker, own.pipeline, 400)
        await recreate(broker, topology.events)
        await publish(broker, own.pipeline, simulated(own.pipeline, 1000, seed=8), 4000)
        failing = asyncio.create_task(workers.failed())
        await asyncio.wait(
            [failing, asyncio.create_task(decided(broker, own.pipeline, 1000))],
            timeout=20, return_when=asyncio.FIRST_COMPLETED,
        )  # fmt: skip
    assert isinstance(await refusal_at_start(own, broker), TopicRecreated)


async def test_a_stage_topic_that_was_made_anew_is_noticed_and_one_that_is_gone(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    async with _workers(own, broker) as workers:
        await publish(broker, own.pipeline, simulated(own.pipeline, 400), 4000)
        await settled(broker, own.pipeline, 400)
        looking = asyncio.create_task(raise_changed(workers.topics, OFTEN_S))
        await recreate(broker, topology.stage("features"))
        with pytest.raises(TopicRecreated, match=r"features had the id .* made anew"):
            await asyncio.wait_for(looking, REFUSED_WITHIN_S)
    await _as_the_runbook_says(own, broker)
    async with _workers(own, broker) as workers:
        await settled(broker, own.pipeline, 400)
        looking = asyncio.create_task(raise_changed(workers.topics, OFTEN_S))
        await delete_topics(broker, topology.control)
        with pytest.raises(TopicMissing, match="control is missing"):
            await asyncio.wait_for(looking, REFUSED_WITHIN_S)


async def test_what_was_made_anew_while_nothing_runs_is_refused_unless_no_offset_of_it_is_known(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    await _decided_and_stopped(own, broker, 400)
    await recreate(broker, topology.redrive)  # nobody minds
    await delete_topics(broker, topology.stage("risk-linear"))  # the next start makes it
    for _ in range(2):
        with pytest.raises(TopicRecreated, match=r"risk-linear has the id .* made anew"):
            async with pipeline_running(own, broker):
                pass


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read().decode()


async def _refused_health(port: int) -> dict[str, object]:
    """What /healthz says once it says 503."""
    deadline = time.monotonic() + REFUSED_WITHIN_S
    while time.monotonic() < deadline:
        try:
            code, said = await asyncio.to_thread(_get, port, "/healthz")
        except OSError:
            code, said = 0, ""  # not up yet
        if code == 503:
            health: dict[str, object] = orjson.loads(said)
            return health
        await asyncio.sleep(0.2)
    pytest.fail("the worker stays healthy")


async def test_partitions_added_while_workers_run_are_told_on_the_metrics_port_and_end_them(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    (port,) = free_ports(1)
    with worker_process(own, broker, words=["--metrics-port", str(port)]) as worker:
        await publish(broker, own.pipeline, simulated(own.pipeline, 400), 4000)
        await settled(broker, own.pipeline, 400)
        await widen(broker, topology.events, 6)
        health = await _refused_health(port)
        said = f"topic {topology.events} has 6 partitions, the pipeline file says 4"
        assert said in str(health["refused"])
        assert not health["live"]
        _, metrics = await asyncio.to_thread(_get, port, "/metrics")
        labels = f'pipeline="{topology.pipeline}",reason="partitions",topic="{topology.events}"'
        assert f"anabranch_topic_mismatch{{{labels}}} 1.0" in metrics
        assert await asyncio.to_thread(worker.wait, REFUSED_WITHIN_S) == 1
    # The next one, which finds them so, tells it just the same.
    with worker_process(own, broker, words=["--metrics-port", str(port)]) as worker:
        assert said in str((await _refused_health(port))["refused"])
        # It need not be waited for: whoever ends it has heard.
        assert await asyncio.to_thread(stopped, worker, signal.SIGTERM) == 1


async def test_after_partitions_were_added_a_pipeline_of_a_new_name_decides_what_was_left(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    await _decided_and_stopped(own, broker, 400)
    await widen(broker, topology.events, 6)
    late = [
        Record(key, value, int(time.time() * 1000))
        for key, value in simulated(own.pipeline, 200, seed=8)
    ]
    for partition in (0, 5):
        await publish_raw(broker, topology.events, partition, late[partition > 0 :: 2])
    with pytest.raises(TopicMismatch, match="events has 6 partitions, the pipeline file says 4"):
        async with pipeline_running(own, broker):
            pass
    wide = renamed(own, own.home, partitions=6)
    assert Topology.of(wide.pipeline).partitions == 6
    left = [
        (each.key, each.value) for each in await records_of(broker, topology.events, partitions=6)
    ]
    async with pipeline_running(wide, broker):
        await publish(broker, wide.pipeline, left, 4000)
        assert (await settled(broker, wide.pipeline, 600)).passed


# -- no false alarm


async def _goes_on(own: Trained, broker: BrokerSettings, before: int) -> None:
    """Workers that start again decide further events, and none again."""
    events = simulated(own.pipeline, 100, seed=9)
    async with pipeline_running(own, broker) as workers:
        await publish(broker, own.pipeline, events, 4000)
        await decided(broker, own.pipeline, before + len(events))
        await workers.topics.look()
        await workers.topics.look()
    sources = [(d["source"]["partition"], d["source"]["offset"])  # type: ignore[index]
               for d in await decisions_of(broker, own.pipeline)]  # fmt: skip
    assert len(set(sources)) == len(sources) == before + len(events)


@pytest.mark.usefixtures("either")
async def test_a_topic_whose_last_decided_record_was_deleted_is_the_same(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    await _decided_and_stopped(own, broker, 400)
    await delete_records(broker, topology.events, 0)
    await delete_records(broker, topology.events, 1, before=40)
    await _goes_on(own, broker, 400)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("kind", ["CreateTime", "LogAppendTime"])
async def test_a_topic_is_the_same_whoever_gives_its_records_their_times(
    own: Trained, broker: BrokerSettings, kind: str
) -> None:
    topology = Topology.of(own.pipeline)
    await create_topic(broker, topology.events, message_timestamp_type=kind)
    await _decided_and_stopped(own, broker, 400)
    await _goes_on(own, broker, 400)


@pytest.mark.usefixtures("either")
async def test_a_topic_that_was_compacted_is_the_same(own: Trained, broker: BrokerSettings) -> None:
    topology = Topology.of(own.pipeline)
    await create_topic(
        broker, topology.events, cleanup_policy="compact", segment_ms="100",
        min_cleanable_dirty_ratio="0.01", max_compaction_lag_ms="100",
    )  # fmt: skip
    value = simulated(own.pipeline, 1)[0][1]
    async with pipeline_running(own, broker):
        for n in range(4):  # of each key but the newest record goes
            records = [Record(b"%d" % (n % 2), value, int(time.time() * 1000)) for _ in range(50)]
            await publish_raw(broker, topology.events, 0, records)
            await decided(broker, own.pipeline, 50 * (n + 1))  # before any of them goes
            await asyncio.sleep(0.3)
    await publish_raw(broker, topology.events, 0, [Record(b"new", value, int(time.time() * 1000))])
    deadline = time.monotonic() + PATIENCE_S
    while len(await records_of(broker, topology.events)) > 50:
        assert time.monotonic() < deadline, "the broker does not compact"
        await asyncio.sleep(1)
    await _goes_on(own, broker, 201)


@asynccontextmanager
async def _transactions(broker: BrokerSettings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.addresses, transactional_id=f"t-{time.monotonic_ns()}"
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@pytest.mark.usefixtures("either")
async def test_a_topic_of_transactions_is_the_same(own: Trained, broker: BrokerSettings) -> None:
    topology = Topology.of(own.pipeline)
    (_, value), *_ = simulated(own.pipeline, 1)
    async with pipeline_running(own, broker), _transactions(broker) as producer:
        for committed in (True, False) * 10:
            await producer.begin_transaction()
            await producer.send_and_wait(topology.events, value, b"k", partition=0)
            await (producer.commit_transaction() if committed else producer.abort_transaction())
        await decided(broker, own.pipeline, 10)
    await _goes_on(own, broker, 10)
