"""Records of a pipeline's topics as columns: what stands on which topic, and how it is read.

Each row has the coordinates of its record. What a record is made of has its own columns; one that
is not what stands on its topic is kept as `raw` bytes, and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from agents.dataset.arrow_columns import arrow_field, arrow_times, arrow_type, time_type
from topics.errors import WireError
from topics.events import EventDecoder
from topics.pipeline import EventSchema, Pipeline, Topology
from topics.records import Decision, StageBatch, decode, heartbeat_of, outcome_schema

PARTITION, OFFSET, TIME, KEY = "record_partition", "record_offset", "record_time", "record_key"
HEADERS, RAW, WHY = "record_headers", "raw", "undecoded_because"

Table = Any
"""A pyarrow.Table: pyarrow has no types."""
RecordReader = Callable[[Sequence[Any], int], Table]
"""Makes rows of N records of a partition, in their order: N of them, but for stage batches. Records
have offset, timestamp, key, value and headers."""


def reader_of(pipeline: Pipeline, topic: str) -> RecordReader | None:
    """What reads the records of *topic*; None for a topic that is none of the pipeline's."""
    topology = Topology.of(pipeline)
    components = topology.components
    batches = [*map(topology.stage, components), *map(topology.shadow, components)]
    readers: Mapping[str, RecordReader] = {
        **dict.fromkeys(topology.all, read_json),
        **dict.fromkeys([topology.explanations, *topology.of_monitor], read_json),
        **dict.fromkeys([*batches, *map(topology.keyed, topology.repartitioned)], read_batches),
        topology.events: _fields_of(pipeline.event),
        topology.outcomes: _fields_of(outcome_schema(pipeline)),
        topology.decisions: read_decisions,
    }
    return readers.get(topic)


def _fields_of(schema: EventSchema) -> RecordReader:
    """Reads events, or outcomes: their fields by name."""
    decoder = EventDecoder(schema)

    def read(records: Sequence[Any], partition: int) -> Table:
        import pyarrow as pa

        decoded = decoder.decode(records)
        place = np.full(len(records), -1)
        place[decoded.valid] = np.arange(len(decoded.valid))
        at = pa.array(np.maximum(place, 0), mask=place < 0)
        fields = {
            name: arrow_field(decoded.columns[name], of).take(at)
            if len(decoded.valid)
            else pa.nulls(len(records), arrow_type(of))
            for name, of in schema.fields.items()
        }
        why = {failure.row: f"{failure.error}: {failure.reason}" for failure in decoded.failures}
        return _table(records, partition, fields, why)

    return read


def read_decisions(records: Sequence[Any], partition: int) -> Table:
    """The fields of decision records; contributions by stage."""
    import pyarrow as pa

    decisions, why = dict[int, dict[str, Any]](), dict[int, str]()
    for row, record in enumerate(records):
        try:
            decisions[row] = Decision.model_validate_json(record.value or b"").model_dump()
        except ValueError as exc:  # pydantic's
            why[row] = f"no decision: {str(exc).splitlines()[0]}"
    source = pa.struct([("topic", pa.string()), ("partition", pa.int32()), ("offset", pa.int64())])
    share = pa.struct([
        ("signal", pa.float64()), ("weight", pa.float64()), ("contribution", pa.float64()),
        ("model", pa.string()), ("digest", pa.string()), ("variant", pa.string()),
    ])  # fmt: skip
    provenance = pa.struct([
        ("pipeline_file", pa.string()), ("policy", pa.string()), ("weights", pa.string()),
        ("no_deadline", pa.bool_()),
    ])  # fmt: skip
    types = {
        "schema_version": pa.int32(), "event_id": pa.string(), "pipeline": pa.string(),
        "decision": pa.string(), "decided_by": pa.string(), "explored": pa.bool_(),
        "instead_of": pa.string(), "propensity": pa.float64(), "score": pa.float64(),
        "contributions": pa.map_(pa.string(), share), "degraded": pa.bool_(),
        "missing": pa.list_(pa.string()), "missing_because": pa.map_(pa.string(), pa.string()),
        "weights": pa.int64(), "policy": pa.string(), "provenance": provenance,
        "early": pa.bool_(), "clipped": pa.bool_(), "source": source, "origin": source,
        "event_time": pa.string(), "decided_at": pa.string(), "latency_ms": pa.float64(),
    }  # fmt: skip

    def value(row: int, name: str) -> Any:
        said = decisions[row][name] if row in decisions else None
        return [*said.items()] if said is not None and pa.types.is_map(types[name]) else said

    columns = {
        name: pa.array([value(row, name) for row in range(len(records))], of)
        for name, of in types.items()
    }
    return _table(records, partition, columns, why)


def read_json(records: Sequence[Any], partition: int) -> Table:
    """Values that are JSON, as text."""
    import pyarrow as pa

    texts: list[str | None] = []
    why: dict[int, str] = {}
    for row, record in enumerate(records):
        try:
            orjson.loads(record.value or b"null")
            texts.append(None if record.value is None else record.value.decode())
        except ValueError as exc:
            texts.append(None)
            why[row] = f"no JSON: {exc}"
    return _table(records, partition, {"json": pa.array(texts, pa.string())}, why)


def read_batches(records: Sequence[Any], partition: int) -> Table:
    """Stage batches, a row for each source row of them; heartbeats have none."""
    import pyarrow as pa

    of_rows, parts, why = list[int](), list[StageBatch | None](), dict[int, str]()
    for at, record in enumerate(records):
        headers = dict(record.headers)
        try:
            if heartbeat_of(record.value, headers) is not None:
                continue
            batch = decode(record.value, headers)
        except WireError as exc:
            why[len(of_rows)] = str(exc)
            of_rows.append(at)
            parts.append(None)
            continue
        of_rows += [at] * len(batch)
        parts.append(batch)
    rows = list[tuple[Any, ...]]()
    for part in parts:
        rows += [(None,) * len(_NAMES)] if part is None else _rows(part)
    columns = [[row[place] for row in rows] for place in range(len(_NAMES))]
    types = [
        pa.string(), pa.int32(), pa.int64(), time_type(), time_type(), pa.string(), pa.binary(),
        pa.bool_(), pa.float32(), pa.list_(pa.float64()), pa.string(), pa.string(), pa.string(),
        pa.int32(), pa.bool_(), pa.string(), pa.string(),
    ]  # fmt: skip
    named = {
        name: pa.array(column, of) for name, column, of in zip(_NAMES, columns, types, strict=True)
    }
    return _table([records[at] for at in of_rows], partition, named, why)


_NAMES = (
    "source_topic", "source_partition", "source_offset", "published_at", "event_time", "event_id",
    "key", "present", "signal", "output", "model", "digest", "variant", "lane", "early", "error",
    "reason",
)  # fmt: skip


def _rows(batch: StageBatch) -> list[tuple[Any, ...]]:
    """The rows of a batch, as `_NAMES` has them."""
    n, rows = len(batch), batch.rows
    failures = {failure.row: failure for failure in batch.failures}
    challenged = [False] * n if batch.challenged is None else batch.challenged.tolist()
    early = [False] * n if batch.early is None else batch.early.tolist()
    models = [batch.challenger if each else batch.model for each in challenged]
    columns = zip(
        rows.offsets.tolist(), rows.published_ms.tolist(), rows.event_time_ms.tolist(),
        rows.ids.items(), rows.keys.items(), batch.present.tolist(), batch.signal.tolist(),
        batch.output.tolist(), models, early, strict=True,
    )  # fmt: skip
    made: list[tuple[Any, ...]] = []
    for row, (offset, published, happened, name, key, present, signal, output, model, odd) in (
        enumerate(columns)
    ):  # fmt: skip
        failure = failures.get(row)
        made.append((
            batch.topic, batch.partition, offset, published, happened,
            name.decode(errors="replace"), key, present, signal if present else None,
            output if present else None, *(model or batch.model), batch.lane, odd,
            None if failure is None else failure.error, None if failure is None else failure.reason,
        ))  # fmt: skip
    return made


def _table(
    records: Sequence[Any], partition: int, columns: Mapping[str, Any], why: Mapping[int, str]
) -> Table:
    """*columns* (N,) beside the coordinates of N *records*; *why* says which are kept raw."""
    import pyarrow as pa

    n = range(len(records))
    own = {
        PARTITION: pa.array(np.full(len(records), partition), pa.int32()),
        OFFSET: pa.array([record.offset for record in records], pa.int64()),
        TIME: arrow_times([record.timestamp for record in records]),
        KEY: pa.array([record.key for record in records], pa.binary()),
        HEADERS: pa.array(
            [[*record.headers] for record in records], pa.map_(pa.string(), pa.binary())
        ),
        RAW: pa.array([records[row].value if row in why else None for row in n], pa.binary()),
        WHY: pa.array([why.get(row) for row in n], pa.string()),
    }
    # An event's field may be called like a coordinate.
    others = {f"field.{name}" if name in own else name: of for name, of in columns.items()}
    return pa.table({**own, **others})
