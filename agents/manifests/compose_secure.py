"""A Compose file that secures another: TLS, a user for each component, ACLs, passwords by file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agents.manifests.compose_file import GATEWAY, Layout, gateway_command, workers
from agents.manifests.compose_yaml import EXTENDS, Anchored, Content, compose_text, escaped
from topics.pipeline import MONITOR, TRAINER, Pipeline, Topology
from topics.printable import printable
from topics.records import CONSUMER, OPERATOR, PRODUCER
from topics.records import GATEWAY as GATEWAY_USER

ADMIN = "admin"
"""The broker's super user: makes topics and grants rights."""
_COMMENTS = {
    "x-login": "How each of ours logs in.",
    GATEWAY: "Who may ask is in gateway-keys; it speaks HTTPS, by an authority of ours, kafka-ca.",
    "kafka": "Its settings are a secret: they hold the users' passwords.",
}


def render_secure(pipeline: Pipeline, layout: Layout) -> str:
    """The text of a file to be given after the one of `compose_file.render`.

    Raises agents.manifests.compose_file.ServiceNameTaken.
    """
    topology = Topology.of(pipeline)
    users = {name: topology.group(name) for name in workers(pipeline)}
    if layout.simulated:
        users["producer"] = topology.group(PRODUCER)
    users[GATEWAY] = topology.group(GATEWAY_USER)
    users[MONITOR] = topology.group(MONITOR)
    if pipeline.renew.is_by_itself:
        users[TRAINER] = topology.group(TRAINER)
    users["audit"] = topology.group(OPERATOR)
    everybody = dict.fromkeys(
        [ADMIN, *users.values(), topology.group(PRODUCER), topology.group(CONSUMER)]
    )
    login = Anchored("login", _LOGIN)
    create = ["topics", escaped(layout.argument), "--create", "--grant"]
    services: Content = {
        "kafka": _KAFKA,
        "topics": {**_logged_in(login, ADMIN), "command": create},
        **{service: _logged_in(login, user) for service, user in users.items()},
    }
    services[GATEWAY] = _guarded(services[GATEWAY], layout)
    of_all = ("kafka-ca", "kafka-server", "kafka-properties", *_GATEWAY_SECRETS, ADMIN)
    secrets = (*of_all, *users.values())
    content: Content = {
        "x-login": login,
        "services": services,
        "secrets": {name: {"file": f"${{SECRETS:-./.secrets}}/{name}"} for name in secrets},
    }
    return compose_text(_head(pipeline, layout, list(everybody)), content, _COMMENTS)


def _head(pipeline: Pipeline, layout: Layout, users: Sequence[str]) -> Iterator[str]:
    yield f"{pipeline.name} on a Kafka that trusts nobody. Written by"
    yield f"  {printable(layout.command)}"
    yield "It goes on top of docker-compose.yml, from its directory; the secrets are made once:"
    yield ""
    yield f"  {printable(layout.source)}/deploy/compose/make-secrets .secrets {users[0]} \\"
    yield from (f"    {user} \\" for user in users[1:-1])
    yield f"    {users[-1]}"
    yield "  docker compose -f docker-compose.yml -f THIS_FILE up -d"


_LOGIN: Content = {
    "ANABRANCH_TLS": "true",
    "ANABRANCH_TLS_CA": "/run/secrets/kafka-ca",
    "ANABRANCH_SASL_MECHANISM": "PLAIN",
    "ANABRANCH_SASL_PASSWORD_FILE": "/run/secrets/kafka-password",
}
_KAFKA: Content = {
    "environment": {
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "INTERNAL:SASL_SSL,HOST:SASL_SSL,"
        "CONTROLLER:PLAINTEXT",
    },
    "secrets": [
        "kafka-ca",
        "kafka-server",
        {"source": "kafka-properties", "target": "/mnt/shared/config/server.properties"},
    ],
}


_GATEWAY_SECRETS = ("gateway-keys", "gateway-server")


def _guarded(logged_in: Content, layout: Layout) -> Content:
    """The gateway with the keys of those who may ask, and a certificate of its own."""
    keys, certificate = (f"/run/secrets/{name}" for name in _GATEWAY_SECRETS)
    words = ["--keys", keys, "--tls-certificate", certificate]
    return {
        **logged_in,
        "command": gateway_command(layout, *words),
        "secrets": [*logged_in["secrets"], *_GATEWAY_SECRETS],
    }


def _logged_in(login: Anchored, user: str) -> Content:
    return {
        "environment": {EXTENDS: login, "ANABRANCH_SASL_USERNAME": user},
        "secrets": ["kafka-ca", {"source": user, "target": "kafka-password"}],
    }
