"""Champion and challenger on the same events: what both say, what came true, who is better.

An outcome counts by the events that it stands for: where `policy: explore:` takes some decisions
otherwise, by 1 / propensity (`models.report.selective_labels`).
Contributions add up, so a decision's score under the other model is exact: y' = y + α·(s' - s).
(What later components made of the other output is not known: nobody has run them on it.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from models.report.selective_labels import outcome_weight
from models.report.sequential_test import MOST_WEIGHT, SequentialTest, Verdict
from topics.pipeline import Policy
from topics.records import Decision, StageBatch

K = TypeVar("K")
V = TypeVar("V")
Doubles = NDArray[np.float64]
Coordinates = tuple[int, int]
"""Source partition and offset."""

_MOST_WAITING = 1_000_000

Judged = Literal["score", "signal"]


class ScoreQuality(BaseModel):
    """How good one model's scores, or signals, are on labelled events."""

    model_config = ConfigDict(frozen=True)

    brier: float
    """Mean squared distance from the outcome."""
    auc: float | None = None
    average_precision: float | None = None
    """None while all outcomes are the same, and without the extra `train`."""


class Comparison(BaseModel):
    """Champion and challenger so far."""

    model_config = ConfigDict(frozen=True)

    component: str
    champion: str
    challenger: str
    rows: int
    """Events that both have a signal for and that are decided."""
    canary_rows: int
    """Those of them that the challenger decided."""
    failures: int
    """Rows that the champion has an output for and the challenger has none."""
    mean_difference: float
    """Of the signals, absolute."""
    max_difference: float
    flips: dict[str, int]
    """"approve → review": decisions that would be (or were) another under the challenger."""
    on: Judged
    """What is held against outcomes: the decisions' scores, or the component's signals."""
    labelled: int
    positives: int
    explored: int = 0
    """Of the labelled ones, taken by exploration: each counts 1 / propensity times."""
    quality: dict[str, ScoreQuality]
    alpha: float
    p_better: float
    p_worse: float
    verdict: Verdict
    """By a sequential test on Brier losses (`models.report.sequential_test`); worse for many
    failures."""
    reason: str
    """The verdict in words."""

    @property
    def agreement(self) -> float:
        """Share of events that both lead to the same decision; 1 for none."""
        return 1 - sum(self.flips.values()) / self.rows if self.rows else 1.0


class _OtherOutput(NamedTuple):
    """What the model that did not decide says of a row."""

    signal: float | None
    """None when it has no output."""
    of_champion: bool


class _DecidingOutput(NamedTuple):
    """What of a decision is needed here: it waits in large numbers."""

    event_id: str
    score: float
    weight: float
    signal: float
    by_champion: bool
    stands_for: float
    """So many events its outcome stands for."""


class ScorePair(NamedTuple):
    """Scores of one event under both models, or both models' signals."""

    champion: float
    challenger: float
    stands_for: float = 1.0
    """So many events its outcome stands for."""


@dataclass(slots=True)
class Comparer:
    """Puts together what shadow topic, decisions and outcomes say, in any order."""

    component: str
    champion: str
    """component@version of each."""
    challenger: str
    policy: Policy
    alpha: float = 0.05
    on: Judged = "score"
    max_failures: int = 100
    """A challenger that has no output for more rows is worse, whatever its losses are."""
    canary_rows: int = 0
    failures: int = 0
    rows: int = 0
    _sum_of_differences: float = 0.0
    _largest_difference: float = 0.0
    _other_outputs: dict[Coordinates, _OtherOutput] = field(default_factory=dict)
    _deciding_outputs: dict[Coordinates, _DecidingOutput] = field(default_factory=dict)
    _scores: dict[str, ScorePair] = field(default_factory=dict)
    """By event id, until the outcome comes."""
    _outcomes: dict[str, bool] = field(default_factory=dict)
    _flips: Counter[str] = field(default_factory=Counter)
    _labels: list[bool] = field(default_factory=list)
    _labelled: list[ScorePair] = field(default_factory=list)
    _test: SequentialTest = field(init=False)
    _tested: int = 0

    def __post_init__(self) -> None:
        explore = self.policy.explore
        most = 1.0 if explore is None else min(1 / explore.share, MOST_WEIGHT)
        self._test = SequentialTest(self.alpha, most)

    def shadowed(self, batch: StageBatch) -> None:
        """Take in a batch of the shadow topic; one of other models is left out."""
        if batch.challenger is None or batch.challenged is None:
            return
        if (batch.model.model, batch.challenger.model) != (self.champion, self.challenger):
            return
        by_challenger = batch.challenged.tolist()
        signals, present = batch.signal.tolist(), batch.present.tolist()
        for row, offset in enumerate(batch.rows.offsets.tolist()):
            at = (batch.partition, offset)
            signal = signals[row] if present[row] else None
            _wait(self._other_outputs, at, _OtherOutput(signal, not by_challenger[row]))
            self._match(at)

    def decided(self, decision: Decision) -> None:
        """Take in a decision; one without a score, or without either model, is left out."""
        contribution = decision.contributions.get(self.component)
        models = (self.champion, self.challenger)
        if contribution is None or contribution.model not in models:
            return
        if decision.score is None:
            return
        at = (decision.source.partition, decision.source.offset)
        by_champion = contribution.model == self.champion
        used = _DecidingOutput(
            decision.event_id, decision.score, contribution.weight, contribution.signal,
            by_champion,
            outcome_weight(explored=decision.explored, propensity=decision.propensity),
        )  # fmt: skip
        _wait(self._deciding_outputs, at, used)
        self._match(at)

    def outcome(self, event_id: str, *, label: bool) -> None:
        """Take in what came true."""
        pair = self._scores.pop(event_id, None)
        if pair is None:
            _wait(self._outcomes, event_id, label)
        else:
            self._label(pair, label=label)

    def _match(self, at: Coordinates) -> None:
        if at not in self._other_outputs or at not in self._deciding_outputs:
            return
        other, deciding = self._other_outputs.pop(at), self._deciding_outputs.pop(at)
        if deciding.by_champion == other.of_champion:
            return  # both halves are of one model: the share was changed in between
        if other.signal is None:
            self.failures += deciding.by_champion
            return
        other_score = deciding.score + deciding.weight * (other.signal - deciding.signal)
        said = (deciding.score, min(max(other_score, 0.0), 1.0)), (deciding.signal, other.signal)
        if other.of_champion:
            said = said[0][::-1], said[1][::-1]
            self.canary_rows += 1
        scores, signals = (ScorePair(*each, deciding.stands_for) for each in said)
        distance = abs(other.signal - deciding.signal)
        self.rows += 1
        self._sum_of_differences += distance
        self._largest_difference = max(self._largest_difference, distance)
        decisions = [self._decision(score) for score in scores[:2]]
        if decisions[0] != decisions[1]:
            self._flips[" → ".join(decisions)] += 1
        pair = scores if self.on == "score" else signals
        label = self._outcomes.pop(deciding.event_id, None)
        if label is None:
            _wait(self._scores, deciding.event_id, pair)
        else:
            self._label(pair, label=label)

    def _decision(self, score: float) -> str:
        reached = [name for name, least in self.policy.thresholds.items() if score >= least]
        return reached[-1] if reached else self.policy.otherwise

    def _label(self, pair: ScorePair, *, label: bool) -> None:
        if not pair.stands_for:  # those that were explored stand for it
            return
        self._labels.append(label)
        self._labelled.append(pair)

    @property
    def labelled(self) -> int:
        """Events that both have a signal for and whose outcome is known, and counts."""
        return len(self._labelled)

    def verdict(self) -> tuple[Verdict, str]:
        """Who is better so far, and that in words."""
        new = np.array(self._labelled[self._tested :], np.float64).reshape(-1, 3)
        labels = np.array(self._labels[self._tested :], np.bool_)
        losses = np.square(new[:, :2] - labels[:, None])
        self._tested = len(self._labelled)
        self._test.add(losses[:, 0], losses[:, 1], new[:, 2])
        return self._verdict()

    def comparison(self) -> Comparison:
        """What can be said so far."""
        verdict, reason = self.verdict()
        scores = np.array(self._labelled, np.float64).reshape(-1, 3)
        labels = np.array(self._labels, np.bool_)
        return Comparison(
            component=self.component, champion=self.champion, challenger=self.challenger,
            rows=self.rows, canary_rows=self.canary_rows, failures=self.failures,
            mean_difference=self._sum_of_differences / max(1, self.rows),
            max_difference=self._largest_difference, flips=dict(self._flips), on=self.on,
            labelled=len(labels), positives=int(labels.sum()),
            explored=int((scores[:, 2] > 1).sum()),
            quality=_qualities(scores, labels), alpha=self.alpha,
            p_better=self._test.p_better, p_worse=self._test.p_worse,
            verdict=verdict, reason=reason,
        )  # fmt: skip

    def _verdict(self) -> tuple[Verdict, str]:
        if self.failures > self.max_failures:
            most = f"more than {self.max_failures} are allowed"
            return "worse", f"{self.challenger} has no output for {self.failures} rows; {most}"
        test = self._test
        known = "not known to be better or worse" if test.verdict == "undecided" else test.verdict
        return test.verdict, (
            f"{self.challenger} is {known} than {self.champion}: sequential test on "
            f"{test.rows:,} outcomes, alpha {test.alpha:g}: p {test.p_better:.2g} against better, "
            f"{test.p_worse:.2g} against worse; Brier loss of {self.on}s lower by {test.gain:.2g}"
        )


def _wait(waiting: dict[K, V], key: K, value: V) -> None:
    """Let one half wait for its other; the one that has waited longest makes room.

    Decisions and outcomes of before the challenge have no other half.
    """
    waiting[key] = value
    if len(waiting) > _MOST_WAITING:
        del waiting[next(iter(waiting))]


def _qualities(scores: Doubles, labels: NDArray[np.bool_]) -> dict[str, ScoreQuality]:
    if not len(labels):
        return {}
    names: Sequence[str] = ("champion", "challenger")
    counts = scores[:, 2]
    return {name: _quality(scores[:, at], labels, counts) for at, name in enumerate(names)}


def _quality(scores: Doubles, labels: NDArray[np.bool_], counts: Doubles) -> ScoreQuality:
    brier = float(np.average(np.square(scores - labels), weights=counts))
    if labels.all() or not labels.any():
        return ScoreQuality(brier=brier)
    try:
        from models.report.quality import ranking
    except ImportError:  # an image that only serves has no scikit-learn
        return ScoreQuality(brier=brier)
    ranks = ranking(labels, scores, None if (counts == 1).all() else counts)
    return ScoreQuality(brier=brier, auc=ranks.auc, average_precision=ranks.average_precision)
