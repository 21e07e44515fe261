"""Which of two models is better, asked after every event, without being wrong more often for it.

Testing by betting (Waudby-Smith & Ramdas, *Estimating means of bounded random variables by
betting*, J. R. Stat. Soc. B 86, 2024): somebody who believes that the mean of x is above 0 bets a
share λ of his capital on every x in [-1, 1], which multiplies it by 1 + λ·x. If the mean is not
above 0, his capital is a supermartingale, so the chance that it *ever* reaches 1/α is at most α
(Ville's inequality), however often somebody looks and whatever the distribution is. λ is chosen
from what came before: mean / (variance + mean²), the bet that would have grown fastest. No bet is
for more than 0.9 of the capital, so a verdict needs a total gain of ln(2/α) / 0.9 at least: 4.1
for α = 0.05, which is what four frauds foreseen instead of missed make.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.arrays import Floats64

Verdict = Literal["better", "worse", "undecided"]

MOST_WEIGHT = 20.0
"""One outcome counts as so many at most in a test: a larger bound is slower with all others."""
_MOST = 0.9
"""No bet is for all: one mistake would end the game."""
_PRIOR_ROWS, _PRIOR_VARIANCE = 1.0, 0.25


@dataclass(slots=True)
class _Bettor:
    """Bets that the mean is above 0."""

    prior_variance: float = _PRIOR_VARIANCE
    rows: int = 0
    total: float = 0.0
    squares: float = 0.0
    log_capital: float = 0.0
    log_highest: float = 0.0
    """The most that the capital has ever been."""

    def play(self, x: Floats64) -> None:
        """Bet on each of *x* (N,) in turn."""
        if not len(x):
            return
        before = np.arange(self.rows, self.rows + len(x))
        totals = self.total + np.concatenate([[0.0], x.cumsum()])
        squares = self.squares + np.concatenate([[0.0], np.square(x).cumsum()])
        mean = totals[:-1] / (before + _PRIOR_ROWS)
        square = (squares[:-1] + _PRIOR_ROWS * self.prior_variance) / (before + _PRIOR_ROWS)
        bets = np.clip(mean / square, 0, _MOST)
        capital = self.log_capital + np.log1p(bets * x).cumsum()
        self.rows += len(x)
        self.total, self.squares = float(totals[-1]), float(squares[-1])
        self.log_capital = float(capital[-1])
        self.log_highest = max(self.log_highest, float(capital.max()))


class SequentialTest:
    """Whether a challenger's losses are lower than the champion's, for labelled rows one by one.

    It says `better` although the challenger is not, or `worse` although it is not, with a
    probability of at most `alpha` together, over the whole of the time.

    Where outcomes stand for events that have none, each row counts by a weight, `most_weight` at
    most: bets are on gain × weight / most_weight, which is in [-1, 1] too, so the guarantee is the
    same, of the weighted mean. The larger that is, the more rows a verdict takes.

    >>> test = SequentialTest(alpha=0.05)
    >>> rng = np.random.default_rng(1)
    >>> champion, challenger = rng.uniform(0, 1, 2000), rng.uniform(0, 0.8, 2000)
    >>> test.add(champion, challenger).verdict
    'better'
    """

    def __init__(self, alpha: float = 0.05, most_weight: float = 1.0) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is a probability between 0 and 1, not {alpha}")
        if not 1 <= most_weight < np.inf:
            raise ValueError(f"a row counts for one at least, not for {most_weight} at most")
        self.alpha, self.most_weight = alpha, most_weight
        prior = _PRIOR_VARIANCE / most_weight
        self._better, self._worse = _Bettor(prior), _Bettor(prior)
        self._weight = 0.0

    def add(
        self, champion: Floats64, challenger: Floats64, weights: Floats64 | None = None
    ) -> SequentialTest:
        """Take in the losses (N,) in [0, 1] of both on the same rows, in order.

        Rows count by *weights* (N,), where there are any, but by `most_weight` at most.
        """
        gain = np.asarray(champion, np.float64) - np.asarray(challenger, np.float64)
        if not (np.abs(gain) <= 1).all():
            raise ValueError("losses are numbers from 0 to 1")
        counts = np.ones(len(gain)) if weights is None else np.minimum(weights, self.most_weight)
        if not (counts >= 0).all():
            raise ValueError("weights are numbers from 0 on")
        stake = gain * (counts / self.most_weight)
        self._better.play(stake)
        self._worse.play(-stake)
        self._weight += float(counts.sum())
        return self

    @property
    def rows(self) -> int:
        """Rows so far."""
        return self._better.rows

    @property
    def gain(self) -> float:
        """How much lower the challenger's loss is on average so far, of weighted rows."""
        return self._better.total * self.most_weight / self._weight if self._weight else 0.0

    @property
    def p_better(self) -> float:
        """An always-valid p-value against "the challenger is not better", for this side alone."""
        return float(np.exp(-self._better.log_highest))

    @property
    def p_worse(self) -> float:
        """The same against "the challenger is not worse"."""
        return float(np.exp(-self._worse.log_highest))

    @property
    def verdict(self) -> Verdict:
        """What can be said: each side has half of `alpha`."""
        sides: list[tuple[float, Verdict]] = [(self.p_better, "better"), (self.p_worse, "worse")]
        p, verdict = min(sides)
        return verdict if p <= self.alpha / 2 else "undecided"
