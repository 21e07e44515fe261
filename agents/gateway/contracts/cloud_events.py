"""CloudEvents 1.0 over HTTP: an event in binary or structured mode, or a batch, as JSON.

The data are the pipeline's event; attributes are checked and left out. Specification:
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from agents.gateway.problem import InvalidEvents, UnsupportedContent

STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
_JSON = "application/json"
REQUIRED = ("specversion", "id", "source", "type")
"""Attributes that every CloudEvent has."""
_VERSION = "1.0"


def event_data(content_type: str, headers: Mapping[str, str], body: bytes) -> list[Any]:
    """The data of each CloudEvent of a request. Raises InvalidEvents, UnsupportedContent."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (STRUCTURED, BATCH, _JSON):
        raise UnsupportedContent(
            f"send CloudEvents as {STRUCTURED}, {BATCH}, or {_JSON} with their attributes as "
            "headers (ce-…)"
        )
    try:
        content = from_json(body, allow_inf_nan=True)
    except ValueError as exc:
        raise InvalidEvents([(0, "", f"malformed JSON: {exc}")], of_list=False) from exc
    if kind == _JSON:
        attributes = {name: headers.get(f"ce-{name}") for name in REQUIRED}
        _check(attributes, "ce-", 0, of_list=False)
        return [content]
    if kind == STRUCTURED:
        content = [content]
    if not isinstance(content, list):
        raise InvalidEvents([(0, "", "a batch is a list of CloudEvents")], of_list=False)
    data = list[Any]()
    for number, envelope in enumerate(content):
        if not isinstance(envelope, dict):
            raise InvalidEvents([(number, "", "no CloudEvent")], of_list=kind == BATCH)
        _check(envelope, "", number, of_list=kind == BATCH)
        if "data" not in envelope:
            raise InvalidEvents([(number, "data", "Field required")], of_list=kind == BATCH)
        data.append(envelope["data"])
    return data


def _check(attributes: Mapping[str, Any], prefix: str, number: int, *, of_list: bool) -> None:
    for name in REQUIRED:
        value = attributes.get(name)
        if not isinstance(value, str) or not value:
            raise InvalidEvents([(number, prefix + name, "Field required")], of_list=of_list)
    if attributes["specversion"] != _VERSION:
        reason = f"this is read as {_VERSION} only"
        raise InvalidEvents([(number, f"{prefix}specversion", reason)], of_list=of_list)
