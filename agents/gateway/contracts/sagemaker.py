"""SageMaker's container contract: what an invocation may hold besides JSON, and its answer.

JSON lines have an event a line. CSV has an event a row, its columns in the order of the pipeline
file's fields, or as a first row of field names says. Specification:
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import orjson
from pydantic_core import from_json

from agents.gateway.problem import InvalidEvents, UnsupportedContent
from topics.pipeline import EventField, EventSchema

CSV = "text/csv"
LINES = ("application/jsonlines", "application/x-ndjson", "application/x-jsonlines")
_TRUE, _FALSE = ("true", "1"), ("false", "0")


def items_of_lines(body: bytes) -> list[Any]:
    """The JSON of each line. Raises InvalidEvents."""
    items = list[Any]()
    for line in body.splitlines():
        if not line.strip():
            continue
        try:
            items.append(from_json(line, allow_inf_nan=True))
        except ValueError as exc:
            wrong = (len(items), "", f"malformed JSON: {exc}")
            raise InvalidEvents([wrong], of_list=True) from exc
    return items


def items_of_csv(schema: EventSchema, body: bytes) -> list[dict[str, Any]]:
    """The rows as events, not validated. Raises InvalidEvents, UnsupportedContent."""
    if any(field.type == "vector" for field in schema.fields.values()):
        raise UnsupportedContent("the event has a vector, which CSV cannot hold: send JSON")
    try:
        rows = [
            row for row in csv.reader(io.StringIO(body.decode("utf-8-sig")), strict=True) if row
        ]
    except (UnicodeDecodeError, csv.Error) as exc:
        raise InvalidEvents([(0, "", f"no CSV in UTF-8: {exc}")], of_list=False) from exc
    names = [*schema.fields]
    if rows and set(rows[0]) <= {*names} and len(set(rows[0])) == len(rows[0]):
        names = rows.pop(0)
    items = list[dict[str, Any]]()
    for number, row in enumerate(rows):
        if len(row) != len(names):
            wrong = (number, "", f"{len(row)} columns, and there are {len(names)} fields")
            raise InvalidEvents([wrong], of_list=True)
        pairs = zip(names, row, strict=True)
        items.append({name: _value(schema.fields[name], text) for name, text in pairs})
    return items


def answer_of(records: Sequence[bytes], kind: str) -> bytes:
    """Decision records as JSON lines, or as CSV: decision and score of each row."""
    if kind != CSV:
        return b"".join(record + b"\n" for record in records)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for record in records:
        decision = orjson.loads(record)
        score = decision["score"]
        writer.writerow([decision["decision"], "" if score is None else repr(score)])
    return text.getvalue().encode()


def _value(field: EventField, text: str) -> Any:
    """What a text stands for; one that stands for nothing stays, and is refused as an event."""
    if field.optional and not text:
        return None
    try:
        match field.type:
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "boolean" if text.lower() in (*_TRUE, *_FALSE):
                return text.lower() in _TRUE
    except ValueError:
        return text
    return text
