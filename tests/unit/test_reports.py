"""What workers say of themselves, record by record, and what is not listened to."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.errors import WireError
from topics.records.reports import (
    FORGOTTEN_S,
    TOPICS_KEY,
    VERSIONS_KEPT,
    AwaitedInput,
    FirstOffset,
    InService,
    PartitionStatus,
    ReportState,
    StatusReport,
    TopicIds,
    WorkerReport,
    first_key,
    is_report,
    keyed_records,
    status_key,
    worker_key,
)

TOPIC, CONTROL = "fraud.reports", "fraud.control"
REFUSED = WorkerReport(version=2, state="refused", reason="no such file", at="2026-01-01")
FIRST = FirstOffset(offset=812, worker="w", at="2026-01-01")
STATUS = StatusReport(
    state="running", started_ms=5, said_ms=7, sequence=3,
    in_service=(InService(what="risk", version="risk@2", digest="sha256:0", variant="fp32"),),
    partitions=(
        PartitionStatus(
            partition=3, state="waiting", rows=9, oldest_ms=4, lag=2,
            waiting_for={"forest[1]": AwaitedInput(since_ms=2, down=True, why="it ended 3 times")},
        ),
    ),
)  # fmt: skip
LONG_AFTER_MS = int(FORGOTTEN_S * 1000) + 1_000


def state_of(said: dict[str, object], at_ms: int = 0, topic: str = TOPIC) -> ReportState:
    state = ReportState()
    tell(state, said, at_ms, topic)
    return state


def tell(state: ReportState, said: dict[str, object], at_ms: int, topic: str = TOPIC) -> None:
    for record in keyed_records(said, at_ms):  # type: ignore[arg-type]  # models, or None
        state.apply(topic, record.key, record.value, record.timestamp_ms)


def test_a_state_is_what_was_written() -> None:
    state = state_of({
        worker_key("risk", "w"): REFUSED, first_key("risk", 2, 3): FIRST,
        status_key("risk", "w"): STATUS,
    }, at_ms=11)  # fmt: skip
    assert state.workers == {("risk", "w"): REFUSED}
    assert state.firsts == {("risk", 2, 3): FIRST}
    assert state.statuses == {("risk", "w"): (STATUS, 11)}


def test_the_newest_word_counts_and_a_tombstone_deletes_it() -> None:
    state = state_of({status_key("risk", "w"): STATUS, worker_key("risk", "w"): REFUSED})
    later = STATUS.model_copy(update={"sequence": 4})
    tell(state, {status_key("risk", "w"): later}, 60)
    assert state.statuses["risk", "w"] == (later, 60)
    tell(state, {status_key("risk", "w"): None, worker_key("risk", "w"): None}, 70)
    assert state == ReportState()


def test_the_ids_of_topics_are_those_of_the_last_worker_and_are_never_too_old() -> None:
    state = state_of({TOPICS_KEY: TopicIds(ids={"fraud.a": "1", "fraud.b": "2"})})
    last = TopicIds(ids={"fraud.a": "1"})
    tell(state, {TOPICS_KEY: last}, 60)
    assert state.forget(60 + LONG_AFTER_MS) == {}
    assert state.keys_of({"w"}, {"risk"}) == {}
    assert state.topics == last
    tell(state, {TOPICS_KEY: None}, 70)
    assert state == ReportState()


def test_fields_that_a_newer_worker_adds_are_passed_over() -> None:
    said = STATUS.model_dump(mode="json") | {"mood": "good"}
    said["partitions"][0]["mood"] = said["in_service"][0]["mood"] = "better"
    state = ReportState()
    state.apply(TOPIC, b"status/risk/w", json.dumps(said).encode(), 1)
    assert state.statuses["risk", "w"].report == STATUS


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b"{}"),
        (b"status/risk", b"{}"),
        (b"status/risk/w", b"{"),
        (b"status/risk/w", b"[]"),
        (b"status/risk/w", b'{"state": "dancing", "started_ms": 1, "said_ms": 1}'),
        (b"status/risk/w", b'{"state": "running", "started_ms": -1, "said_ms": 1}'),
        (b"status/risk/w", b'{"state": "running", "started_ms": 1, "said_ms": 1e300}'),
        (b"status/risk/" + b"w" * 300, STATUS.model_dump_json().encode()),
        (b"status//w", STATUS.model_dump_json().encode()),
        (b"first/risk/one/0", b'{"offset": 1, "worker": "w", "at": ""}'),
        (b"worker/risk/w", b'{"version": 0, "state": "running", "at": ""}'),
        (b"deploy/risk", b"{}"),
        (b"\xff/risk", None),
    ],
)
def test_what_is_no_report_is_refused_and_changes_nothing(
    key: bytes | None, value: bytes | None
) -> None:
    state = ReportState()
    with pytest.raises(WireError, match="not a report of a worker"):
        state.apply(TOPIC, key, value, 1)
    assert state == ReportState()


@given(
    st.none() | st.binary(max_size=40) | st.sampled_from([b"status/a/b", b"worker/a/b"]),
    st.none() | st.binary(max_size=200),
)
def test_any_bytes_are_taken_in_or_refused(key: bytes | None, value: bytes | None) -> None:
    state = ReportState()
    try:
        state.apply(TOPIC, key, value, 1)
    except WireError:
        assert state == ReportState()


def test_only_reports_of_older_workers_are_taken_from_the_control_topic() -> None:
    keys = [b"worker/risk/w", b"first/risk/1/0", b"deploy/risk", b"weights", b"audit/x", None]
    assert [is_report(key) for key in keys] == [True, True, False, False, False, False]


def test_a_process_that_is_silent_for_a_day_is_forgotten_and_its_keys_are_to_be_deleted() -> None:
    state = state_of({status_key("risk", "old"): STATUS, worker_key("risk", "old"): REFUSED})
    tell(state, {worker_key("risk", "older"): REFUSED}, 0, CONTROL)
    tell(state, {status_key("risk", "new"): STATUS}, LONG_AFTER_MS)
    tell(state, {first_key("risk", 1, 0): FIRST}, 0)
    keys = state.forget(LONG_AFTER_MS)
    assert keys == {TOPIC: ["status/risk/old", "worker/risk/old"], CONTROL: ["worker/risk/older"]}
    assert set(state.statuses) == {("risk", "new")}
    assert state.workers == {}
    assert state.firsts == {("risk", 1, 0): FIRST}
    assert state.forget(LONG_AFTER_MS) == {}


def test_what_a_living_process_said_once_stays_however_long_ago() -> None:
    state = state_of({worker_key("risk", "w"): REFUSED})
    for before, after in pairwise(range(0, 4 * LONG_AFTER_MS, LONG_AFTER_MS // 2)):
        tell(state, {status_key("risk", "w"): STATUS}, after)
        assert state.forget(after) == {}, before
    assert state.workers == {("risk", "w"): REFUSED}


def test_a_topic_knows_its_own_time_by_the_newest_report() -> None:
    state = state_of({status_key("risk", "w"): STATUS}, 50_000)
    tell(state, {worker_key("risk", "w"): REFUSED}, 40_000)
    assert state.newest_ms == 50_000


def test_of_the_versions_that_a_component_began_with_the_newest_stay() -> None:
    versions = range(1, VERSIONS_KEPT + 4)
    state = state_of({
        first_key("risk", version, partition): FIRST.model_copy(update={"at": f"{version:04}"})
        for version in versions for partition in (0, 1)
    })  # fmt: skip
    again = FIRST.model_copy(update={"at": "9999"})  # the first version has come back
    tell(state, {first_key("risk", 1, 1): again, first_key("other", 1, 0): FIRST}, 0)
    gone = [first_key("risk", version, p) for version in (2, 3, 4) for p in (0, 1)]
    assert state.forget(0) == {TOPIC: gone}
    assert {version for name, version, _ in state.firsts if name == "risk"} == {
        1, *versions[4:],
    }  # fmt: skip
    assert state.forget(0) == {}
