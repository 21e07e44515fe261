"""The control topic: which versions are in service.

`<pipeline>.control` is compacted, and all its records are on partition 0, so everybody reads them
in one order. A record is what its key is about, as it is now:

    deploy/<component>      Deployment: what the component's workers shall run
    weights, policy         WeightsDeployment, PolicyDeployment
    rollout                 Rollout: whose decisions count, ours or those of a changed pipeline
    audit/<time>-<token>    AuditEntry: who did what, when and why

Workers only read it; what they say of it is on `<pipeline>.reports`, see `topics.records.reports`.
Older ones said it here, so records of theirs may still be among these.

A record without a value deletes what its key is about. Of the audit trail AUDIT_KEPT entries stay:
whoever writes the next deletes what is older.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from topics.errors import WireError
from topics.pipeline import Policy
from topics.records.reports import Text, Version
from topics.records.rollout import Rollout

WEIGHTS, POLICY = "weights", "policy"
"""What the weighting agent swaps, named like a component."""

AUDIT_KEPT = 1000
"""So many entries of the audit trail stay."""

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Action = Literal["promote", "rollback", "shadow", "canary", "end-challenge", "switch"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class VersionRef(_Record):
    """A version of a component's model in the registry."""

    version: Version
    digest: Digest


class Challenger(VersionRef):
    """A version that runs beside the champion, on the same rows."""

    share: Share = 0
    """Share of the keys that it decides for: 0 for a shadow, more for a canary."""


class Deployment(_Record):
    """What the workers of a component shall run."""

    champion: VersionRef | None = None
    """None for the version that the registry and the pipeline file give."""
    previous: VersionRef | None = None
    """What a rollback goes back to, and a worker that starts when the champion cannot be used."""
    challenger: Challenger | None = None


class WeightsDeployment(_Record):
    """Which learned weights are in use."""

    version: Version
    previous: Version | None = None


class PolicyDeployment(_Record):
    """Which thresholds are in use."""

    policy: Policy
    previous: Policy | None = None


class Evidence(_Record):
    """What a promotion was allowed by: a condition that was true of recorded events."""

    condition: Text
    """As it was given, such as `changed <= 0.5% and cost <= 0`."""
    since: Text
    """From which event time on the events were (RFC 3339)."""
    offsets: Annotated[dict[int, tuple[int, int]], Field(max_length=100_000)]
    """Partition → from which source offset on, and before which."""
    decided: Annotated[int, Field(ge=0)]
    """How many there were."""
    outcomes: Annotated[int, Field(ge=0)]
    """Of how many it is known what came true."""
    figures: Annotated[dict[Text, float], Field(max_length=100)]
    """Those that the condition names."""
    report: Digest
    """Of the report that has all figures."""


class AuditEntry(_Record):
    """Who did what, when and why."""

    action: Action
    what: Text
    """The component, `weights` or `policy`; of a switch, the pipeline that is in service now."""
    version: Version | None
    """The version that it is about: now in service, or challenging."""
    before: Version | None
    """The version that was in service."""
    by: Text
    reason: Text
    at: str
    evidence: Evidence | None = None
    """Given where a gate was passed. Readers from before there was any pass over such an entry."""


@dataclass(slots=True)
class ControlState:
    """What the control topic says, record by record."""

    deployments: dict[str, Deployment] = field(default_factory=dict)
    weights: WeightsDeployment | None = None
    policy: PolicyDeployment | None = None
    rollout: Rollout | None = None
    trail: dict[str, AuditEntry] = field(default_factory=dict)
    """Key → who did what, the oldest first."""

    @property
    def audit(self) -> list[AuditEntry]:
        """Who did what, the oldest first."""
        return list(self.trail.values())

    def last_change(self, what: str) -> AuditEntry | None:
        """Who has changed *what* last; None where nobody has."""
        return next((entry for entry in reversed(self.audit) if entry.what == what), None)

    def old_audit(self) -> list[str]:
        """Keys of entries that are to be deleted when another is written."""
        return list(self.trail)[: max(0, len(self.trail) + 1 - AUDIT_KEPT)]

    def deployment(self, component: str) -> Deployment:
        """What *component* shall run."""
        return self.deployments.get(component, Deployment())

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Take in one record, in order. WireError for one that is not of this topic."""
        try:
            text = (key or b"").decode()
            kind, *names = text.split("/")
            if value is None:
                self._delete(text, kind, names)
            else:
                self._take(text, kind, names, value)
        except (ValidationError, ValueError) as exc:
            reason = str(exc).splitlines()[0]
            raise WireError(f"not a record of the control topic: {reason}") from exc

    def _delete(self, key: str, kind: str, names: list[str]) -> None:
        match kind, names:
            case "deploy", [component]:
                self.deployments.pop(component, None)
            case "weights", []:
                self.weights = None
            case "policy", []:
                self.policy = None
            case "rollout", []:
                self.rollout = None
            case "audit", [_]:
                self.trail.pop(key, None)

    def _take(self, key: str, kind: str, names: list[str], value: bytes) -> None:
        match kind, names:
            case "deploy", [component]:
                self.deployments[component] = Deployment.model_validate_json(value)
            case "weights", []:
                self.weights = WeightsDeployment.model_validate_json(value)
            case "policy", []:
                self.policy = PolicyDeployment.model_validate_json(value)
            case "rollout", []:
                self.rollout = Rollout.model_validate_json(value)
            case "audit", [_]:
                self.trail[key] = AuditEntry.model_validate_json(value)
            case _:
                raise ValueError(f"nothing here has the key {kind[:40]!r}")


def deploy_key(component: str) -> str:
    """The key of a component's Deployment."""
    return f"deploy/{component}"


def audit_key(entry: AuditEntry, token: str) -> str:
    """The key of an AuditEntry: one that no other has, or compaction would drop one of them."""
    return f"audit/{entry.at}-{token}"
