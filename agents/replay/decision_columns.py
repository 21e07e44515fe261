"""Recorded decisions as columns: what a what-if computes with."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Annotated, Literal, NamedTuple, NotRequired

import numpy as np
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic's, before Python 3.12

from agents.replay.errors import OtherStages
from models.arrays import Bools, Floats32, Floats64, Ints
from topics.records import Share, Source

_MISSING = -1.0
"""Where a stage has no signal, which is in [0, 1]."""
_MOST_VERSION = 2**31
_INTEGERS = 9
"""Columns of whole numbers."""
_BY_ROW = ("partitions", "offsets", "signals", "present", "scores", "decided", "late", "redriven",
           "early", "weights", "policy", "explored", "propensity")  # fmt: skip
"""Columns of `DecisionColumns` with a value for each decision."""


class _Signal(TypedDict):
    signal: Share


class _Policy(TypedDict):
    policy: str


class _Place(TypedDict):
    topic: str
    partition: Annotated[int, Field(ge=0, lt=2**31)]
    offset: Annotated[int, Field(ge=0, le=2**62)]


class DecisionFields(TypedDict):
    """What is needed here of a decision record, as `topics.records.Decision` has it.

    That one takes twice the time, which counts where it is a million records.
    """

    event_id: str
    decision: str
    decided_by: NotRequired[Literal["score", "late"]]
    explored: NotRequired[bool]
    instead_of: NotRequired[str | None]
    propensity: NotRequired[Annotated[float, Field(gt=0, le=1)]]
    score: Share | None
    contributions: dict[str, _Signal]
    weights: Annotated[int, Field(ge=0, le=_MOST_VERSION)]
    policy: str
    provenance: NotRequired[_Policy | None]
    early: NotRequired[bool]
    source: _Place


_FIELDS = TypeAdapter(DecisionFields).validator


def decision_fields(value: bytes | None) -> DecisionFields:
    """Those of a record's value. Raises pydantic's ValidationError, which is a ValueError."""
    fields: DecisionFields = _FIELDS.validate_json(value or b"")
    return fields


class PolicyRef(NamedTuple):
    """What a decision says of its policy."""

    name: str
    """pipeline@version."""
    digest: str | None
    """Of its content; None from before decisions named it."""


@dataclass(frozen=True, slots=True)
class DecisionColumns:
    """N decisions and their S weighed stages, as they are recorded."""

    stages: Sequence[str]
    """The weighed stages, in the order of the pipeline file."""
    partitions: Ints
    """Source partitions (N,)."""
    offsets: Ints
    """Source offsets (N,)."""
    ids: Sequence[str]
    """Event ids (N)."""
    signals: Floats32
    """(N, S); 0 where missing."""
    present: Bools
    """Which stages the decision was made of (N, S)."""
    scores: Floats64
    """(N,); NaN for one without a score."""
    names: Sequence[str]
    """Every decision that there is, once."""
    decided: Ints
    """Of each row what the policy says, which is what was taken unless it was explored: its place
    in `names` (N,)."""
    late: Bools
    """Decided by lateness, without a score (N,)."""
    redriven: Bools
    """Decided at a later attempt (N,)."""
    early: Bools
    """Decided without waiting for a source partition that was down (N,)."""
    weights: Ints
    """Version of the weights (N,)."""
    policies: Sequence[PolicyRef]
    """Every policy that was decided by, once."""
    policy: Ints
    """Of each row its place in `policies` (N,)."""
    explored: Bools
    """Taken by chance instead of what the policy says (N,)."""
    propensity: Floats64
    """The probability of what was taken (N,); 1 where exploration does not apply."""

    def __len__(self) -> int:
        return len(self.offsets)

    def firsts(self) -> DecisionColumns:
        """The same with the first decision alone about each event."""
        order = np.lexsort((self.offsets, self.partitions))  # stable: the first of equals is first
        again = (np.diff(self.partitions[order]) == 0) & (np.diff(self.offsets[order]) == 0)
        if not again.any():
            return self
        rows = np.sort(order[np.flatnonzero(~np.append(False, again))])
        columns = {name: getattr(self, name)[rows] for name in _BY_ROW}
        return replace(self, ids=[self.ids[row] for row in rows.tolist()], **columns)

    def source(self, topic: str, row: int) -> Source:
        """The coordinates of a row's event."""
        partition, offset = int(self.partitions[row]), int(self.offsets[row])
        return Source(topic=topic, partition=partition, offset=offset)


class ColumnsBuilder:
    """Takes decisions one by one; `columns` are all of them.

    In typed arrays: a million decisions as Python's numbers would take a gigabyte.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self._stages = stages
        self._integers, self._signals, self._scores = array("q"), array("d"), array("d")
        self._propensities = array("d")
        self._ids: list[str] = []
        self._names: dict[str, int] = {}
        self._policies: dict[PolicyRef, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, decision: DecisionFields, attempt: int) -> None:
        """Take in a decision.

        Raises OtherStages for one of a pipeline file with other stages, ValueError for one that is
        decided by nothing.
        """
        said, source, names = decision["contributions"], decision["source"], self._names
        signals = [said[name]["signal"] if name in said else _MISSING for name in self._stages]
        late, score = decision.get("decided_by") == "late", decision["score"]
        if not late and len(said) != len(signals) - signals.count(_MISSING):
            raise OtherStages(Source(**source), sorted(said), self._stages)
        if late != (score is None):
            raise ValueError("a decision by score without one, or the reverse")
        by_policy = decision.get("instead_of") or decision["decision"]
        provenance, policies = decision.get("provenance"), self._policies
        policy = PolicyRef(decision["policy"], None if provenance is None else provenance["policy"])
        self._integers.extend((
            source["partition"], source["offset"],
            names.setdefault(by_policy, len(names)), late, attempt > 1,
            decision.get("early", False), decision["weights"],
            policies.setdefault(policy, len(policies)), decision.get("explored", False),
        ))  # fmt: skip
        self._signals.extend(signals)
        self._scores.append(nan if score is None else score)
        self._propensities.append(decision.get("propensity", 1.0))
        self._ids.append(decision["event_id"])

    def columns(self) -> DecisionColumns:
        """All that was taken in."""
        rows = np.array(self._integers, np.int64).reshape(-1, _INTEGERS).T
        signals = np.array(self._signals, np.float64).reshape(-1, len(self._stages))
        present = signals != _MISSING
        return DecisionColumns(
            stages=self._stages, partitions=rows[0], offsets=rows[1], ids=self._ids,
            signals=np.where(present, signals, 0).astype(np.float32), present=present,
            scores=np.array(self._scores, np.float64), names=[*self._names], decided=rows[2],
            late=rows[3].astype(np.bool_), redriven=rows[4].astype(np.bool_),
            early=rows[5].astype(np.bool_), weights=rows[6], policies=[*self._policies],
            policy=rows[7], explored=rows[8].astype(np.bool_),
            propensity=np.array(self._propensities, np.float64),
        )  # fmt: skip
