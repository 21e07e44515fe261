"""Settings from the environment (`ANABRANCH_…`) and from command-line flags."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from topics.broker_address import checked_addresses
from topics.errors import InvalidSettings

PREFIX = "ANABRANCH_"


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, hide_input_in_errors=True)

    def __init__(self, **given: Any) -> None:
        """Raises InvalidSettings."""
        try:
            super().__init__(**given)
        except ValidationError as exc:
            wrong = [(".".join(map(str, e["loc"])), e["msg"]) for e in exc.errors()]
        else:
            return
        # Not from the error, which knows what was given: a password may be among it.
        raise InvalidSettings([(f"{PREFIX}{name.upper()}", reason) for name, reason in wrong])


class SecuritySettings(_Settings):
    """How a connection to the broker is protected, and who we are."""

    tls: bool = False
    """Encrypt, and check that the broker is who it says."""
    tls_ca: FilePath | None = None
    """PEM file of the authorities that may vouch for the broker; the system's without it."""
    tls_certificate: FilePath | None = None
    """PEM file of our certificate, for mutual TLS."""
    tls_key: FilePath | None = None
    """PEM file of its private key; without it the key is in the certificate's file."""
    tls_key_password: SecretStr | None = None
    """Of an encrypted key."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """How we log in; without it we do not."""
    sasl_username: str | None = None
    """As whom."""
    sasl_password: SecretStr | None = None
    """With what."""
    sasl_password_file: FilePath | None = None
    """A file with the password: its first line."""
    sasl_without_tls: bool = False
    """Log in over a connection that is not encrypted."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.tls and (self.tls_ca or self.tls_certificate or self.tls_key):
            raise ValueError("certificates are for TLS: set ANABRANCH_TLS=true")
        if self.tls_key and not self.tls_certificate:
            raise ValueError("ANABRANCH_TLS_KEY needs ANABRANCH_TLS_CERTIFICATE")
        named = (self.sasl_username, self.sasl_password or self.sasl_password_file)
        if self.sasl_mechanism is None and any(named):
            raise ValueError("a user or a password needs ANABRANCH_SASL_MECHANISM")
        if self.sasl_mechanism is not None and not all(named):
            raise ValueError(
                "to log in set ANABRANCH_SASL_USERNAME, and ANABRANCH_SASL_PASSWORD or "
                "ANABRANCH_SASL_PASSWORD_FILE"
            )
        if self.sasl_password and self.sasl_password_file:
            raise ValueError("the password is given twice, by itself and by a file")
        if self.sasl_mechanism and not (self.tls or self.sasl_without_tls):
            raise ValueError(
                "the password would be sent without TLS: set ANABRANCH_TLS=true, or, if nobody "
                "can listen, ANABRANCH_SASL_WITHOUT_TLS=true"
            )
        return self


class BrokerSettings(_Settings):
    """How to reach the broker."""

    broker: str = "127.0.0.1:9092"
    """host:port, or several with commas."""
    embedded: bool = False
    """The broker is the embedded one: its limits apply."""
    instance_id: str | None = None
    """A name that a worker keeps when it is started again within its session's time: its partitions
    wait for it then (static membership). No other worker of the same components may have it: the
    one that had it ends, and the new one waits for as long as that takes to be heard. `@hostname`
    stands for the name of the machine, or of the container."""
    session_timeout_s: float = Field(default=10.0, ge=6, le=300)
    """A worker without a heartbeat for this long loses its partitions."""
    give_up_s: float = Field(default=60.0, ge=1)
    """A worker that the broker has not answered for this long ends with exit code 1."""
    stuck_after_s: float = Field(default=120.0, ge=5)
    """A worker whose component has records but comes no further for this long ends."""
    commit_interval_s: float = Field(default=1.0, gt=0, le=60)
    """How often the offsets of finished rows are committed."""
    security: SecuritySettings = Field(default_factory=SecuritySettings, exclude=True)
    """From the environment of its own: a child process inherits it, a dump does not show it."""

    @field_validator("instance_id")
    @classmethod
    def _named_by_the_host(cls, instance_id: str | None) -> str | None:
        return socket.gethostname() if instance_id == "@hostname" else instance_id

    @field_validator("broker")
    @classmethod
    def _is_addresses(cls, broker: str) -> str:
        return ",".join(checked_addresses(broker))

    @model_validator(mode="after")
    def _give_up_after_sessions_end(self) -> Self:
        # A group waits for the session of a member that died before it lets others join.
        if self.give_up_s < self.session_timeout_s:
            raise ValueError("give_up_s must not be below session_timeout_s")
        return self

    @property
    def addresses(self) -> list[str]:
        """The brokers, one host:port each."""
        return self.broker.split(",")


class HomeSettings(_Settings):
    """Where Anabranch keeps models and local state."""

    home: Path = Path(".anabranch")
    """Directory of the model registry and of the embedded broker's address."""
    registry: Path | str = Field(default_factory=lambda given: given["home"] / "registry")
    """The model registry: a directory, or an fsspec URL such as s3://bucket/models."""

    @field_validator("registry")
    @classmethod
    def _is_url_or_path(cls, registry: Path | str) -> Path | str:
        return registry if "://" in str(registry) else Path(registry)
