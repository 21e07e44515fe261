"""What the control topic says, record by record."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.control import (
    AuditEntry,
    Challenger,
    ControlState,
    Deployment,
    VersionRef,
    WeightsDeployment,
    audit_key,
    deploy_key,
)
from topics.errors import WireError
from topics.reports import records

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
    for record in records(
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
