"""The AsyncAPI document of a pipeline: its topics, what stands on them, and how to reach them.

As the specification has it, the application is the pipeline, and operations are what it does: it
receives what producers write, and sends what consumers read. Specification:
https://www.asyncapi.com/docs/reference/specification/v3.0.0, bindings:
https://github.com/asyncapi/bindings/tree/master/kafka
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agents.contract.channels import Channel, Message, channels
from agents.contract.json_schemas import json_schemas
from topics.pipeline import Pipeline, Topology
from topics.records import DECISION_SCHEMA, topic_configs
from topics.settings import SecuritySettings

_BINDING = "0.5.0"
_SASL = {"PLAIN": "plain", "SCRAM-SHA-256": "scramSha256", "SCRAM-SHA-512": "scramSha512"}


def asyncapi_document(
    pipeline: Pipeline, addresses: Sequence[str], security: SecuritySettings
) -> dict[str, Any]:
    """The document (AsyncAPI 3.0), for brokers at *addresses*, each `host:port`."""
    listed = channels(pipeline)
    schemes = _security_schemes(security)
    messages = {message.name: message for channel in listed for message in channel.messages}
    named = [message.name for message in messages.values() if message.has_schema]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": pipeline.name,
            "version": str(DECISION_SCHEMA),
            "description": _about(pipeline),
        },
        "defaultContentType": "application/json",
        "servers": {
            f"broker-{number}": {
                "host": address,
                "protocol": "kafka-secure" if security.tls else "kafka",
                "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in schemes],
            }
            for number, address in enumerate(addresses, start=1)
        },
        "channels": {each.name: _channel(each, pipeline) for each in listed},
        "operations": {
            name: operation
            for each in listed if not each.internal
            for name, operation in [_operation(each)]
        },
        "components": {
            "messages": {name: _message(message) for name, message in messages.items()},
            "schemas": json_schemas(pipeline, named, "#/components/schemas/{model}"),
            "securitySchemes": schemes,
        },
    }  # fmt: skip


def _about(pipeline: Pipeline) -> str:
    own = f"{pipeline.description}\n\n" if pipeline.description else ""
    return (
        f"{own}The application is the pipeline: it receives events and sends decisions; producers "
        "and consumers do the opposite. On a cluster with an authorizer producers log in as "
        f"`{pipeline.name}.producer`, consumers as `{pipeline.name}.consumer`, in groups whose "
        f"names begin with `{pipeline.name}.consumer.`, and operators as "
        f"`{pipeline.name}.operator`. Channels tagged `internal` are between the pipeline's own "
        "parts: their form changes with them. Readers pass over fields and headers that they do "
        "not know."
    )


def _channel(channel: Channel, pipeline: Pipeline) -> dict[str, Any]:
    topology = Topology.of(pipeline)
    settings = topic_configs(topology).get(channel.topic, {})
    binding: dict[str, Any] = {"topic": channel.topic, "partitions": topology.partitions}
    if settings:
        binding["topicConfiguration"] = _topic_configuration(settings)
    return {
        "address": channel.topic,
        "summary": channel.summary,
        "messages": {
            message.name: {"$ref": f"#/components/messages/{message.name}"}
            for message in channel.messages
        },
        "tags": [{"name": "internal" if channel.internal else "public"}],
        "bindings": {"kafka": {**binding, "bindingVersion": _BINDING}},
    }


def _topic_configuration(settings: Mapping[str, str]) -> dict[str, Any]:
    """Topic settings as the binding has them: numbers as numbers, the policy as a list."""
    return {
        name: value.split(",") if name == "cleanup.policy"
        else int(value) if value.isdigit() else value
        for name, value in {"cleanup.policy": "delete", **settings}.items()
    }  # fmt: skip


def _operation(channel: Channel) -> tuple[str, dict[str, Any]]:
    action = "receive" if channel.from_outside else "send"
    reference = f"#/channels/{channel.name}"
    operation = {
        "action": action,
        "channel": {"$ref": reference},
        "summary": channel.summary,
        "messages": [
            {"$ref": f"{reference}/messages/{message.name}"} for message in channel.messages
        ],
    }
    name = "".join(word.capitalize() for word in channel.name.split("-"))
    return action + name, operation


def _message(message: Message) -> dict[str, Any]:
    about: dict[str, Any] = {
        "name": message.name,
        "summary": message.summary,
        "contentType": message.content_type,
    }
    if message.headers:
        about["headers"] = message.headers_schema
    if message.has_schema:
        about["payload"] = {"$ref": f"#/components/schemas/{message.name}"}
    if message.correlation:
        about["correlationId"] = {"location": f"$message.header#/{message.correlation}"}
    binding = {} if message.key is None else {"key": message.key}
    return {**about, "bindings": {"kafka": {**binding, "bindingVersion": _BINDING}}}


def _security_schemes(security: SecuritySettings) -> dict[str, Any]:
    """How a client says who it is; nothing where nobody needs to."""
    schemes: dict[str, Any] = {}
    if security.tls_certificate is not None:
        schemes["certificate"] = {"type": "X509", "description": "Mutual TLS."}
    if security.sasl_mechanism is not None:
        schemes["login"] = {
            "type": _SASL[security.sasl_mechanism],
            "description": f"SASL {security.sasl_mechanism}, a user for each part of the pipeline.",
        }
    return schemes
