"""What would have been decided: recorded decisions under other weights, thresholds or models.

Computed again is only what lies downstream of the change, by the code that decides: another policy
takes the recorded scores, other weights the recorded signals, another model the recorded outputs
that it reads (`model_rerun`). What a decision lacked it lacks again. What was decided by lateness
stays as it is; so do dead letters, which have no signals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.replay.decision_columns import DecisionColumns, PolicyRef
from agents.replay.errors import PolicyDiffers, PolicyUnknown, WeightsDiffer
from agents.weigh import Scorer, Weights
from models.arrays import Bools, Floats32, Floats64, Ints
from topics.pipeline import Pipeline, Policy, Topology

NO_QUORUM = "dead letter"
"""What becomes of a row whose stages have no quorum under other weights."""


@dataclass(frozen=True, slots=True)
class RecordedRules:
    """The weights and policies that decisions name, by version."""

    weights: Callable[[int], Weights]
    """Raises RegistryError."""
    policy: Callable[[PolicyRef], Policy | None]
    """None for one that nobody knows. Raises RegistryError."""


@dataclass(frozen=True, slots=True)
class StageSignals:
    """What N rows are weighed of: signals (N, S), and which of them there are (N, S)."""

    signals: Floats32
    present: Bools


@dataclass(frozen=True, slots=True)
class AlteredDecisions:
    """N decisions before and after a change."""

    names: Sequence[str]
    """All decisions, those of the policies and those that were taken; NO_QUORUM is the last."""
    before: Ints
    """As recorded, by its place in `names` (N,)."""
    after: Ints
    scores_before: Floats64
    """(N,); NaN where there is none."""
    scores_after: Floats64

    @property
    def changed(self) -> Bools:
        """(N,)."""
        return np.asarray(self.before != self.after)

    @property
    def decided(self) -> Bools:
        """Which rows end in a decision after the change, too (N,)."""
        return np.asarray(self.after != len(self.names) - 1)


class AlteredRule:
    """Decides recorded events again, with other weights, another policy, or other signals."""

    def __init__(
        self, pipeline: Pipeline, rules: RecordedRules, *,
        weights: Weights | None = None, policy: Policy | None = None,
    ) -> None:  # fmt: skip
        self._pipeline, self._rules = pipeline, rules
        self._weights, self._policy = weights, policy

    def decide(
        self, recorded: DecisionColumns, signals: StageSignals | None = None
    ) -> AlteredDecisions:
        """The decisions of *recorded* events after the change; *signals* are those of other models.

        Raises PolicyUnknown and PolicyDiffers where what decided then is not known, WeightsDiffer
        likewise, RegistryError for weights that are gone.
        """
        scored = ~recorded.late
        scores, quorum = self._scores(recorded, signals, scored)
        policies = self._policies(recorded, scored)
        names = [*dict.fromkeys([
            name
            for policy in (*policies.values(), self._pipeline.policy)
            for name in (policy.otherwise, *policy.thresholds)
        ] + [*recorded.names])]  # fmt: skip
        place = {name: at for at, name in enumerate(names)}
        before = np.array([place[name] for name in recorded.names], np.int64)[recorded.decided]
        after = before.copy()
        for version, policy in policies.items():
            rows = scored if self._policy else scored & (recorded.policy == version)
            after[rows] = _decided(policy, scores[rows], place)
        after[~quorum] = len(names)
        return AlteredDecisions(
            [*names, NO_QUORUM], before, after, recorded.scores, np.where(quorum, scores, np.nan)
        )

    def _policies(self, recorded: DecisionColumns, scored: Bools) -> dict[int, Policy]:
        """The policies to decide by, each by its place in those that are recorded."""
        if self._policy is not None:
            return {0: self._policy}
        return {
            at: self._recorded_policy(recorded, scored & (recorded.policy == at), at)
            for at in np.unique(recorded.policy[scored]).tolist()
        }

    def _scores(
        self, recorded: DecisionColumns, signals: StageSignals | None, scored: Bools
    ) -> tuple[Floats64, Bools]:
        """The scores (N,), and which rows have enough stages for a decision (N,)."""
        scores, quorum = recorded.scores, np.ones(len(recorded), np.bool_)
        if self._weights is None and signals is None:
            return scores, quorum
        scores = scores.copy()
        of_rows = signals or StageSignals(recorded.signals, recorded.present)
        versions = np.unique(recorded.weights[scored]).tolist() if self._weights is None else [0]
        for version in versions:
            of_version = True if self._weights is not None else recorded.weights == version
            rows = np.flatnonzero(scored & of_version)
            weights = self._weights or self._rules.weights(version)
            scorer = Scorer(self._pipeline, weights)
            if self._weights is None:
                said = scorer.weigh(recorded.signals[rows], recorded.present[rows]).scores
                self._check_weights(recorded, rows, version, said)
            present = of_rows.present[rows]
            scores[rows] = scorer.weigh(of_rows.signals[rows], present).scores
            quorum[rows] = scorer.quorum(present)
        return scores, quorum

    def _recorded_policy(self, recorded: DecisionColumns, rows: Bools, place: int) -> Policy:
        """One of the recorded policies, once it decides *rows* as they were decided."""
        ref, at = recorded.policies[place], np.flatnonzero(rows)
        policy = self._rules.policy(ref)
        if policy is None:
            raise PolicyUnknown(ref.name, len(at))
        names = dict.fromkeys([*recorded.names, policy.otherwise, *policy.thresholds])
        said = _decided(policy, recorded.scores[at], {name: n for n, name in enumerate(names)})
        wrong = np.flatnonzero(said != recorded.decided[at])
        if len(wrong):
            first = int(at[wrong[0]])
            raise PolicyDiffers(
                ref.name, recorded.source(self._events, first),
                recorded.names[recorded.decided[first]], [*names][said[wrong[0]]],
            )  # fmt: skip
        return policy

    def _check_weights(
        self, recorded: DecisionColumns, rows: Ints, version: int, said: Floats64
    ) -> None:
        """Raise WeightsDiffer unless the weights give the recorded scores, to the bit."""
        wrong = np.flatnonzero(said != recorded.scores[rows])
        if len(wrong):
            first = int(rows[wrong[0]])
            raise WeightsDiffer(
                version, recorded.source(self._events, first),
                float(recorded.scores[first]), float(said[wrong[0]]),
            )  # fmt: skip

    @property
    def _events(self) -> str:
        return Topology.of(self._pipeline).events


def _decided(policy: Policy, scores: Floats64, place: Mapping[str, int]) -> Ints:
    """What *policy* decides at scores (N,), each by its *place*."""
    decisions = np.array([place[name] for name in (policy.otherwise, *policy.thresholds)])
    reached = np.searchsorted([*policy.thresholds.values()], scores, "right")
    decided: Ints = decisions[reached]
    return decided
