"""What stands on which topic of a pipeline: its messages, by the schemas of their values.

Public topics are those that producers write and that consumers and operators read. The others are
between the pipeline's own parts: their form changes with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from agents.contract.json_schemas import json_schemas
from topics.errors import AnabranchError
from topics.pipeline import Pipeline, Topology
from topics.records import (
    ATTEMPT_HEADER,
    DECISION_HEADER,
    HEADER_LENGTH,
    HEARTBEAT_HEADER,
    ORIGIN_HEADER,
    POLICY,
    REQUEST_HEADER,
    ROLLOUT,
    TOPICS_KEY,
    WEIGHTS,
    dead_letter,
)

JSON, BINARY, ENVELOPE = (
    "application/json", "application/octet-stream", "application/cloudevents+json",
)  # fmt: skip
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NAMED = "[^/]{1,200}"
_NUMBER = {"type": "string", "pattern": "^[0-9]+$"}
_TEXT = {"type": "string"}


def _text(description: str) -> dict[str, Any]:
    return _TEXT | {"description": description}


class Header(NamedTuple):
    """A header of records."""

    name: str
    schema: dict[str, Any]
    """Of its value, as text."""
    always: bool = True
    """It is never left out."""


_TRACE = Header("traceparent", _text("W3C trace context."), always=False)


@dataclass(frozen=True, slots=True)
class Message:
    """Records of one form."""

    name: str
    """Of the schema of its values, if it has one."""
    summary: str
    content_type: str = JSON
    headers: tuple[Header, ...] = ()
    """Those that mean something; others may be there too."""
    key: dict[str, Any] | None = None
    """The schema of the record's key, as text."""
    has_schema: bool = True
    """Its value is JSON of that schema; else it may be anything."""
    correlation: str = ""
    """The header that says which event it is about."""

    @property
    def headers_schema(self) -> dict[str, Any]:
        """The JSON Schema of the headers as an object of texts."""
        return {
            "type": "object",
            "properties": {header.name: header.schema for header in self.headers},
            "required": [header.name for header in self.headers if header.always],
        }


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic, and what stands on it."""

    name: str
    """The topic's, without that of the pipeline."""
    topic: str
    summary: str
    messages: tuple[Message, ...]
    internal: bool = False
    from_outside: bool = False
    """Others write it, and the pipeline reads it."""


class TopicWithoutSchema(AnabranchError):
    """There is no JSON Schema of a topic's values."""

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(f"{topic}: {reason}")


def value_schema(pipeline: Pipeline, topic: str) -> dict[str, Any]:
    """The JSON Schema of the values of *topic*, by its name with or without the pipeline's.

    It allows anything where a topic has values of no fixed form, as dead letters repeat events.
    Raises TopicWithoutSchema.
    """
    known = {channel.topic: channel for channel in channels(pipeline)}
    channel = known.get(topic) or known.get(f"{pipeline.name}.{topic}")
    if channel is None:
        listed = ", ".join(known)
        raise TopicWithoutSchema(topic, f"{pipeline.name} has no such topic; there are {listed}")
    if any(message.content_type == BINARY for message in channel.messages):
        raise TopicWithoutSchema(channel.topic, "it has binary values, which are no JSON")
    about = {"$schema": DIALECT, "title": channel.topic, "description": channel.summary}
    names = [message.name for message in channel.messages if message.has_schema]
    if len(names) < len(channel.messages):
        return about
    schemas = json_schemas(pipeline, names, "#/$defs/{model}")
    references = [{"$ref": f"#/$defs/{name}"} for name in names]
    values = references[0] if len(references) == 1 else {"anyOf": references}
    return {**about, **values, "$defs": schemas}


def channels(pipeline: Pipeline) -> list[Channel]:
    """All topics of a pipeline, in the order of the flow."""
    topology = Topology.of(pipeline)
    return [
        *_sources(pipeline, topology),
        *_stages(pipeline, topology),
        *_answers(pipeline, topology),
        *_operations(topology),
    ]


def _sources(pipeline: Pipeline, topology: Topology) -> Iterator[Channel]:
    key = {"type": "string", "minLength": 1, "description":
           f"The event's {pipeline.event.key}, on the partition that Kafka's own partitioner "
           "(murmur2) gives it."}  # fmt: skip
    origin = _text("Of a copy, where its original stands. Producers set none.")
    request = _text("Set by gateways, of a request with an Idempotency-Key.")
    is_envelope = {"type": "string", "pattern": r"^application/cloudevents\+json"}
    yield Channel(
        "events", topology.events, "Events: producers write them, and each is decided once.",
        (
            Message(
                "Event", f"An event; {pipeline.event.id} names it to people.",
                headers=(Header("content-type", _TEXT, always=False), _TRACE,
                         Header(ORIGIN_HEADER, origin, always=False),
                         Header(REQUEST_HEADER, request, always=False)),
                key=key,
            ),
            Message(
                "CloudEvent", "The same as a CloudEvent in structured mode.", ENVELOPE,
                (Header("content-type", is_envelope), _TRACE), key,
            ),
        ),
        from_outside=True,
    )  # fmt: skip
    yield Channel(
        "outcomes", topology.outcomes, "Outcomes: the true labels of events, once they are known.",
        (Message("Outcome", "The outcome of an event, whose id, key and time it repeats.",
                 key=_TEXT | {"description": f"The event's {pipeline.event.key}."}),),
        from_outside=True,
    )  # fmt: skip


def _stages(pipeline: Pipeline, topology: Topology) -> Iterator[Channel]:
    kind = BINARY if pipeline.codec == "binary" else JSON
    length = Header(HEADER_LENGTH, _NUMBER)
    batch = Message("StageBatch", "What a component says of rows: tensors of the Open Inference "
                    "Protocol v2.", kind, (length,) if kind == BINARY else (),
                    has_schema=False)  # fmt: skip
    beat = Message("Heartbeat", "A component's sign of life while it has no rows.",
                   headers=(Header(HEARTBEAT_HEADER, {"const": "1"}),))  # fmt: skip
    tensors = Message("Tensors", "Tensors of the Open Inference Protocol v2.", BINARY,
                      has_schema=False)  # fmt: skip
    for name in topology.repartitioned:
        yield Channel(f"{name}.keyed", topology.keyed(name), f"Events and outcomes on their way "
                      f"to {name}, by its key.", (tensors,), internal=True)  # fmt: skip
    for name in topology.stateful:
        yield Channel(f"{name}.state", topology.state(name), f"Snapshots of the past that {name} "
                      "knows.", (tensors,), internal=True)  # fmt: skip
    for name in topology.components:
        yield Channel(name, topology.stage(name), f"What {name} says of events.", (batch, beat),
                      internal=True)  # fmt: skip
    for spec in pipeline.components:
        if spec.model is not None:
            yield Channel(f"shadow.{spec.name}", topology.shadow(spec.name), "What a challenger of "
                          f"{spec.name} says.", (batch,), internal=True)  # fmt: skip


def _answers(pipeline: Pipeline, topology: Topology) -> Iterator[Channel]:
    key = {"type": ["string", "null"], "description": "That of the event's record, unaltered."}
    decision = (*_cloud_event_headers(pipeline, "decision"),)
    yield Channel(
        "decisions", topology.decisions, "Decisions: one about each event that is no dead letter.",
        (Message("Decision", "The decision about an event.", headers=decision, key=key,
                 correlation="ce_id"),),
    )  # fmt: skip
    yield Channel(
        "dead-letters", topology.dead_letters,
        "Dead letters: events that got no decision, as they were, and in headers why.",
        (Message("DeadLetter", "The event's record: its own key, value and headers, which may be "
                 "anything.", headers=(*_error_headers(),), key=key, has_schema=False),),
    )  # fmt: skip
    yield Channel(
        "outcomes.dead-letters", topology.outcome_letters,
        "Outcomes that no decision was found for in their time, or that are none, as they were.",
        (Message("OutcomeDeadLetter", "The outcome's record: its own key and value.",
                 headers=(*_error_headers(),), key=key, has_schema=False),),
    )  # fmt: skip
    yield Channel(
        "monitor", topology.monitor,
        "What a monitor finds, by kind; all on partition 0. Written in transactions: read it "
        "read_committed.",
        (
            Message("QualityFinding", "How good the decisions of a window of event time were.",
                    key=_TEXT | {"pattern": "^quality/"}),
            Message("DriftFinding", "A field or signal is not as its reference says, or is again.",
                    key=_TEXT | {"pattern": "^drift/"}),
            Message("DriftSizes", "How far all fields and signals are from their references.",
                    key=_TEXT | {"pattern": "^drift-sizes/"}),
            Message("WeightsFinding", "What weights are and would be, and who is in quarantine.",
                    key=_TEXT | {"const": "weights"}),
        ),
    )  # fmt: skip
    yield Channel(
        "monitor.state", topology.monitor_state, "Snapshots of what a monitor has counted.",
        (Message("MonitorSnapshot", "A piece of a snapshot, or what it covers.", BINARY,
                 key=_TEXT, has_schema=False),),
        internal=True,
    )  # fmt: skip
    if topology.explained:
        explanation = (
            *_cloud_event_headers(pipeline, "explanation"),
            Header(DECISION_HEADER, _NUMBER | {"description": "Offset of its decision."}),
        )  # fmt: skip
        yield Channel(
            "explanations", topology.explanations, "Why events were decided so, of some of them.",
            (Message("Explanation", "Why an event was decided so.", headers=explanation, key=key,
                     correlation="ce_id"),),
        )  # fmt: skip


def _operations(topology: Topology) -> Iterator[Channel]:
    def keyed(name: str, summary: str, pattern: str) -> Message:
        return Message(name, summary, headers=(Header("content-type", {"const": JSON}),),
                       key={"type": "string", "pattern": f"^{pattern}$"})  # fmt: skip

    yield Channel(
        "control", topology.control,
        "Control: which versions are in service; all on partition 0, and each key as it is now. "
        "Written in transactions: read it read_committed.",
        (
            keyed("Deployment", "What a component's workers run.", f"deploy/{_NAMED}"),
            keyed("WeightsDeployment", "Which weights are in use.", WEIGHTS),
            keyed("PolicyDeployment", "Which thresholds are in use.", POLICY),
            keyed("Rollout", "Whose decisions count, of two pipelines.", ROLLOUT),
            keyed("AuditEntry", "Who changed what, when and why.", f"audit/{_NAMED}"),
        ),
    )  # fmt: skip
    yield Channel(
        "reports", topology.reports,
        "Reports: what workers say of themselves; all on partition 0, and each key as it is now.",
        (
            keyed("StatusReport", "How a worker fares.", f"status/{_NAMED}/{_NAMED}"),
            keyed("WorkerReport", "What a worker runs, or refuses.", f"worker/{_NAMED}/{_NAMED}"),
            keyed("FirstOffset", "From which event on a version has decided.",
                  f"first/{_NAMED}/[0-9]+/[0-9]+"),
            keyed("TopicIds", "Which topics workers have dealt with.", TOPICS_KEY),
        ),
    )  # fmt: skip
    yield Channel(
        "redrive", topology.redrive, "Dead letters on their way through the pipeline again.",
        (Message("Redrive", "Events of a partition, and what is known of them.", BINARY,
                 has_schema=False),),
        internal=True,
    )  # fmt: skip
    yield Channel(
        "renewals", topology.renewals,
        "Renewals of models: who trains, what was done, what came of it; all on partition 0, "
        "whose order alone decides. Made when the first is asked for.",
        (
            keyed("TrainerClaim", "Who wants to renew next.", f"claim/[0-9]+/{_NAMED}"),
            keyed("TrainerSign", "A trainer's sign of life.", f"sign/{_NAMED}"),
            keyed("RenewalRequest", "A renewal, or its end, that is asked for.",
                  f"request/{_NAMED}"),
            keyed("RenewalTriggered", "A renewal has begun.", "trigger/[0-9]+/[0-9]+"),
            keyed("RenewalStep", "A step of it.", "step/[0-9]+/[0-9]+/[0-9]+"),
            keyed("RenewalVerdict", "What it has come to.", "verdict/[0-9]+/[0-9]+"),
        ),
    )  # fmt: skip
    yield Channel(
        "requests", topology.requests,
        "Requests with an Idempotency-Key, between gateways; made when one comes.",
        (Message("RequestRecord", "A claim, or where its events stand.", key=_TEXT),),
        internal=True,
    )  # fmt: skip


def _cloud_event_headers(pipeline: Pipeline, kind: str) -> Iterator[Header]:
    yield Header("content-type", {"const": JSON})
    yield Header("ce_specversion", {"const": "1.0"})
    yield Header("ce_type", {"const": f"anabranch.{kind}"})
    yield Header("ce_source", {"const": f"anabranch/{pipeline.name}"})
    identity = _text("TOPIC/PARTITION/OFFSET of the event's record: its identity.")
    yield Header("ce_id", identity | {"pattern": "^[^/]+/[0-9]+/[0-9]+$"})
    yield Header("ce_time", _TEXT | {"format": "date-time"})
    yield _TRACE
    attempt = "Of a redriven event, which attempt has ended so; without it, the first."
    yield Header(ATTEMPT_HEADER, _NUMBER | {"description": attempt}, always=False)


def _error_headers() -> Iterator[Header]:
    def header(name: str, schema: dict[str, Any], about: str, *, always: bool = True) -> Header:
        described = schema | {"description": about}
        return Header(dead_letter.PREFIX + name, described, always=always)

    yield header("stage", _TEXT, "The component that failed on the event.")
    yield header("class", _TEXT, "The error's name.")
    yield header("reason", _TEXT, "What is wrong, and what to do.")
    yield header("topic", _TEXT, "Of the event's record.")
    yield header("partition", _NUMBER, "Of the event's record.")
    yield header("offset", _NUMBER, "Of the event's record.")
    yield header("published-ms", _NUMBER, "When that was published, in ms since 1970.")
    yield header("attempt", _NUMBER, "1, or more where the event was redriven.")
    yield header("original", _TEXT, "Why the record is not whole here.", always=False)
    yield header(dead_letter.BYTES, _NUMBER, "How many it has.", always=False)
    yield header(dead_letter.DIGEST, _TEXT, "Of all of it.", always=False)
