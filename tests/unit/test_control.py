"""What the control topic says, record by record."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.errors import WireError
from topics.records.control import (
    AUDIT_KEPT,
    AuditEntry,
    Challenger,
    ControlState,
    Deployment,
    Evidence,
    VersionRef,
    WeightsDeployment,
    audit_key,
    deploy_key,
)
from topics.records.reports import keyed_records
from topics.records.rollout import ROLLOUT, Rollout, Turn

DIGEST = "sha256:" + "0" * 64
ENTRY = AuditEntry(
    action="promote", what="risk", version=2, before=1, by="me", reason="better", at="2026-01-01"
)


def test_a_state_is_what_was_written() -> None:
    deployment = Deployment(
        champion=VersionRef(version=2, digest=DIGEST),
        previous=VersionRef(version=1, digest=DIGEST),
        challenger=Challenger(version=3, digest=DIGEST, share=0.05),
    )  # fmt: skip
    state = ControlState()
    for record in keyed_records(
        {
            deploy_key("risk"): deployment, "weights": WeightsDeployment(version=4),
            audit_key(ENTRY, "aa"): ENTRY,
        },
        0,
    ):  # fmt: skip
        state.apply(record.key, record.value)
    assert state.deployment("risk") == deployment
    assert state.deployment("another") == Deployment()
    assert state.weights == WeightsDeployment(version=4)
    assert state.audit == [ENTRY]


def test_whose_decisions_count_is_there_until_it_is_deleted() -> None:
    turn = Turn(in_service="b", since={"a.events": [7, 0]}, at="2026-01-01")
    rollout, state = Rollout(pipelines=["a", "b"], turns=[turn]), ControlState()
    (record,) = keyed_records({ROLLOUT: rollout}, 0)
    state.apply(record.key, record.value)
    assert state.rollout == rollout
    assert rollout.in_service == "b"
    state.apply(record.key, None)
    assert state == ControlState()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b"{}"),
        (b"deploy", b"{}"),
        (b"deploy/a/b", b"{}"),
        (b"deploy/risk", b'{"champion": {"version": 0, "digest": "x"}}'),
        (b"deploy/risk", b'{"challenger": {"version": 1, "digest": "sha256:", "share": 2}}'),
        (b"worker/risk/w", b'{"version": 1, "state": "running", "at": ""}'),
        (b"weights", b"NaN"),
        (b"rollout", b'{"pipelines": ["a"]}'),
        (b"rollout", b'{"pipelines": ["a", "b"], "turns": [{"in_service": "b"}]}'),
        (b"\xff/risk", b"{}"),
    ],
)
def test_what_is_no_record_of_the_topic_is_refused_and_changes_nothing(
    key: bytes | None, value: bytes
) -> None:
    state = ControlState()
    with pytest.raises(WireError, match="not a record of the control topic"):
        state.apply(key, value)
    assert state == ControlState()


@given(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=200))
def test_any_bytes_are_taken_in_or_refused(key: bytes | None, value: bytes | None) -> None:
    state = ControlState()
    try:
        state.apply(key, value)
    except WireError:
        assert state == ControlState()


def test_a_record_without_a_value_deletes_what_its_key_is_about() -> None:
    state = ControlState()
    said = {
        deploy_key("risk"): Deployment(champion=VersionRef(version=2, digest=DIGEST)),
        "weights": WeightsDeployment(version=4), audit_key(ENTRY, "aa"): ENTRY,
        audit_key(ENTRY, "bb"): ENTRY.model_copy(update={"version": 3}),
    }  # fmt: skip
    for record in keyed_records(said, 0):
        state.apply(record.key, record.value)
    for key in (*list(said)[:3], "audit/never-there", "nothing/of/this"):
        state.apply(key.encode(), None)
    assert (state.deployment("risk"), state.weights) == (Deployment(), None)
    assert [each.version for each in state.audit] == [3]


def test_the_oldest_entries_of_the_audit_trail_are_to_go_and_the_last_change_is_known() -> None:
    state = ControlState()
    assert (state.old_audit(), state.last_change("risk")) == ([], None)
    for version in range(1, AUDIT_KEPT + 3):
        entry = ENTRY.model_copy(update={"version": version, "what": f"stage-{version % 2}"})
        (record,) = keyed_records({audit_key(entry, f"{version:04}"): entry}, 0)
        state.apply(record.key, record.value)
    assert state.old_audit() == [f"audit/2026-01-01-{version:04}" for version in (1, 2, 3)]
    last = state.last_change("stage-1")
    assert last is not None
    assert last.version == AUDIT_KEPT + 1


def test_an_entry_without_evidence_is_written_as_before_there_was_any() -> None:
    (record,) = keyed_records({audit_key(ENTRY, "aa"): ENTRY}, 0)
    assert b"evidence" not in (record.value or b"")
    evidence = Evidence(
        condition="changed <= 1%", since="2026-01-01", offsets={0: (5, 8)}, decided=3, outcomes=0,
        figures={"changed": 0.0}, report=DIGEST,
    )  # fmt: skip
    entry, state = ENTRY.model_copy(update={"evidence": evidence}), ControlState()
    (record,) = keyed_records({audit_key(entry, "aa"): entry}, 0)
    state.apply(record.key, record.value)
    assert state.audit == [entry]


def test_an_entry_with_what_is_not_known_yet_is_no_record_and_nothing_else_is_lost() -> None:
    state = ControlState()
    (record,) = keyed_records({audit_key(ENTRY, "aa"): ENTRY}, 0)
    later = (record.value or b"").replace(b"{", b'{"later": {},', 1)
    with pytest.raises(WireError):
        state.apply(record.key, later)
    assert state == ControlState()
