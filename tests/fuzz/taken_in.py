"""Events, pipeline files and control records of any bytes, and what must hold of each.

Each function takes one input and raises AssertionError for a result that must not be.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topics.errors import WireError
from topics.events.event_decoder import DecodedEvents, EventDecoder
from topics.events.float32 import LARGEST_FLOAT32
from topics.pipeline.checks import check_graph
from topics.pipeline.event_schema import EventSchema
from topics.pipeline.file import PipelineFile, PipelineFileError, load_pipeline
from topics.pipeline.yaml_text import scalar
from topics.records.control import ControlState
from topics.records.decision import rfc3339_time
from topics.records.heartbeat import HEARTBEAT_HEADER, heartbeat_of
from topics.records.reports import ReportState

MEDIA_TYPES: tuple[bytes | None, ...] = (
    None, b"application/cloudevents+json", b"Application/CloudEvents-Batch+JSON", b"text/plain",
)  # fmt: skip
LONGEST_REASON = 1500
_DECODER = EventDecoder(
    EventSchema.model_validate(
        {
            "id": "id", "key": "key", "time": "at", "max_bytes": 100_000,
            "fields": {
                "id": {"type": "string", "max_length": 64},
                "key": {"type": "integer"},
                "at": {"type": "timestamp"},
                "number": {"type": "number", "optional": True},
                "count": {"type": "integer", "optional": True, "maximum": 1000},
                "flag": {"type": "boolean", "optional": True},
                "choice": {"type": "string", "choices": ["a", "b"], "optional": True},
                "shape": {"type": "vector", "length": 2, "optional": True},
                "optional": {"type": "timestamp", "optional": True},
            },
        }
    )
)  # fmt: skip


class Record(NamedTuple):
    """A record as Kafka gives it."""

    value: bytes
    headers: tuple[tuple[str, bytes | None], ...] = ()
    key: bytes | None = None


GOOD = Record(b'{"id":"good","key":7,"at":"2018-04-01T00:00:31Z"}')


def event(data: bytes) -> DecodedEvents:
    """The event in *data*, whose first byte says how it is labelled, with good ones around."""
    label = MEDIA_TYPES[data[0] % len(MEDIA_TYPES)] if data else None
    record = Record(data[1:], (("Content-Type", label),))
    made = _DECODER.decode([GOOD, record, GOOD])
    assert [each for each in made.valid.tolist() if each != 1] == [0, 2]
    assert len(made.failures) == 3 - len(made.valid)
    for failure in made.failures:
        assert failure.error
        assert 0 < len(failure.reason) < LONGEST_REASON
        failure.reason.encode()
    for name in ("number", "optional", "count", "shape"):
        column = made.columns[name]
        assert column.dtype == np.float64
        assert not (np.abs(column) > LARGEST_FLOAT32).any()
    assert made.columns["key"].dtype == np.int64
    for time_ms in made.times_ms.tolist():
        assert rfc3339_time(time_ms).endswith("Z")
    alone = _DECODER.decode([record])
    assert [each.reason for each in alone.failures] == [each.reason for each in made.failures]
    return made


def pipeline(data: bytes) -> PipelineFile | None:
    """The pipeline in *data*, as `anabranch check` reads it; None for one that is refused."""
    with tempfile.TemporaryDirectory(dir=_memory(), prefix="anabranch-fuzz-") as folder:
        path = Path(folder) / "fuzzed.yaml"
        path.write_bytes(data)
        try:
            file = load_pipeline(path)
        except PipelineFileError as exc:
            assert exc.problems
            assert all(line >= 1 and message for line, _, message in exc.problems)
            str(exc).encode("utf-8", "surrogateescape")
            return None
    assert not check_graph(file.pipeline, path.parent)
    assert file.pipeline.model_validate(file.pipeline.model_dump(by_alias=True)) == file.pipeline
    for name in file.pipeline.policy.thresholds:
        assert scalar(name).isprintable()
    return file


def control(data: bytes) -> ControlState:
    """What a record of the control, the reports or a stage's topic says; its key is the first line.

    Nothing is taken in of a record that is refused.
    """
    key, _, value = data.partition(b"\n")
    state, reports = ControlState(), ReportState()
    content = None if value == b"\0" else value
    for record in ((key, content), (None, content)):
        try:
            state.apply(*record)
        except WireError as exc:
            assert len(str(exc)) < LONGEST_REASON
        try:
            reports.apply("p.reports", record[0], record[1], 1_700_000_000_000)
        except WireError as exc:
            assert len(str(exc)) < LONGEST_REASON
    try:
        heartbeat_of(value, {HEARTBEAT_HEADER: b"1"})
    except WireError as exc:
        assert str(exc)
    for deployment in state.deployments.values():
        assert deployment.model_validate_json(deployment.model_dump_json()) == deployment
    return state


def _memory() -> str | None:
    """Where files cost no disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # a folder of its own there
