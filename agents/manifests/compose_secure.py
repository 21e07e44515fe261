"""A Compose file that secures another: TLS, a user for each component, ACLs, passwords by file."""

from __future__ import annotations

from collections.abc import Iterator

from agents.manifests.compose_file import Layout, workers
from agents.manifests.compose_text import compose_scalar
from topics.pipeline import Pipeline, Topology, scalar
from topics.printable import printable
from topics.records import CONSUMER, OPERATOR, PRODUCER

ADMIN = "admin"
"""The broker's super user: makes topics and grants rights."""


def render_secure(pipeline: Pipeline, layout: Layout) -> str:
    """The text of a file to be given after the one of `compose_file.render`.

    Raises agents.manifests.compose_file.ServiceNameTaken.
    """
    topology = Topology.of(pipeline)
    users = {name: topology.group(name) for name in workers(pipeline)}
    if layout.simulated:
        users["producer"] = topology.group(PRODUCER)
    users["audit"] = topology.group(OPERATOR)
    known = [ADMIN, *users.values()]
    for name in (topology.group(PRODUCER), topology.group(CONSUMER)):
        if name not in known:
            known.append(name)
    parts = [
        _head(pipeline, layout, known), _login(), _kafka(), _topics(layout),
        *(_user(service, user) for service, user in users.items()),
        _secrets([ADMIN, *users.values()]),
    ]  # fmt: skip
    return "\n".join(line for part in parts for line in part) + "\n"


def _head(pipeline: Pipeline, layout: Layout, users: list[str]) -> Iterator[str]:
    yield f"# {pipeline.name} on a Kafka that trusts nobody. Written by"
    yield f"#   {printable(layout.command)}"
    yield "# It goes on top of docker-compose.yml, from its directory; the secrets are made once:"
    yield "#"
    yield f"#   {printable(layout.source)}/deploy/compose/make-secrets .secrets {users[0]} \\"
    for index, user in enumerate(users[1:], start=2):
        yield f"#     {user}{' ' + chr(92) if index < len(users) else ''}"
    yield "#   docker compose -f docker-compose.yml -f THIS_FILE up -d"
    yield ""


def _login() -> Iterator[str]:
    yield from (
        "x-login: &login",
        '  ANABRANCH_TLS: "true"',
        "  ANABRANCH_TLS_CA: /run/secrets/kafka-ca",
        "  ANABRANCH_SASL_MECHANISM: PLAIN",
        "  ANABRANCH_SASL_PASSWORD_FILE: /run/secrets/kafka-password",
        "",
    )


def _kafka() -> Iterator[str]:
    protocols = "INTERNAL:SASL_SSL,HOST:SASL_SSL,CONTROLLER:PLAINTEXT"
    yield from (
        "services:",
        "  # Its settings are a secret: they hold the users' passwords.",
        "  kafka:",
        "    environment:",
        f"      KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: {protocols}",
        "    secrets:",
        "      - kafka-ca",
        "      - kafka-server",
        "      - {source: kafka-properties, target: /mnt/shared/config/server.properties}",
    )


def _topics(layout: Layout) -> Iterator[str]:
    yield from _user("topics", ADMIN)
    yield f"    command: [topics, {compose_scalar(layout.argument)}, --create, --grant]"


def _user(service: str, user: str) -> Iterator[str]:
    yield from (
        "",
        f"  {scalar(service)}:",
        "    environment:",
        "      <<: *login",
        f"      ANABRANCH_SASL_USERNAME: {scalar(user)}",
        "    secrets:",
        "      - kafka-ca",
        f"      - {{source: {scalar(user)}, target: kafka-password}}",
    )


def _secrets(users: list[str]) -> Iterator[str]:
    yield from ("", "secrets:")
    for name in ("kafka-ca", "kafka-server", "kafka-properties", *users):
        yield f"  {scalar(name)}:"
        yield f"    file: ${{SECRETS:-./.secrets}}/{name}"
