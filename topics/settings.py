"""Settings from the environment (`ANABRANCH_…`) and from command-line flags."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class BrokerSettings(BaseSettings):
    """How to reach the broker."""

    model_config = SettingsConfigDict(env_prefix="ANABRANCH_", frozen=True)

    broker: str = "127.0.0.1:9092"
    """host:port, or several with commas."""
    embedded: bool = False
    """The broker is the embedded one: its limits apply."""
    session_timeout_s: float = Field(default=30.0, ge=6, le=300)
    """A worker without a heartbeat for this long loses its partitions."""
    give_up_s: float = Field(default=60.0, ge=1)
    """A worker that the broker has not answered for this long ends with exit code 1."""
    stuck_after_s: float = Field(default=120.0, ge=5)
    """A worker whose component has records but comes no further for this long ends."""
    commit_interval_s: float = Field(default=1.0, gt=0, le=60)
    """How often the offsets of finished rows are committed."""

    @model_validator(mode="after")
    def _give_up_after_sessions_end(self) -> Self:
        # A group waits for the session of a member that died before it lets others join.
        if self.give_up_s < self.session_timeout_s:
            raise ValueError("give_up_s must not be below session_timeout_s")
        return self

    @property
    def addresses(self) -> list[str]:
        """The brokers, one host:port each."""
        return [address.strip() for address in self.broker.split(",") if address.strip()]


class HomeSettings(BaseSettings):
    """Where Anabranch keeps models and local state."""

    model_config = SettingsConfigDict(env_prefix="ANABRANCH_", frozen=True)

    home: Path = Path(".anabranch")
    """Directory of the model registry and of the embedded broker's address."""
    registry: Path = Field(default_factory=lambda given: given["home"] / "registry")
    """The model registry's directory."""
