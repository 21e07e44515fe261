"""A broker that trusts nobody: certificates, users, and an authorizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.kafka_nodes import Node, free_ports, one_broker
from topics.settings import BrokerSettings

PASSWORD = "correct-horse"  # noqa: S105  # of users that exist for a test
_MODULES = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class Secured:
    """A broker with a listener for each way to connect; the ports are of localhost."""

    directory: Path
    admin: BrokerSettings
    """Without any protection: whoever is there may do everything."""
    login: int
    """TLS, then PLAIN or SCRAM."""
    mutual: int
    """TLS with certificates on both sides."""
    expired: int
    """TLS with a certificate of the past."""

    def pem(self, name: str) -> str:
        """The file of a certificate."""
        return str(self.directory / f"{name}.pem")


@contextmanager
def secured_broker(directory: Path, users: Sequence[str]) -> Iterator[Secured]:
    """A broker that knows *users*, who all have PASSWORD and may do nothing yet."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(directory / "other-ca.pem"))
    then = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC)
    certificates = {
        "server": authority.issue_cert("localhost"),
        "expired": authority.issue_cert("localhost", not_before=then[0], not_after=then[1]),
        "client": authority.issue_cert("client", common_name="client"),
    }
    for name, certificate in certificates.items():
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        (directory / f"{name}.pem").write_bytes(_pkcs8(certificate.private_key_pem.bytes()) + chain)
    ports = free_ports(3)
    with one_broker(directory, lambda node: _properties(node, users, ports)) as admin:
        yield Secured(directory, admin, *ports)


def _pkcs8(key: bytes) -> bytes:
    """The private key in the only form that Kafka reads."""
    return load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def _properties(node: Node, users: Sequence[str], ports: Sequence[int]) -> str:
    names = ("LOGIN", "MUTUAL", "EXPIRED")
    ours = ",".join(f"{name}://localhost:{at}" for name, at in zip(names, ports, strict=True))
    plain = f"PLAINTEXT://{node.address}"
    known = " ".join(f'user_{name}="{PASSWORD}"' for name in users)
    return f"""
listeners={plain},CONTROLLER://127.0.0.1:{node.controller_port},{ours}
advertised.listeners={plain},{ours}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,\\
  LOGIN:SASL_SSL,MUTUAL:SSL,EXPIRED:SSL
ssl.keystore.type=PEM
ssl.keystore.location={node.directory}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={node.directory}/ca.pem
listener.name.mutual.ssl.client.auth=required
listener.name.expired.ssl.keystore.location={node.directory}/expired.pem
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.login.plain.sasl.jaas.config={_MODULES}.plain.PlainLoginModule required {known};
listener.name.login.scram-sha-512.sasl.jaas.config={_MODULES}.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""
