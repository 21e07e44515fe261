"""Events, pipeline files and control records of any bytes end in a result or a reason.

Inputs that the fuzzers of `make fuzz` have found are kept here, with what they begin with.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import taken_in
from tests.unit.test_foreign_formats import FORMATS

PIPELINES = {
    "a merge key in what is refused": b"""pipeline: no
event: &e {id: on, key: 007, time: 2018-04-01, fields: {yes: {type: string}}}
data: {columns: {no: ~, <<: *e}}
policy: {otherwise: yes, thresholds: {no: .5}}
""",
    "a date that is none": b"pipeline: 2018-13-45",
    "no text": b"\xff\xfe\x00",
    "a tag of one's own": b"pipeline: !own x",
    "nothing": b"",
    "a key that is a list": b"[a]: b",
}
CONTROL = {
    "a number of 5,000 digits": b'weights\n{"version":' + b"9" * 5000 + b"}",
    "deep": b"policy\n" + b"[" * 10_000,
    "no key": b"\n{}",
    "a key that is no text": b"deploy/\xff\n{}",
    "NaN": b'policy\n{"policy":{"thresholds":{"stop":NaN}}}',
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("label", range(len(taken_in.MEDIA_TYPES)))
def test_what_is_no_event_costs_no_other(name: str, label: int) -> None:
    taken_in.event(bytes([label]) + FORMATS[name][0])


@pytest.mark.parametrize("name", PIPELINES)
def test_what_is_no_pipeline_file_is_refused(name: str) -> None:
    assert taken_in.pipeline(PIPELINES[name]) is None


@pytest.mark.parametrize("name", CONTROL)
def test_what_is_no_control_record_is_refused(name: str) -> None:
    state = taken_in.control(CONTROL[name])
    assert (state.deployments, state.weights, state.policy, state.audit) == ({}, None, None, [])


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_in(data: bytes) -> None:
    taken_in.event(data)
    taken_in.control(data)
