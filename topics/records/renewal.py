"""Renewals of models, on `<pipeline>.renewals`: who trains, what was done, and what came of it.

All records are on partition 0, so everybody reads them in one order, which is the only arbiter:

    claim/<term>/<trainer>           a trainer wants to be the one that renews
    sign/<trainer>                   it lives, or has resigned
    request/<name>                   a person wants a renewal, or the end of the one that runs
    trigger/<renewal>/<term>         a renewal has begun, and why
    step/<renewal>/<term>/<number>   a step of it has begun, was done, or has failed
    verdict/<renewal>/<term>         what it has come to

The topic is compacted, and no two records but signs of one trainer share a key: nothing of what was
decided by the order goes. Of *terms* there is one at a time: the first claim of the next one in the
log has it, and what a trainer of an earlier one writes afterwards is void. Who claims has waited,
by a clock of its own, until the one before has given no sign for a lease; so records name no time
that anything depends on.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from topics.errors import WireError
from topics.records.reports import Text, Version

StepName = Literal[
    "dataset", "train", "optimise", "evaluate", "replay", "shadow", "compare", "weights"
]
STEPS: tuple[StepName, ...] = (
    "dataset", "train", "optimise", "evaluate", "replay", "shadow", "compare", "weights",
)  # fmt: skip
"""In their order."""
VerdictName = Literal["promoted", "partly", "lost", "undecided", "failed", "stopped"]
"""promoted: all challengers; partly: some; lost: they were worse, or the gate refused them;
undecided: not better within the time that they have; failed: a step, again and again."""

_Number = Annotated[int, Field(ge=1, lt=2**31)]
_Millis = Annotated[int, Field(ge=-(2**53), le=2**53)]
_Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_MOST = 1000


class _Record(BaseModel):
    # Readers of an earlier version pass over what they do not know.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class TrainerClaim(_Record):
    """A trainer wants the next term."""

    kind: Literal["claim"] = "claim"
    term: _Number
    trainer: Text
    at: Text


class TrainerSign(_Record):
    """A trainer lives; or it has ended, and waits for nobody."""

    kind: Literal["sign"] = "sign"
    term: _Number
    trainer: Text
    resigned: bool = False
    at: Text


class RenewalRequest(_Record):
    """What a person wants."""

    kind: Literal["request"] = "request"
    name: Text
    action: Literal["renew", "stop"]
    by: Text
    reason: Text = ""
    at: Text


class RenewalTriggered(_Record):
    """A renewal has begun."""

    kind: Literal["trigger"] = "trigger"
    renewal: _Number
    term: _Number
    trigger: Literal["drift", "quality", "schedule", "request"]
    reason: Text
    request: Text = ""
    """The name of the request that it answers."""
    event_ms: _Millis
    """The event clock then."""
    at: Text


class Contest(_Record):
    """How a challenger has fared."""

    champion: Version | None = None
    challenger: Version
    verdict: Literal["better", "worse", "undecided", "refused"]
    """refused: it was given up before outcomes could judge it, or by the gate afterwards."""
    reason: Text
    rows: Annotated[int, Field(ge=0)] = 0
    labelled: Annotated[int, Field(ge=0)] = 0


class RenewalStep(_Record):
    """A step of a renewal has begun, was done, or has failed."""

    kind: Literal["step"] = "step"
    renewal: _Number
    term: _Number
    number: _Number
    """Of this record among those of its renewal and term."""
    step: StepName
    state: Literal["begun", "noted", "done", "failed"]
    """noted: it goes on, and who takes it up need not find out again what the record says."""
    ends: VerdictName | None = None
    """Of a step that is done: no other follows, and the renewal has come to this."""
    reason: Text = ""
    offsets: Annotated[dict[int, tuple[int, int]], Field(max_length=100_000)] = {}
    """Of the data set: partition → from which source offset on, and before which."""
    digest: _Digest | None = None
    """Of the data set's file."""
    versions: Annotated[dict[Text, Version], Field(max_length=_MOST)] = {}
    """Component → the version that challenges from this step on."""
    weights: Version | None = None
    """Weights learned for these."""
    contests: Annotated[dict[Text, Contest], Field(max_length=_MOST)] = {}
    figures: Annotated[dict[Text, float], Field(max_length=_MOST)] = {}
    event_ms: _Millis = 0
    """The event clock then."""
    at: Text


class RenewalVerdict(_Record):
    """A renewal has ended."""

    kind: Literal["verdict"] = "verdict"
    renewal: _Number
    term: _Number
    verdict: VerdictName
    reason: Text
    event_ms: _Millis
    at: Text


RenewalRecord = (
    TrainerClaim | TrainerSign | RenewalRequest | RenewalTriggered | RenewalStep | RenewalVerdict
)
_RECORD: TypeAdapter[RenewalRecord] = TypeAdapter(
    Annotated[RenewalRecord, Field(discriminator="kind")]
)


def renewal_record(key: bytes | None, value: bytes | None) -> RenewalRecord | None:
    """What a record says; None for one that deletes its key. Raises WireError."""
    if value is None:
        return None
    try:
        record = _RECORD.validate_json(value)
    except ValidationError as exc:
        reason = str(exc).splitlines()[0]
        raise WireError(f"not a record of renewals: {reason}") from exc
    if (key or b"").decode(errors="replace") != renewal_key(record):
        raise WireError("a record of renewals under the key of another")
    return record


def renewal_key(record: RenewalRecord) -> str:
    """The key of a record."""
    match record:
        case TrainerClaim():
            return f"claim/{record.term}/{record.trainer}"
        case TrainerSign():
            return f"sign/{record.trainer}"
        case RenewalRequest():
            return f"request/{record.name}"
        case RenewalTriggered():
            return f"trigger/{record.renewal}/{record.term}"
        case RenewalStep():
            return f"step/{record.renewal}/{record.term}/{record.number}"
        case RenewalVerdict():
            return f"verdict/{record.renewal}/{record.term}"
