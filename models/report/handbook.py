"""How well scores find frauds, when labels come late: days, known entities, three metrics.

The protocol of Le Borgne, Siblini, Lebichot & Bontempi, *Reproducible Machine Learning for
Credit Card Fraud Detection* (2022), chapters 3 to 5: train on some days, wait until their
labels are known, test on the days after, without entities (cards) whose fraud is known by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.arrays import Bools, Ints
from models.errors import LengthMismatch
from topics.errors import AnabranchError

Days = NDArray[np.int64]
"""Calendar days in UTC, counted from 1970-01-01."""

MILLISECONDS_A_DAY = 86_400_000
CARD_PRECISION_AT = 100

Share = Annotated[float, Field(ge=0, le=1)]


class EvaluationError(AnabranchError):
    """Scores cannot be evaluated on these weeks."""


class DaysOutsideData(EvaluationError):
    """Some days of the evaluation are not in the data."""

    def __init__(
        self, what: str, first: date, last: date, data_first: date, data_last: date
    ) -> None:
        super().__init__(
            f"the {what}, {first} to {last}, are not all in the data, which has {data_first} to "
            f"{data_last}; choose other days with --train, --delay, --test and --events-from"
        )


class OneOutcome(EvaluationError):
    """The days have only one kind of outcome, so nothing can be ranked."""

    def __init__(self, what: str, rows: int, label: bool) -> None:
        content = f"{rows:,} rows, all labelled {int(label)}" if rows else "no rows"
        super().__init__(f"the {what} have {content}; choose days with both outcomes")


@dataclass(frozen=True, slots=True)
class Weeks:
    """Training days, days until labels are known, and test days, one after the other."""

    start: date
    train: int
    delay: int
    test: int

    @property
    def last_train(self) -> date:
        """The last training day."""
        return self.start + timedelta(days=self.train - 1)

    @property
    def test_start(self) -> date:
        """The first test day."""
        return self.start + timedelta(days=self.train + self.delay)

    @property
    def last_test(self) -> date:
        """The last test day."""
        return self.test_start + timedelta(days=self.test - 1)


@dataclass(frozen=True, slots=True)
class OutcomeColumns:
    """N labelled events."""

    days: Days
    entities: NDArray[np.object_]
    """Whom a fraud compromises, (N,): the event's key."""
    labels: Bools

    def __post_init__(self) -> None:
        for name, column in (("entities", self.entities), ("labels", self.labels)):
            if len(column) != len(self.days):
                raise LengthMismatch(f"the {name}", len(column), len(self.days))

    def of(self, rows: Bools) -> OutcomeColumns:
        """The events of *rows* (N,) alone."""
        return OutcomeColumns(self.days[rows], self.entities[rows], self.labels[rows])


class ProtocolFigures(BaseModel):
    """The three figures of the protocol for one column of scores."""

    model_config = ConfigDict(frozen=True)

    auc: Share
    """Area under the ROC curve."""
    average_precision: Share
    card_precision_100: Share
    """Share of compromised cards among the 100 that rank highest, mean over the test days."""


BOOK_WEEKS = Weeks(date(2018, 7, 25), 7, 7, 7)
BOOK_SOURCE = "Le Borgne et al. 2022, chapter 3"
BOOK: Mapping[str, ProtocolFigures] = {
    name: ProtocolFigures(auc=auc, average_precision=precision, card_precision_100=cards)
    for name, auc, precision, cards in (
        ("logistic regression", 0.871, 0.606, 0.291),
        ("decision tree, depth 2", 0.763, 0.496, 0.241),
        ("random forest", 0.867, 0.658, 0.287),
        ("XGBoost", 0.862, 0.639, 0.273),
    )
}
"""What the book publishes for BOOK_WEEKS of its own transactions."""


def day_number(day: date) -> int:
    """The day, counted from 1970-01-01.

    >>> day_number(date(1970, 1, 3))
    2
    """
    return (day - date(1970, 1, 1)).days


def days_of(times_ms: Ints) -> Days:
    """The calendar days in UTC of milliseconds since 1970."""
    return times_ms // MILLISECONDS_A_DAY


def train_rows(outcomes: OutcomeColumns, weeks: Weeks) -> Bools:
    """Which rows (N,) are of the training days. Raises DaysOutsideData and OneOutcome."""
    _check_inside("training days", weeks.start, weeks.last_train, outcomes.days)
    first = day_number(weeks.start)
    rows = (outcomes.days >= first) & (outcomes.days < first + weeks.train)
    _check_both("training days", outcomes.labels[rows])
    return rows


def test_rows(outcomes: OutcomeColumns, weeks: Weeks) -> Bools:
    """Which rows (N,) are tested: those of the test days whose entity is not known by then.

    Known at the first test day are entities with a fraud on the training days; on test day d
    also those with a fraud up to d days after the last training day.
    Raises DaysOutsideData and OneOutcome.
    """
    _check_inside("test days", weeks.test_start, weeks.last_test, outcomes.days)
    rows = np.zeros(len(outcomes.days), np.bool_)
    first, last_train = day_number(weeks.start), day_number(weeks.last_train)
    frauds = outcomes.labels & (outcomes.days >= first)
    for d in range(weeks.test):
        known = set(outcomes.entities[frauds & (outcomes.days <= last_train + d)].tolist())
        today = np.flatnonzero(outcomes.days == day_number(weeks.test_start) + d)
        rows[today] = [entity not in known for entity in outcomes.entities[today].tolist()]
    _check_both("test days without known entities", outcomes.labels[rows])
    return rows


def protocol_figures(outcomes: OutcomeColumns, scores: NDArray[np.floating]) -> ProtocolFigures:
    """The figures of *scores* (N,) for the test set *outcomes*, which has both outcomes."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    precision = average_precision_score(outcomes.labels, scores)
    return ProtocolFigures(
        auc=float(roc_auc_score(outcomes.labels, scores)),
        average_precision=float(min(precision, 1.0)),
        card_precision_100=card_precision(outcomes, scores, CARD_PRECISION_AT),
    )


def card_precision(outcomes: OutcomeColumns, scores: NDArray[np.floating], k: int) -> float:
    """Card precision@k: of the k entities checked each day, the share found compromised.

    Each day the entities are ranked by their highest score among those not found before; one
    that has a fraud that day, and is checked, is found. Mean over the days. Entities of one
    score rank by their first event, in the order of the rows.
    """
    known: set[object] = set()
    daily = []
    for day in np.unique(outcomes.days).tolist():
        rows = np.flatnonzero(outcomes.days == day).tolist()
        highest, compromised = _by_entity(outcomes, scores, rows, known)
        checked = sorted(highest, key=highest.__getitem__, reverse=True)[:k]
        hits = compromised.intersection(checked)
        daily.append(len(hits) / k)
        known |= hits
    return float(np.mean(daily))


def _by_entity(
    outcomes: OutcomeColumns, scores: NDArray[np.floating], rows: Sequence[int], known: set[object]
) -> tuple[dict[object, float], set[object]]:
    """The highest score of each entity of *rows* not yet *known*, and which have a fraud."""
    highest: dict[object, float] = {}
    compromised: set[object] = set()
    for row in rows:
        entity, score = outcomes.entities[row], float(scores[row])
        if entity in known:
            continue
        highest[entity] = max(score, highest.get(entity, score))
        if outcomes.labels[row]:
            compromised.add(entity)
    return highest, compromised


def _check_inside(what: str, first: date, last: date, days: Days) -> None:
    if not len(days):
        raise EvaluationError("the data has no valid events")
    inside = days.min() <= day_number(first) and day_number(last) <= days.max()
    if not inside:
        epoch = date(1970, 1, 1)
        low, high = (epoch + timedelta(days=int(day)) for day in (days.min(), days.max()))
        raise DaysOutsideData(what, first, last, low, high)


def _check_both(what: str, labels: Bools) -> None:
    if not labels.any() or labels.all():
        raise OneOutcome(what, len(labels), bool(labels.any()))
