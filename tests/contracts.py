"""Records against the documents that describe them, by validators that are not ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
from aiokafka.structs import ConsumerRecord
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from agents.contract.asyncapi import asyncapi_document
from agents.contract.channels import value_schema
from topics.pipeline.schema import Pipeline
from topics.settings import SecuritySettings


def document_of(pipeline: Pipeline) -> Any:
    """The AsyncAPI document of a pipeline on one broker without protection."""
    return asyncapi_document(pipeline, ["kafka:9092"], SecuritySettings())


def validator(schema: Any, document: Any = None) -> Draft202012Validator:
    """Of *schema*, which may refer to the schemas of *document*."""
    Draft202012Validator.check_schema(schema)
    components = {} if document is None else {"components": document["components"]}
    return Draft202012Validator({**schema, **components})


def check_values(pipeline: Pipeline, topic: str, values: Iterable[bytes]) -> int:
    """How many there are; fails where one is not what the JSON Schema of its topic says."""
    check, count = validator(value_schema(pipeline, topic)), 0
    for value in values:
        errors = [each.message for each in check.iter_errors(orjson.loads(value))]
        assert not errors, (topic, errors, value)
        count += 1
    return count


def messages_of(
    document: Any, channel: str, records: Sequence[ConsumerRecord]
) -> Iterator[tuple[str, ConsumerRecord]]:
    """Each record that has a value, with the one message of the channel that it is.

    Key, headers and value all have to fit; fails where none does, or several do.
    """
    named = document["channels"][channel]["messages"]
    checks = {name: _checks(document, document["components"]["messages"][name]) for name in named}
    for record in records:
        if record.value is None:
            continue
        fitting = [name for name, of in checks.items() if _fits(record, *of)]
        assert len(fitting) == 1, (channel, fitting, record)
        yield fitting[0], record


def _checks(document: Any, message: Any) -> list[Draft202012Validator | None]:
    key = message["bindings"]["kafka"].get("key")
    schemas = (key, message.get("headers"), message.get("payload"))
    return [None if schema is None else validator(schema, document) for schema in schemas]


def _fits(
    record: ConsumerRecord, key: Draft202012Validator | None,
    headers: Draft202012Validator | None, value: Draft202012Validator | None,
) -> bool:  # fmt: skip
    texts = {name: (content or b"").decode() for name, content in record.headers}
    return (
        (key is None or key.is_valid(record.key and record.key.decode()))
        and (headers is None or headers.is_valid(texts))
        and (value is None or value.is_valid(orjson.loads(record.value)))
    )
