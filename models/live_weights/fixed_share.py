"""Fixed-Share: weights learned from outcomes, for a world in which the best weights change.

The learner believes in each of E experts (weight vectors, `experts`) to a degree p, Σp = 1. Its
weights are Σ p·α, so its score is Σ p·y of the experts' scores: a mixture, of which the log loss is
1-mixable without any other substitution. Of each period's outcomes, with L the log loss of an
expert on them,

    p ← p·exp(-rate·L) / Σ …        what has said better of what came true counts more
    p ← (1 - share)·p + share·prior   whatever is best now may be another expert soon

as in Herbster & Warmuth, *Tracking the Best Expert*, Machine Learning 32 (1998), where the share
goes to all alike; to a prior: Bousquet & Warmuth, *Tracking a Small Set of Experts by Mixing Past
Posteriors*, J. Mach. Learn. Res. 3 (2002), "Fixed-Share to start vector".

**Bound.** For every sequence of experts over T periods with k switches, with rate ≤ 1, periods of
one outcome, each learned before the next score:

    loss ≤ loss of the sequence + (1/rate)·[(k+1)·ln(1/π) + k·ln(1/share) + (T-1-k)·ln(1/(1-share))]

with π the least prior of an expert in it (`regret_bound`; the prior is ½ of the trained weights).
It follows as p is the posterior of a Markov chain of experts, and m^rate is concave. With B
outcomes a period it holds for rate ≤ 1/B: exp(-rate·loss) of a period is then a geometric mean,
which is concave too. When outcomes come d periods late, it holds for d+1 learners that take turns,
each with T/(d+1) periods, so with d+1 times the last term (Weinberger & Ordentlich, *On Delayed
Prediction of Individual Sequences*, IEEE Trans. Inf. Theory 48 (2002)). Here one learner learns
from all: it is sooner at what it learns; what delay costs is measured (tests/benchmarks/
learned_weights.py), not promised.

**Missing stages.** The score of a row that lacks stages is that of the others, renormalised. With A
the weight that an expert has on the stages that are present, it is Σ p·A·y / Σ p·A: an expert is
awake as far as A. For the rest it is asleep, and says what the score said that decided the row:
specialists of Freund, Schapire, Singer & Warmuth, *Using and Combining Predictors That Specialize*,
STOC 1997, awake by degrees as in Blum & Mansour, *From External to Internal Regret*, J. Mach.
Learn. Res. 8 (2007). Where the weights learned are those that decide, that comes to the composed
score itself: what is learned is learned for the very function that decides (`models.weighting`).

**Order.** What an outcome costs an expert depends on its row alone, and is added in whole quanta of
2⁻³² nats: a period's state is the same to the bit in whatever batches and order its outcomes come.
An outcome that replaces another one (sign -1 for the old, 1 for the new) moves the sums of the
period in which that is known. An outcome of a period that is closed counts in the one that is open.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.arrays import Bools, Floats32, Floats64, Ints
from models.live_weights.experts import Experts
from models.live_weights.weight_bounds import bounded
from models.weighting import CLIP

MOST_ROW_WEIGHT = 20.0
"""One outcome counts as so many at most, however small its propensity: it must not turn it all."""
MOST_STEPS = 4096
"""Weights of so many closed periods are remembered, to say what a late outcome would have cost."""
_QUANTUM = 2.0**-32
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class LearningRate:
    """How fast is learned, and how far."""

    rate: float
    """Of log loss in nats, per outcome: 0 < rate ≤ 1."""
    share: float
    """Of the belief that goes back to the prior after each period: 0 < share < 1."""
    floor: float
    """Least weight of a stage that has one in the trained weights."""
    cap: float
    """Largest weight of any stage."""
    period_ms: int
    """Outcomes that become known within such a time are learned together."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRows:
    """N decided rows, and what came true of them."""

    signals: Floats32
    """(N, S) in [0, 1]."""
    present: Bools
    """(N, S)."""
    used: Floats64
    """The weights that decided, renormalised (N, S)."""
    labels: Bools
    """(N,)."""
    row_weights: Floats64
    """How many events each stands for (N,), such as 1 / propensity; MOST_ROW_WEIGHT at most."""
    decided_ms: Ints
    """When the row was decided (N,), in milliseconds since 1970."""
    known_ms: Ints
    """When its outcome became known (N,)."""
    signs: Ints
    """1 for an outcome that counts from now on, -1 for one that does not any more (N,)."""


@dataclass(slots=True)
class LossSums:
    """Sums over outcomes, each weighed: divided by `weight` they are mean log losses in nats."""

    rows: int = 0
    weight: float = 0.0
    decided: float = 0.0
    """Of the weights that decided."""
    learned: float = 0.0
    """Of the weights that were learned by the time of each decision."""
    trained: float = 0.0
    """Of the trained weights."""


class _Period(BaseModel):
    losses: list[int]
    """By expert, in quanta of 2⁻³² nats."""
    rows: int


class _State(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Annotated[int, Field(ge=_FORMAT, le=_FORMAT)] = _FORMAT
    trained: list[float]
    belief: list[float]
    closed_to: int
    periods: dict[int, _Period]
    steps: list[tuple[int, list[float]]]
    sums: tuple[int, float, float, float, float]


@dataclass(slots=True)
class FixedShare:
    """A learner, from the trained weights on."""

    trained: Floats64
    """(S,)."""
    speed: LearningRate
    sums: LossSums = field(default_factory=LossSums)
    _experts: Experts = field(init=False)
    _belief: Floats64 = field(init=False)
    """(E,)."""
    _periods: dict[int, _Period] = field(default_factory=dict)
    """Those that are open: period → what its outcomes have cost each expert."""
    _closed_to: int = 0
    """Periods before this one are closed."""
    _step_ms: deque[int] = field(default_factory=lambda: deque(maxlen=MOST_STEPS))
    _steps: deque[Floats64] = field(default_factory=lambda: deque(maxlen=MOST_STEPS))

    def __post_init__(self) -> None:
        self._experts = Experts.of(self.trained)
        self._belief = self._experts.prior.copy()

    @property
    def weights(self) -> Floats64:
        """What is learned so far (S,): sums to 1, within floor and cap.

        Until the first period is closed it is the trained weights to the bit.
        """
        return self._steps[-1] if self._steps else self.trained

    @property
    def belief(self) -> Floats64:
        """The belief in each expert (E,), the trained weights first."""
        return self._belief

    def observe(self, rows: LabelledRows) -> None:
        """Take in outcomes, in whatever order; they are learned when their period is closed."""
        if not len(rows.labels):
            return
        clipped = np.clip(rows.signals.astype(np.float64), CLIP, 1 - CLIP)
        likelihood = np.where(rows.labels[:, None], clipped, 1 - clipped)
        likelihood[~rows.present] = 0.0
        some = rows.present.any(axis=1)
        counts = rows.signs.astype(np.float64) * np.minimum(rows.row_weights, MOST_ROW_WEIGHT)
        counts[~some] = 0.0
        decided = _likelihoods(rows.used, likelihood, rows.present)
        losses = _expert_losses(self._experts.alpha, decided, likelihood, rows.present)
        quanta = np.rint(losses * counts[:, None] / _QUANTUM).astype(np.int64)
        period_ms = self.speed.period_ms
        periods = np.maximum(rows.known_ms // period_ms, self._closed_to)
        for period in np.unique(periods[some]).tolist():
            of_period = periods == period
            before = self._periods.get(period) or _Period(losses=[0] * len(self._belief), rows=0)
            added = quanta[of_period].sum(axis=0).tolist()
            self._periods[period] = _Period(
                losses=[a + b for a, b in zip(before.losses, added, strict=True)],
                rows=before.rows + int(rows.signs[of_period].sum()),
            )
        self._count(rows, likelihood, counts)

    def close(self, now_ms: int) -> int:
        """Learn from the periods that have ended by *now_ms*, in order; how many there were."""
        ended = sorted(at for at in self._periods if (at + 1) * self.speed.period_ms <= now_ms)
        for at in ended:
            self._learn(self._periods.pop(at), (at + 1) * self.speed.period_ms)
            self._closed_to = at + 1
        return len(ended)

    def _learn(self, period: _Period, at_ms: int) -> None:
        exponents = -self.speed.rate * np.array(period.losses, np.float64) * _QUANTUM
        posterior = self._belief * np.exp(exponents - exponents.max())
        posterior /= posterior.sum()
        self._belief = (1 - self.speed.share) * posterior + self.speed.share * self._experts.prior
        mixture = self._belief @ self._experts.alpha
        speed = self.speed
        self._steps.append(bounded(mixture, self.trained > 0, speed.floor, speed.cap))
        self._step_ms.append(at_ms)

    def _count(self, rows: LabelledRows, likelihood: Floats64, counts: Floats64) -> None:
        """Add what rows have cost those who decided, what was learned by then, and the trained."""
        sums, present = self.sums, rows.present
        at = np.searchsorted(np.array(self._step_ms), rows.decided_ms, "right")
        oldest, newest = int(at.min()), int(at.max())
        vectors = np.array([self._step(each) for each in range(oldest, newest + 1)])
        sums.rows += int(rows.signs.sum())
        sums.weight += float(counts.sum())
        sums.decided += float(counts @ -np.log(_likelihoods(rows.used, likelihood, present)))
        sums.learned += float(
            counts @ -np.log(_likelihoods(vectors[at - oldest], likelihood, present))
        )
        trained = np.broadcast_to(self.trained, present.shape)
        sums.trained += float(counts @ -np.log(_likelihoods(trained, likelihood, present)))

    def _step(self, at: int) -> Floats64:
        """The weights (S,) after so many of the periods that are remembered."""
        return self.trained if at == 0 else self._steps[at - 1]

    def to_bytes(self) -> bytes:
        """All that is known, as JSON: the same bytes for the same state."""
        sums = self.sums
        return _State(
            trained=self.trained.tolist(), belief=self._belief.tolist(), closed_to=self._closed_to,
            periods=dict(sorted(self._periods.items())),
            steps=[
                (ms, alpha.tolist())
                for ms, alpha in zip(self._step_ms, self._steps, strict=True)
            ],
            sums=(sums.rows, sums.weight, sums.decided, sums.learned, sums.trained),
        ).model_dump_json().encode()  # fmt: skip

    @classmethod
    def from_bytes(cls, content: bytes, speed: LearningRate) -> Self:
        """What `to_bytes` wrote, to be learned on from. ValueError for anything else."""
        try:
            state = _State.model_validate_json(content)
        except ValidationError as exc:
            raise ValueError(f"no state of learned weights: {str(exc).splitlines()[0]}") from exc
        learner = cls(np.array(state.trained), speed, LossSums(*state.sums))
        experts, stages = learner._experts.alpha.shape
        shapes = {len(state.belief), *(len(period.losses) for period in state.periods.values())}
        if shapes != {experts} or any(len(alpha) != stages for _, alpha in state.steps):
            raise ValueError("no state of learned weights: its arrays do not fit each other")
        learner._belief = np.array(state.belief)
        learner._periods = dict(state.periods)
        learner._closed_to = state.closed_to
        for ms, alpha in state.steps:
            learner._step_ms.append(ms)
            learner._steps.append(np.array(alpha))
        return learner


def _expert_losses(
    alpha: Floats64, decided: Floats64, likelihood: Floats64, present: Bools
) -> Floats64:
    """What each of N rows costs each of E experts (N, E), in nats.

    As far as an expert is asleep it gives the label what the *decided* score did (N,).
    Stage by stage, so that a row's bits do not depend on its batch.
    """
    said = np.zeros((len(likelihood), len(alpha)))
    asleep = np.zeros_like(said)
    for stage in range(alpha.shape[1]):
        said += likelihood[:, stage, None] * alpha[:, stage]
        asleep += ~present[:, stage, None] * alpha[:, stage]
    losses: Floats64 = -np.log(np.clip(said + asleep * decided[:, None], CLIP, 1.0))
    return losses


def _likelihoods(weights: Floats64, likelihood: Floats64, present: Bools) -> Floats64:
    """What a score by *weights* (N, S) gives to the label (N,): renormalised, 1 without stages.

    Stages that are present without any weight weigh the same, as in `models.weighting`.
    """
    kept = np.where(present, weights, 0.0)
    none = kept.sum(axis=1) <= 0
    kept = np.where(none[:, None], present, kept)
    said, mass = np.zeros(len(kept)), np.zeros(len(kept))
    for stage in range(kept.shape[1]):
        said += kept[:, stage] * likelihood[:, stage]
        mass += kept[:, stage]
    return np.where(mass > 0, np.clip(said / np.where(mass > 0, mass, 1.0), CLIP, 1.0), 1.0)


def regret_bound(speed: LearningRate, least_prior: float, periods: int, switches: int) -> float:
    """How much more the learner can lose, in nats, than the best sequence with so many switches.

    For periods of one outcome, or of at most 1/rate, each learned before the next score.

    >>> speed = LearningRate(rate=1.0, share=0.01, floor=0.0, cap=1.0, period_ms=1)
    >>> round(regret_bound(speed, least_prior=0.1, periods=1000, switches=1), 2)
    19.24
    """
    stays = periods - 1 - switches
    cost = (switches + 1) * np.log(1 / least_prior) + switches * np.log(1 / speed.share)
    cost += stays * np.log(1 / (1 - speed.share))
    return float(cost / speed.rate)
