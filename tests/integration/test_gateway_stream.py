"""The stream of decisions: what it sends, how it goes on, when it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import httpx
import pytest

from tests.integration.event_source import ServerEvent, event_source
from tests.integration.gateways import RunningGateway, gateway_process, sources
from tests.integration.harness import PATIENCE_S, Trained, worker_process
from tests.integration.test_explain import own_components
from tests.integration.test_gateway_guard import bearer, new_key
from tests.integration.test_gateway_refusals import FAILS, event
from topics.kafka.embedded import EmbeddedBroker
from topics.settings import BrokerSettings

LARGE = 600.01
"""An amount of which the score is above a half, so it is declined."""
SMALL = 1.01
DECISIONS, DEAD = 200, 20


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return own_components(tmp_path_factory.mktemp("own"), "fail")


@pytest.fixture(scope="module")
def broker(own: Trained) -> Iterator[BrokerSettings]:
    with EmbeddedBroker() as embedded:
        settings = BrokerSettings(broker=embedded.address, embedded=True)
        with worker_process(own, settings):
            yield settings


@pytest.fixture(scope="module")
def gateway(own: Trained, broker: BrokerSettings) -> Iterator[RunningGateway]:
    with gateway_process(own, broker, "--deadline-ms", "60000") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def decided(gateway: RunningGateway) -> list[str]:
    """The coordinates of decisions, which are on all partitions; there are dead letters, too."""
    amounts = [LARGE if number % 4 == 0 else SMALL for number in range(DECISIONS)]
    events = [
        event(f"e{number}", amount, customer_id=f"c-{number}")
        for number, amount in enumerate(amounts)
    ]
    answer = gateway.predict(events)
    assert answer.status_code == 200, answer.text
    dead = [event(f"d{number}", FAILS, customer_id=f"c-{number}") for number in range(DEAD)]
    assert gateway.predict(dead).status_code == 422
    return sources(answer.json())


def of_decisions(events: list[ServerEvent]) -> list[str]:
    return sources([each.data for each in events])


def until_all(events: Iterator[ServerEvent], places: list[str]) -> list[str]:
    """The coordinates of what comes, up to when all *places* have come."""
    missing, seen = {*places}, list[str]()
    while missing:
        seen += of_decisions([next(events)])
        missing.discard(seen[-1])
    return seen


def test_decisions_come_as_they_are_made(gateway: RunningGateway, decided: list[str]) -> None:
    with event_source(gateway) as live:
        answer = gateway.predict([event(f"live-{number}") for number in range(10)])
        events = [*islice(live, 10)]
    assert {each.name for each in events} == {"decision"}
    streamed = {each.data["event_id"]: each.data for each in events}
    assert [streamed[record["event_id"]] for record in answer.json()] == answer.json()


def test_a_reader_that_comes_again_has_each_decision_once(
    own: Trained, broker: BrokerSettings, gateway: RunningGateway, decided: list[str]
) -> None:
    query, declined = "?from=beginning&decision=decline", sorted(decided[::4])
    with gateway_process(own, broker) as other:
        seen, last_id = list[str](), ""
        for at in range(0, len(declined), 10):
            with event_source(other if at % 20 else gateway, query, last_id) as again:
                part = [*islice(again, 10)]
            seen, last_id = seen + of_decisions(part), part[-1].id
        assert sorted(seen) == declined
        with (
            event_source(gateway, query, last_id) as one,
            event_source(other, query, last_id) as another,
        ):
            place = sources([gateway.predict(event("later", LARGE)).json()])
            assert of_decisions([next(one), next(another)]) == place * 2


def test_it_can_begin_at_a_time(gateway: RunningGateway, decided: list[str]) -> None:
    time.sleep(0.01)
    since = (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 10**6 % 1000:03}Z"
    )
    place = sources([gateway.predict(event("since")).json()])
    with event_source(gateway, f"?from={since}") as events:
        assert of_decisions([next(events)]) == place


def test_filters_let_through_what_they_say(gateway: RunningGateway, decided: list[str]) -> None:
    def first(query: str, count: int) -> list[ServerEvent]:
        with event_source(gateway, f"?from=beginning&{query}") as events:
            return [*islice(events, count)]

    declined = first("decision=decline", DECISIONS // 4)
    assert {each.data["decision"] for each in declined} == {"decline"}
    scored = first("min_score=0.5&max_score=1", DECISIONS // 4)
    assert min(each.data["score"] for each in scored) >= 0.5
    assert first("decision=approve,decline&max_score=0.2", 1)[0].data["decision"] == "approve"
    assert first("event_id=e7", 1)[0].data["event_id"] == "e7"
    letters = first("dead_letters=true&stage=mendable", DEAD)
    assert {each.name for each in letters} == {"dead-letter"}
    assert {each.data["event_id"] for each in letters} == {f"d{number}" for number in range(DEAD)}
    assert "a multiple of four" in letters[0].data["reason"]
    with event_source(gateway, "?dead_letters=true&stage=mendable", letters[4].id) as rest:
        again = [*islice(rest, DEAD - 5)]
    assert {each.data["event_id"] for each in again} == {
        each.data["event_id"] for each in letters[5:]
    }


def test_what_it_does_not_know_is_refused_by_name(
    gateway: RunningGateway, decided: list[str]
) -> None:
    def refused(query: str, **headers: str) -> str:
        answer = gateway.get(f"/decisions/stream{query}", **headers)
        assert answer.status_code == 400, answer.text
        return str(answer.json()["field"])

    for query, field in (
        ("?colour=red", "colour"), ("?decision=maybe", "decision"), ("?min_score=2", "min_score"),
        ("?min_score=nan", "min_score"), ("?min_score=0.6&max_score=0.5", "min_score"),
        ("?degraded=perhaps", "degraded"), ("?stage=nobody", "stage"), ("?from=soon", "from"),
        ("?decided_by=luck", "decided_by"), ("?from=end&from=end", "from"),
    ):  # fmt: skip
        assert refused(query) == field
    for wrong in ("nonsense", "1.2", "1.2.3.-4", "1.2.3.4.5", "x" * 5000, "1.2.3.4~1"):
        assert refused("?dead_letters=true", **{"last-event-id": wrong}) == "Last-Event-ID"


def test_a_position_that_the_topic_has_not_is_told_as_a_gap(
    gateway: RunningGateway, decided: list[str]
) -> None:
    with event_source(gateway, "?decision=decline", "0.0.0.999999") as events:
        gap = next(events)
        rest = until_all(events, decided[::4])
    assert gap.name == "gap"
    assert [(each["partition"], each["from"], each["to"]) for each in gap.data["missing"]] == [
        (3, 999999, 0)
    ]
    assert len(rest) == len({*rest}), "the partition is read from its beginning, once"


def test_there_are_only_so_many_streams(own: Trained, broker: BrokerSettings) -> None:
    with gateway_process(own, broker, "--max-streams", "1") as small:
        with event_source(small):
            refused = small.get("/decisions/stream")
            assert (refused.status_code, int(refused.headers["retry-after"])) == (429, 1)
            assert 'anabranch_gateway_streams{pipeline="own"} 1.0' in small.get("/metrics").text
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with httpx.stream("GET", f"{small.url}/decisions/stream") as again:
                if again.status_code == 200:
                    break
            assert time.monotonic() < deadline, "who has gone away still has its place"


def test_streams_end_with_the_gateway_and_with_their_key(
    own: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    read = new_key(own, keys, "reader", "--role", "read")
    publish = new_key(own, keys, "shop", "--role", "publish")
    with gateway_process(own, broker, "--keys", str(keys)) as guarded:
        assert guarded.get("/decisions/stream", **bearer(publish)).status_code == 403
        with event_source(guarded, **bearer(read)) as first:
            lines = [line for line in keys.read_text().splitlines() if "reader" not in line]
            keys.write_text("\n".join(lines) + "\n")
            assert [*first] == [], "the key is gone, and so is its stream"
        operator = new_key(own, keys, "operator", "--role", "admin")
        time.sleep(1.1)
        with event_source(guarded, **bearer(operator)) as last:
            guarded.process.terminate()
            assert [*last] == []
        assert guarded.process.wait(timeout=PATIENCE_S) == 0
