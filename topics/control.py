"""The control topic: which versions are in service, and what has come of it.

`<pipeline>.control` is compacted, and all its records are on partition 0, so everybody reads them
in one order. A record is what its key is about, as it is now:

    deploy/<component>                     Deployment: what the component's workers shall run
    weights, policy                        WeightsDeployment, PolicyDeployment
    worker/<component>/<worker>            WorkerReport: what a worker does run, or has refused
    first/<component>/<version>/<partition>  FirstOffset: from which source row on
    audit/<time>-<token>                   AuditEntry: who did what, when and why
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from topics.batches import Record
from topics.errors import WireError
from topics.policy import Policy

PARTITION = 0
WEIGHTS, POLICY = "weights", "policy"
"""What the weighting agent swaps, named like a component."""

Version = Annotated[int, Field(ge=1)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(max_length=1000)]
Action = Literal["promote", "rollback", "shadow", "canary", "end-challenge"]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class VersionRef(_Said):
    """A version of a component's model in the registry."""

    version: Version
    digest: Digest


class Challenger(VersionRef):
    """A version that runs beside the champion, on the same rows."""

    share: Share = 0
    """Share of the keys that it decides for: 0 for a shadow, more for a canary."""


class Deployment(_Said):
    """What the workers of a component shall run."""

    champion: VersionRef | None = None
    """None for the version that the registry and the pipeline file give."""
    previous: VersionRef | None = None
    """What a rollback goes back to, and a worker that starts when the champion cannot be used."""
    challenger: Challenger | None = None


class WeightsDeployment(_Said):
    """Which learned weights are in use."""

    version: Version
    previous: Version | None = None


class PolicyDeployment(_Said):
    """Which thresholds are in use."""

    policy: Policy
    previous: Policy | None = None


class WorkerReport(_Said):
    """What a worker says of the last thing that it was to run, as champion or challenger."""

    version: Version
    state: Literal["running", "refused"]
    reason: Text = ""
    at: str


class FirstOffset(_Said):
    """The first source row of a partition that was dealt with under a version.

    When the version comes back, the row with which it does. A repartitioned component's rows come
    in lanes: it is the first row of the lane that was first.
    """

    offset: Annotated[int, Field(ge=0, le=2**62)]
    worker: Text
    at: str


class AuditEntry(_Said):
    """Who did what, when and why."""

    action: Action
    what: Text
    """The component, `weights` or `policy`."""
    version: Version | None
    """The version that it is about: now in service, or challenging."""
    before: Version | None
    """The version that was in service."""
    by: Text
    reason: Text
    at: str


@dataclass(slots=True)
class ControlState:
    """What the control topic says, record by record."""

    deployments: dict[str, Deployment] = field(default_factory=dict)
    weights: WeightsDeployment | None = None
    policy: PolicyDeployment | None = None
    workers: dict[tuple[str, str], WorkerReport] = field(default_factory=dict)
    """By component and worker."""
    firsts: dict[tuple[str, int, int], FirstOffset] = field(default_factory=dict)
    """By component, version and partition."""
    audit: list[AuditEntry] = field(default_factory=list)

    def deployment(self, component: str) -> Deployment:
        """What *component* shall run."""
        return self.deployments.get(component, Deployment())

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Take in one record, in order. WireError for one that is not of this topic."""
        try:
            kind, *names = (key or b"").decode().split("/")
            if value is not None:
                self._take(kind, names, value)
        except (ValidationError, ValueError) as exc:
            reason = str(exc).splitlines()[0]
            raise WireError(f"not a record of the control topic: {reason}") from exc

    def _take(self, kind: str, names: list[str], value: bytes) -> None:
        match kind, names:
            case "deploy", [component]:
                self.deployments[component] = Deployment.model_validate_json(value)
            case "weights", []:
                self.weights = WeightsDeployment.model_validate_json(value)
            case "policy", []:
                self.policy = PolicyDeployment.model_validate_json(value)
            case "worker", [component, worker]:
                self.workers[component, worker] = WorkerReport.model_validate_json(value)
            case "first", [component, version, partition]:
                at = (component, int(version), int(partition))
                self.firsts[at] = FirstOffset.model_validate_json(value)
            case "audit", [_]:
                self.audit.append(AuditEntry.model_validate_json(value))
            case _:
                raise ValueError(f"nothing here has the key {kind[:40]!r}")


def deploy_key(component: str) -> str:
    """The key of a component's Deployment."""
    return f"deploy/{component}"


def worker_key(component: str, worker: str) -> str:
    """The key of a WorkerReport."""
    return f"worker/{component}/{worker}"


def first_key(component: str, version: int, partition: int) -> str:
    """The key of a FirstOffset."""
    return f"first/{component}/{version}/{partition}"


def audit_key(entry: AuditEntry, token: str) -> str:
    """The key of an AuditEntry: one that no other has, or compaction would drop one of them."""
    return f"audit/{entry.at}-{token}"


def records(said: Mapping[str, BaseModel], now_ms: int) -> list[Record]:
    """Records by key, in order."""
    headers: list[tuple[str, Any]] = [("content-type", b"application/json")]
    return [
        Record(key.encode(), value.model_dump_json(exclude_defaults=True).encode(), now_ms, headers)
        for key, value in said.items()
    ]
