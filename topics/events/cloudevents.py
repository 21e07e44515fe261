"""CloudEvents 1.0 in structured mode: an event inside a JSON envelope, as its `data`.

In binary mode the attributes are headers (`ce_…`) and the value is the plain event.
"""

from __future__ import annotations

import orjson

from topics.events.foreign_formats import format_advice

CONTENT_TYPE = "content-type"

_MEDIA_TYPE = b"application/cloudevents"
_JSON = b"application/cloudevents+json"
_REQUIRED = ("specversion", "id", "source", "type")
"""Attributes that every CloudEvent has."""


class NotUnpacked(ValueError):
    """The envelope holds no event that can be read; the message says why."""


def is_envelope(name: str, value: bytes | None) -> bool:
    """Whether a header says that its record's value is a structured CloudEvent, in JSON.

    Its name and its value, a media type, may be written in any case. Raises NotUnpacked for a
    batch of CloudEvents and for other formats than JSON.
    """
    media_type = (value or b"").lower()
    if not media_type.startswith(_MEDIA_TYPE) or name.lower() != CONTENT_TYPE:
        return False
    media_type = media_type.partition(b";")[0].strip()
    if media_type == _JSON:
        return True
    shown = media_type.decode("ascii", "replace")[:80]
    if media_type.startswith(_MEDIA_TYPE + b"-batch"):
        raise NotUnpacked(f"{shown} is a batch of CloudEvents: send each as a record of its own")
    raise NotUnpacked(f"CloudEvents are read as {_JSON.decode()} only, not as {shown}")


def data_of(value: bytes) -> bytes:
    """The `data` of a structured CloudEvent, as JSON. Raises NotUnpacked."""
    try:
        envelope = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        reason = format_advice(value) or str(exc)
        raise NotUnpacked(f"not a structured CloudEvent: {reason}") from exc
    if not isinstance(envelope, dict) or "data" not in envelope:
        base64 = isinstance(envelope, dict) and "data_base64" in envelope
        instead = "; data_base64, binary data, is not read" if base64 else ""
        raise NotUnpacked(f"not a structured CloudEvent with a data member{instead}")
    if isinstance(envelope["data"], str):
        raise NotUnpacked("the CloudEvent's data are a string: they have to be a JSON object")
    try:
        return orjson.dumps(envelope["data"])
    except TypeError as exc:  # orjson reads deeper nesting than it writes
        raise NotUnpacked("the CloudEvent's data are nested too deeply") from exc


def data_without_header(value: bytes) -> bytes | None:
    """The `data` of what has all that a CloudEvent must have; None for anything else.

    The Kafka binding wants the header that says so; where it got lost, the attributes do.
    """
    if b'"specversion"' not in value:
        return None
    try:
        envelope = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(envelope, dict) or not all(name in envelope for name in _REQUIRED):
        return None
    return data_of(value)
