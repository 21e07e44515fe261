"""What the weighting agent decides by: weights and policy, replaced whole between two batches.

A rule says which joined rows end in a decision, with what score, and why the others cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.components import VersionStarts
from agents.join import ERRORS, JoinedRows
from agents.weigh.decision_records import DecisionWriter, Weights
from models.arrays import Floats32
from models.onnx.weighed_models import DigestsByComponent
from models.registry import digest_of
from models.weighting import WeightedScores, combine
from topics.pipeline import Pipeline, PipelineFile, Policy
from topics.records import Bools, Failure, Ints, Provenance

MISSING_BECAUSE = ("failed", *ERRORS)
"""Why a decision lacks a stage, as decision records say."""
_EPSILON = 1e-9
"""A quorum of 0.3 is reached by weights of 0.1 and 0.2."""


@dataclass(frozen=True, slots=True)
class RowScores:
    """About N joined rows and their S weighed stages."""

    present: Bools
    """Which stages have an output (N, S)."""
    decidable: Bools
    """Which rows have what a decision needs (N,); the others are dead."""
    fallback: Bools
    """Which of them are late, and get the pipeline file's decision instead of a score (N,)."""
    weighed: WeightedScores


class Scorer:
    """Weighs joined rows as the pipeline file says."""

    def __init__(self, pipeline: Pipeline, weights: Weights) -> None:
        weighting = pipeline.weighting
        self._alpha = np.array([weights.values[name] for name in weighting.inputs])
        self._fail_incomplete = weighting.missing == "fail"
        self._has_fallback = weighting.fallback is not None
        self._share = None if weighting.quorum == "labelled" else weighting.quorum
        if self._fail_incomplete:
            self._share = 1.0
        labelled = np.array([pipeline.component(name).is_labelled for name in weighting.inputs])
        # Where nothing that has a weight was fitted on labels, whatever has a weight must do.
        weighty = self._alpha > 0
        self._quorum_stages = labelled & weighty if (labelled & weighty).any() else weighty

    def quorum(self, present: Bools) -> Bools:
        """Which rows (N,) have enough of the stages that are *present* (N, S) for a decision."""
        if self._share is None:
            return np.asarray(present[:, self._quorum_stages].any(axis=1))
        if self._share >= 1:
            return np.asarray(present.all(axis=1))
        return np.asarray(present @ self._alpha >= self._share - _EPSILON)

    def weigh(self, signals: Floats32, present: Bools) -> WeightedScores:
        """The scores of *signals* (N, S), of which those that are *present* (N, S) count."""
        return combine(signals, present, self._alpha)

    def score(self, joined: JoinedRows) -> RowScores:
        """Weigh the rows."""
        stages = list(joined.stages.values())
        present = np.stack([stage.present for stage in stages], axis=1)
        signals = np.stack([stage.signal for stage in stages], axis=1)
        fallback = np.zeros(len(present), np.bool_)
        if self._has_fallback:
            for stage in stages:
                if stage.unanswered == "late":
                    fallback |= ~stage.delivered
            # One that has no quorum by its deadline gets it too, whatever its stages are.
            lacking = ~np.stack([stage.delivered for stage in stages], axis=1).all(axis=1)
            fallback |= lacking & ~self.quorum(present)
            fallback &= joined.rows.offsets <= joined.overdue_to
        decidable = self.quorum(present) | fallback
        return RowScores(present, decidable, fallback, self.weigh(signals, present))


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """Weights and policy, and what they are applied with."""

    weights: Weights
    policy: Policy
    scorer: Scorer
    decisions: DecisionWriter

    @classmethod
    def of(
        cls, file: PipelineFile, weights: Weights, policy: Policy | None = None, *,
        named: bool = True,
    ) -> DecisionRule:  # fmt: skip
        """The rule by which the pipeline of *file* decides; its own policy without another.

        Decisions say all that it consists of, unless that is not to be *named*.
        """
        policy = policy or file.pipeline.policy
        pipeline = file.pipeline.model_copy(update={"policy": policy})
        provenance = Provenance(
            pipeline_file=digest_of(file.content), policy=digest_of(policy.content),
            weights=weights.digest, no_deadline=file.no_deadline,
        )  # fmt: skip
        writer = DecisionWriter(pipeline, weights, provenance if named else None)
        return cls(weights, policy, Scorer(pipeline, weights), writer)

    @property
    def versions(self) -> tuple[int, int]:
        """Of the weights and of the policy."""
        return self.weights.version, self.policy.version


class ActiveDecisionRule:
    """The rule in use. Assigned to by the event loop alone."""

    def __init__(self, rule: DecisionRule) -> None:
        self.rule = rule
        self.starts = VersionStarts[tuple[int, int]]()
        """By the versions of weights and policy: the same weights may hold for more models."""

    def decided(self, rule: DecisionRule, partition: int, first_offset: int) -> None:
        """Rows of a partition have been decided by *rule*."""
        self.starts.written(rule.versions, partition, first_offset)


def rows_of_other_models(joined: JoinedRows, learned_for: DigestsByComponent) -> dict[str, int]:
    """Of each stage, the rows whose output is of a model that the weights were not learned for.

    Weights that name no model of a stage hold for any.
    """
    counts = {}
    for name, stage in joined.stages.items():
        digests = learned_for.get(name)
        if digests is None or all(run.model.digest in digests for run in stage.models):
            continue
        starts = [run.start for run in stage.models] + [len(stage.present)]
        counts[name] = sum(
            int(stage.present[run.start : stop].sum())
            for run, stop in zip(stage.models, starts[1:], strict=True)
            if run.model.digest not in digests
        )
    return counts


def stages_missing(joined: JoinedRows, present: Bools, rows: Ints) -> dict[tuple[str, str], int]:
    """A stage, and why it is missing → of how many of *rows*, which have those *present* (N, S)."""
    counts: dict[tuple[str, str], int] = {}
    for (name, stage), has in zip(joined.stages.items(), present.T, strict=True):
        failed = int((~has & stage.delivered[rows]).sum())
        unanswered = int((~has).sum()) - failed
        counts |= {(name, "failed"): failed, (name, stage.unanswered): unanswered}
    return {why: count for why, count in counts.items() if count}


def causes_of_death(joined: JoinedRows, scores: RowScores, rows: Ints) -> list[Failure]:
    """Why *rows* cannot be decided: the first failure in stage order, or what is missing."""
    failures, names = joined.failures(), list(joined.stages)
    causes: list[Failure] = []
    for row in rows.tolist():
        failure = failures.get(row)
        if failure is None:
            missing = [names[at] for at in np.flatnonzero(~scores.present[row])]
            error = ERRORS[joined.stages[missing[0]].unanswered]
            failure = Failure(row, missing[0], error, f"no output of {', '.join(missing)}")
        causes.append(failure)
    return causes
