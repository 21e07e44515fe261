"""JSON Schemas of what stands on topics, by name: the one place where they are made.

Those of records come from their pydantic models; the docstrings of fields are descriptions. Those
of events and outcomes come from the pipeline file.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Mapping
from itertools import pairwise
from textwrap import dedent
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from agents.explanations import Explanation
from topics.events import LARGEST_FLOAT32, LONGEST_TIME
from topics.pipeline import EventField, EventSchema, Pipeline
from topics.records import (
    AuditEntry,
    Decision,
    Deployment,
    DriftFinding,
    DriftSizes,
    FirstOffset,
    Heartbeat,
    PolicyDeployment,
    QualityFinding,
    RenewalRequest,
    RenewalStep,
    RenewalTriggered,
    RenewalVerdict,
    RequestRecord,
    Rollout,
    StatusReport,
    TopicIds,
    TrainerClaim,
    TrainerSign,
    WeightsDeployment,
    WeightsFinding,
    WorkerReport,
    outcome_schema,
)

_MODELS: Mapping[str, type[BaseModel]] = {
    model.__name__: model
    for model in (
        Decision, Explanation, Deployment, WeightsDeployment, PolicyDeployment, Rollout, AuditEntry,
        StatusReport, WorkerReport, FirstOffset, TopicIds, RequestRecord, Heartbeat, TrainerClaim,
        TrainerSign, RenewalRequest, RenewalTriggered, RenewalStep, RenewalVerdict,
        QualityFinding, DriftFinding, DriftSizes, WeightsFinding,
    )
}  # fmt: skip
_ENVELOPE = ("specversion", "id", "source", "type")
_TIME = "RFC 3339; without an offset it is UTC."


def json_schemas(pipeline: Pipeline, names: Iterable[str], template: str) -> dict[str, Any]:
    """Name → schema of each of *names*, and of all that these refer to.

    Names are those of the records' models, and `Event`, `CloudEvent` and `Outcome`. A reference is
    *template* with `{model}` in it.
    """
    wanted = dict.fromkeys(names)
    if "CloudEvent" in wanted:
        wanted["Event"] = None
    schemas: dict[str, Any] = {}
    for name in wanted:
        match name:
            case "Event":
                schemas[name] = event_schema(pipeline.event)
            case "CloudEvent":
                schemas[name] = _cloud_event({"$ref": template.format(model="Event")})
            case "Outcome":
                schemas[name] = event_schema(outcome_schema(pipeline))
    models = [_MODELS[name] for name in wanted if name in _MODELS]
    _, generated = models_json_schema(
        [(model, "serialization") for model in models],
        by_alias=True, ref_template=template, schema_generator=_Documented,
    )  # fmt: skip
    schemas |= generated.get("$defs", {})
    return schemas


def event_schema(event: EventSchema) -> dict[str, Any]:
    """The JSON schema of a pipeline's events.

    >>> schema = EventSchema(id="id", key="id", time="at", fields={
    ...     "id": {"type": "string"}, "at": {"type": "timestamp"}})
    >>> event_schema(schema)["required"]
    ['id', 'at']
    """
    roles = {event.id, event.key}
    return {
        "type": "object",
        "properties": {name: _field(field, role=name in roles)
                       for name, field in event.fields.items()},
        "required": [name for name, field in event.fields.items() if not field.optional],
        "additionalProperties": False,
    }  # fmt: skip


def _field(field: EventField, *, role: bool) -> dict[str, Any]:
    schema = _type(field, role=role)
    return {"anyOf": [schema, {"type": "null"}]} if field.optional else schema


def _type(  # noqa: PLR0911  # one return per type
    field: EventField, *, role: bool
) -> dict[str, Any]:
    match field.type:
        case "string" if field.choices is not None:
            return {"type": "string", "enum": [*field.choices]}
        case "string":
            least = {"minLength": 1} if role else {}
            return {"type": "string", "maxLength": field.max_length, **least}
        case "integer":
            return {"type": "integer"} | _bounds(field, -(2**63), 2**63 - 1)
        case "number":
            return {"type": "number"} | _bounds(field, -LARGEST_FLOAT32, LARGEST_FLOAT32)
        case "boolean":
            return {"type": "boolean"}
        case "timestamp":
            return {"type": "string", "format": "date-time", "maxLength": LONGEST_TIME,
                    "description": _TIME}  # fmt: skip
        case "vector":
            number = {"type": "number"} | _bounds(field, -LARGEST_FLOAT32, LARGEST_FLOAT32)
            return {
                "type": "array", "items": number,
                "minItems": field.length, "maxItems": field.length,
            }  # fmt: skip


def _bounds(field: EventField, least: float, most: float) -> dict[str, float]:
    low, high = field.minimum, field.maximum
    return {"minimum": least if low is None else low, "maximum": most if high is None else high}


def _cloud_event(event: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "description": "A CloudEvent in structured mode; attributes beside `data` are not kept.",
        "properties": dict.fromkeys(_ENVELOPE, text) | {"data": event},
        "required": [*_ENVELOPE, "data"],
    }


class _Documented(GenerateJsonSchema):
    """Pydantic's schemas, with the docstrings of fields, and without titles that repeat names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  # pydantic's name
        """Never: a field's title is its name."""
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """The schema of a model."""
        json_schema = super().model_schema(schema)
        properties = json_schema.get("properties", {})
        for model in schema["cls"].__mro__:
            if model is BaseModel:
                break
            for name, text in _field_docstrings(model).items():
                alias = schema["cls"].model_fields[name].serialization_alias or name
                if alias in properties:
                    properties[alias].setdefault("description", text)
        return json_schema


def _field_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings that stand below the fields of *model* itself."""
    statements = [
        statement
        for definition in ast.parse(dedent(inspect.getsource(model))).body
        if isinstance(definition, ast.ClassDef)
        for statement in definition.body
    ]
    return {
        field.target.id: inspect.cleandoc(below.value.value)
        for field, below in pairwise(statements)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(below.value.value, str)
    }
