"""The labelled events of an evaluation: those it trains on, and those it streams and judges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import ceil
from pathlib import Path

import numpy as np
import orjson

from models.data import DatasetNotFound
from models.features import WindowPlan
from models.registry import Registry
from models.report.handbook import (
    DaysOutsideData,
    OutcomeColumns,
    Weeks,
    day_number,
    days_of,
    train_rows,
)
from models.training.data import TrainingData, with_windows
from models.training.unseen_rows import may_have_seen, milliseconds
from topics.pipeline import Pipeline

_DAY_MS = 86_400_000
TRANSACTIONS = "transactions.parquet"


@dataclass(frozen=True, slots=True)
class EvaluationEvent:
    """An event to publish, with what only its judges know."""

    key: bytes
    value: bytes
    time: str
    """RFC 3339 in UTC."""
    label: bool


def history_days(pipeline: Pipeline) -> int:
    """For how many days before the test days events matter to the features of *pipeline*."""
    plans = [WindowPlan(pipeline, spec.name) for spec in pipeline.components if spec.windowed]
    return ceil(max((plan.memory_ms for plan in plans), default=0) / _DAY_MS)


def not_measured(pipeline: Pipeline, registry: Registry, first_test: date) -> dict[str, str]:
    """Component → why the test days show nothing of it: its model may have been fitted on them.

    So it is with a file, and with a version that the pipeline file keeps, unless they are said to
    be older. Raises RegistryError.
    """
    until: dict[str, int | None] = {}
    for spec in pipeline.components:
        if spec.model is not None and spec.model.path is not None:
            until[spec.name] = milliseconds(spec.model.trained_until)
        elif spec.model is not None and spec.model.version is not None:
            card = registry.get(pipeline.name, spec.name, spec.model.version).card
            until[spec.name] = milliseconds(datetime.fromisoformat(card.seen_until))
    return may_have_seen(pipeline, until, day_number(first_test) * _DAY_MS)


def transactions_in(place: Path) -> str:
    """The file of transactions in folder *place*, or *place* itself when it is a file."""
    path = place / TRANSACTIONS if place.is_dir() else place
    if not path.is_file():
        raise DatasetNotFound(str(path))
    return str(path)


def outcomes_of(pipeline: Pipeline, data: TrainingData) -> OutcomeColumns:
    """Day, entity (the event's key) and label of each row of *data*."""
    entities = data.columns[pipeline.event.key].astype(object)
    return OutcomeColumns(days_of(data.columns[pipeline.event.time]), entities, data.labels)


def training_days(pipeline: Pipeline, data: TrainingData, weeks: Weeks) -> TrainingData:
    """The events of the training days alone, with windows over all that was before.

    Raises DaysOutsideData and OneOutcome.
    """
    data = data.in_time_order(pipeline.event.time)
    rows = train_rows(outcomes_of(pipeline, data), weeks)
    return with_windows(pipeline, data).picked(rows)


def stream_start(
    pipeline: Pipeline, outcomes: OutcomeColumns, test_start: date, wanted: date | None
) -> date:
    """The first day whose events are streamed: *wanted*, or early enough for the features.

    Raises DaysOutsideData when *wanted* is before the data or after the first test day.
    """
    epoch = date(1970, 1, 1)
    low, high = (epoch + timedelta(days=int(day(outcomes.days))) for day in (np.min, np.max))
    if wanted is None:
        return max(low, test_start - timedelta(days=history_days(pipeline)))
    if not low <= wanted <= test_start:
        raise DaysOutsideData("days to stream", wanted, test_start, low, high)
    return wanted


def events_between(
    labelled: Iterable[tuple[dict[str, object], bool]], pipeline: Pipeline, first: date, last: date
) -> list[EvaluationEvent]:
    """The events of the days *first* to *last*, in the order of their times.

    An event whose time is not one belongs to no day and is left out; what else may be wrong
    with an event is for the pipeline to say, which makes it a dead letter.
    """
    at, key = pipeline.event.time, pipeline.event.key
    low, high = first.isoformat(), last.isoformat()
    events = [
        EvaluationEvent(
            str(event.get(key, "")).encode(), orjson.dumps(event), str(event[at]), label
        )
        for event, label in labelled
        if low <= str(event.get(at, ""))[:10] <= high
    ]
    # Data files give whole seconds without decimals; "Z" would sort behind them.
    return sorted(events, key=lambda event: event.time.rstrip("Z"))


def outcomes_of_events(events: Sequence[EvaluationEvent]) -> OutcomeColumns:
    """Day, entity (the record's key) and label of each event."""
    return OutcomeColumns(
        np.array([event.time[:10] for event in events], "datetime64[D]").astype(np.int64),
        np.array([event.key.decode() for event in events], dtype=object),
        np.array([event.label for event in events], np.bool_),
    )
