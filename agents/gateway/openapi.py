"""The gateway's contract as OpenAPI and JSON schema: what is asked, answered and refused."""

from __future__ import annotations

from typing import Any, Literal

from agents.contract import json_schemas
from topics.pipeline import Pipeline

_REF = "#/components/schemas/{model}"
SOURCE = "^[A-Za-z0-9._-]{1,249}/[0-9]{1,9}/[0-9]{1,18}$"
"""Coordinates of an event."""

PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["title", "status", "detail"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, where, and what to do."},
        "field": {"type": "string", "description": "Field or parameter that is wrong."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "event": {"type": "integer"}, "field": {"type": "string"},
                    "reason": {"type": "string"},
                },
            },
        },
        "source": {"type": "string", "description": "Coordinates of the event, once published."},
        "waits_for": {"type": "string", "description": "The stage that is waited for."},
        "results": {"type": "array", "description": "Of a list: each event's record or problem."},
    },
}  # fmt: skip

_REFUSALS = {
    400: "An event is not what the pipeline takes, or a parameter is wrong; names the field.",
    401: "No key, or one that is not known.",
    403: "The key may not do that.",
    404: "There is no such decision: in flight, a dead letter, or gone by retention.",
    405: "Not by that method.",
    408: "The body did not come in time.",
    409: "The id is that of several events: ask by source.",
    413: "More bytes or events than a request may have.",
    415: "Not JSON.",
    422: "The event, or one of them, is a dead letter; says why, and where it stands.",
    429: "Too much at the same time; Retry-After says when to come again.",
    500: "An error of the gateway's own; its log says more.",
    503: "The pipeline or the broker is down; Retry-After says when to come again.",
    504: "No decision within the deadline; says which stage is waited for, and the coordinates.",
}


def refusals(
    *statuses: int, style: Literal["problem", "v2"] = "problem"
) -> dict[int | str, dict[str, Any]]:
    """These answers, for the documentation of a route; *style* v2 is `{"error": …}`."""
    content: dict[str, Any] = {
        "application/problem+json": {"schema": reference("Problem")}
    } if style == "problem" else {
        "application/json": {"schema": reference("InferenceError")}
    }  # fmt: skip
    answers: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        answers[status] = {"description": _REFUSALS[status], "content": content}
        if status in (429, 503):
            answers[status]["headers"] = {
                "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}
            }
    return answers


def parameter(
    name: str, where: Literal["path", "query", "header"], schema: dict[str, Any],
    description: str = "", *, required: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """A parameter of a route; one of the path is always required."""
    about = {"name": name, "in": where, "schema": schema, "required": required or where == "path"}
    return about | ({"description": description} if description else {})


_PRINTABLE = r"!-~\u00a1-\u00ac\u00ae-\u00ff"
IDEMPOTENCY_KEY = parameter(
    "Idempotency-Key", "header",
    {"type": "string", "pattern": f"^[{_PRINTABLE}]([ {_PRINTABLE}]*[{_PRINTABLE}])?$",
     "maxLength": 255},
    "Requests with the same key, to whatever gateway, are published once.",
)  # fmt: skip


def json_answer(schema: dict[str, Any], description: str) -> dict[str, Any]:
    """A successful answer of that schema."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def reference(model: str) -> dict[str, Any]:
    """One of `schemas` by its name."""
    return {"$ref": _REF.format(model=model)}


def event_or_list() -> dict[str, Any]:
    """What /predict is given."""
    one = reference("Event")
    return {"oneOf": [one, {"type": "array", "items": one, "minItems": 1}]}


def schemas(pipeline: Pipeline) -> dict[str, Any]:
    """The models of a pipeline's contract by name: its event, decisions and what is about them."""
    return {
        **json_schemas(pipeline, ("Event", "CloudEvent", "Decision", "Explanation"), _REF),
        "Problem": PROBLEM,
        "Published": {
            "type": "object", "required": ["sources"],
            "properties": {"sources": {
                "type": "array", "items": {"type": "string", "pattern": SOURCE},
            }},
        },
        "InferenceRequest": _tensors("inputs", {"parameters": {"type": "object"}}),
        "InferenceResponse": _tensors("outputs", {
            "model_name": {"const": pipeline.name}, "model_version": {"type": "string"},
        }),
        "InferenceError": {
            "type": "object", "required": ["error"], "properties": {"error": {"type": "string"}},
        },
    }  # fmt: skip


def document_guard(spec: dict[str, Any], *, by_key: bool) -> None:
    """Say what is so of all routes but those that are open: keys, rates, and our own errors.

    Without *by_key* a key may be sent, and is not looked at.
    """
    security: list[dict[str, list[str]]] = [{"bearer": []}, {"key": []}]
    if not by_key:
        security = [{}, *security]
    spec["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, methods in spec["paths"].items():
        also = refusals(403, 429, 500, style="v2" if path.startswith("/v2") else "problem")
        for operation in methods.values():
            if "401" in operation["responses"]:
                operation["security"] = security
                for status, answer in also.items():
                    operation["responses"].setdefault(str(status), answer)


def _tensors(member: str, properties: dict[str, Any]) -> dict[str, Any]:
    """A message of the Open Inference Protocol with tensors, each `data` or raw bytes behind it."""
    tensor = {
        "type": "object", "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string"}, "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "parameters": {"type": "object"}, "data": {"type": "array"},
        },
    }  # fmt: skip
    return {
        "type": "object", "required": [member],
        "properties": {
            "id": {"type": "string"}, **properties,
            member: {"type": "array", "items": tensor, "minItems": 1},
        },
    }  # fmt: skip
