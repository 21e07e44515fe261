"""The evaluation protocol on cases small enough to check by hand."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.commands.evaluate_view import figures_table
from agents.demo.evaluation_data import (
    TRANSACTIONS,
    events_between,
    outcomes_of_events,
    stream_start,
    transactions_in,
)
from models.data.errors import DatasetNotFound
from models.errors import LengthMismatch
from models.report.handbook import (
    BOOK,
    BOOK_WEEKS,
    DaysOutsideData,
    OneOutcome,
    OutcomeColumns,
    ProtocolFigures,
    Weeks,
    card_precision,
    day_number,
    days_of,
    protocol_figures,
    train_rows,
)
from models.report.handbook import test_rows as rows_to_test
from models.report.training_report import COMPOSED
from topics.pipeline.file import find_pipeline, load_pipeline

START = date(2018, 4, 1)
WEEKS = Weeks(START, train=2, delay=2, test=3)
"""Training days 0 and 1, delay 2 and 3, test days 4, 5 and 6."""

CARD_FRAUD = load_pipeline(find_pipeline("card-fraud")).pipeline


def outcomes(*rows: tuple[int, str, int]) -> OutcomeColumns:
    """Events as (days after START, entity, label)."""
    days, entities, labels = zip(*rows, strict=True)
    return OutcomeColumns(
        np.array(days, np.int64) + day_number(START),
        np.array(entities, dtype=object),
        np.array(labels, np.bool_),
    )


def kept_for_test(*rows: tuple[int, str, int]) -> list[tuple[int, str]]:
    """Which of *rows* are tested, besides one good and one bad event on each end."""
    more = [(0, "y", 0), *rows, (4, "z", 1), (6, "z", 0)]
    chosen = np.flatnonzero(rows_to_test(outcomes(*more), WEEKS)).tolist()
    return [more[row][:2] for row in chosen if more[row][1] not in ("y", "z")]


def test_the_weeks_of_the_book_are_a_week_each() -> None:
    assert BOOK_WEEKS.last_train == date(2018, 7, 31)
    assert BOOK_WEEKS.test_start == date(2018, 8, 8)
    assert BOOK_WEEKS.last_test == date(2018, 8, 14)


def test_a_day_ends_at_midnight_in_utc() -> None:
    midnight = day_number(START) * 86_400_000
    assert days_of(np.array([midnight - 1, midnight])).tolist() == [
        day_number(START) - 1, day_number(START),
    ]  # fmt: skip


def test_only_the_training_days_are_trained_on() -> None:
    rows = train_rows(outcomes((0, "a", 0), (1, "b", 1), (2, "c", 0), (4, "d", 1)), WEEKS)
    assert rows.tolist() == [True, True, False, False]


def test_only_the_test_days_are_tested() -> None:
    assert kept_for_test(*((day, "a", 0) for day in range(7))) == [(4, "a"), (5, "a"), (6, "a")]


def test_an_entity_with_a_fraud_in_training_is_never_tested() -> None:
    assert kept_for_test((1, "a", 1), (4, "a", 0), (5, "a", 1), (6, "b", 1)) == [(6, "b")]


def test_a_fraud_before_the_training_days_is_forgotten() -> None:
    assert kept_for_test((-1, "a", 1), (4, "a", 0)) == [(4, "a")]


@pytest.mark.parametrize(
    ("fraud", "days"), [(1, []), (2, [4]), (3, [4, 5]), (4, [4, 5, 6]), (6, [4, 5, 6])]
)
def test_a_later_fraud_is_known_once_its_label_is_due(fraud: int, days: list[int]) -> None:
    rows = [(4, "a", 0), (5, "a", 0), (6, "a", 0)]
    found = {day for day, _ in kept_for_test((fraud, "a", 1), *rows)}
    assert sorted(found) == days


@pytest.mark.parametrize(
    "weeks", [Weeks(date(2018, 3, 31), 2, 2, 3), Weeks(START, 2, 2, 4), Weeks(START, 90, 2, 3)]
)
def test_days_outside_the_data_are_an_error_that_names_them(weeks: Weeks) -> None:
    events = outcomes((0, "a", 1), (0, "b", 0), (4, "c", 1), (6, "d", 0))
    check = train_rows if weeks.test == WEEKS.test else rows_to_test
    with pytest.raises(DaysOutsideData, match="which has 2018-04-01 to 2018-04-07; choose"):
        check(events, weeks)


def test_days_without_a_fraud_are_an_error() -> None:
    events = outcomes((0, "a", 0), (1, "b", 0), (4, "c", 0), (6, "d", 0))
    with pytest.raises(OneOutcome, match="training days have 2 rows, all labelled 0"):
        train_rows(events, WEEKS)
    with pytest.raises(OneOutcome, match="test days without known entities have 2 rows, all"):
        rows_to_test(events, WEEKS)


def test_a_label_for_each_event_is_needed() -> None:
    with pytest.raises(LengthMismatch):
        OutcomeColumns(
            np.zeros(2, np.int64), np.array(["a", "b"], dtype=object), np.zeros(1, np.bool_)
        )


def test_card_precision_ranks_entities_by_their_highest_score() -> None:
    events = outcomes((4, "a", 0), (4, "a", 1), (4, "b", 0), (4, "c", 1))
    assert card_precision(events, np.array([0.9, 0.0, 0.5, 0.1]), k=2) == 0.5
    assert card_precision(events, np.array([0.9, 0.0, 0.5, 0.6]), k=2) == 1.0


def test_an_entity_that_was_found_is_not_checked_again() -> None:
    events = outcomes((4, "a", 1), (4, "b", 0), (5, "a", 1), (5, "b", 1))
    assert card_precision(events, np.array([0.9, 0.1, 0.9, 0.1]), k=1) == 1.0


def test_an_entity_that_was_checked_in_vain_is_checked_again() -> None:
    events = outcomes((4, "a", 0), (5, "a", 1))
    assert card_precision(events, np.array([0.9, 0.9]), k=1) == 0.5


EVENTS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from("abcdefg"), st.integers(0, 1)),
    min_size=1, max_size=40,
)  # fmt: skip


@given(EVENTS, st.randoms(use_true_random=False), st.integers(1, 8))
def test_card_precision_is_what_checking_one_by_one_gives(
    rows: list[tuple[int, str, int]], random: object, k: int
) -> None:
    scores = np.arange(len(rows)) / len(rows)
    random.shuffle(scores)  # type: ignore[attr-defined]  # hypothesis' own Random
    found: set[str] = set()
    daily = []
    for day in sorted({day for day, _, _ in rows}):
        today = [(s, e, y) for s, (d, e, y) in zip(scores, rows, strict=True) if d == day]
        frauds = {entity for _, entity, label in today if label}
        hits, checked, known = 0, set[str](), set(found)
        for _, entity, _ in sorted(today, reverse=True):
            if entity in known or entity in checked or len(checked) == k:
                continue
            checked.add(entity)
            if entity in frauds:
                hits += 1
                found.add(entity)
        daily.append(hits / k)
    assert card_precision(outcomes(*rows), scores, k) == pytest.approx(sum(daily) / len(daily))


def test_perfect_scores_have_perfect_figures() -> None:
    rows = [(4, f"c{card}", int(card < 100)) for card in range(300)]
    found = protocol_figures(outcomes(*rows), np.array([label for _, _, label in rows], np.float64))
    assert found.model_dump() == {"auc": 1.0, "average_precision": 1.0, "card_precision_100": 1.0}


@pytest.mark.parametrize("weeks", [BOOK_WEEKS, WEEKS])
def test_published_figures_stand_beside_ours_for_the_weeks_of_the_book_alone(
    weeks: Weeks,
) -> None:
    ours = {COMPOSED: ProtocolFigures(auc=0.9, average_precision=0.7, card_precision_100=0.3)}
    table = figures_table(ours, weeks)
    names = list(table.columns[0].cells)
    assert names[0] == COMPOSED
    assert (names[1:] == list(BOOK)) == (weeks == BOOK_WEEKS)
    assert ("Le Borgne" in str(table.caption)) == (weeks == BOOK_WEEKS)
    assert list(table.columns[4].cells) == ["", *["published"] * (len(names) - 1)]


def events(*times: str) -> list[tuple[dict[str, object], bool]]:
    return [
        ({"transaction_id": str(at), "occurred_at": time, "customer_id": "c-1"}, at == 0)
        for at, time in enumerate(times)
    ]


def test_events_are_streamed_in_the_order_of_their_times() -> None:
    labelled = events(
        "2018-04-02T00:00:01.500Z", "2018-04-03T23:59:59Z", "2018-04-02T00:00:01Z",
        "2018-04-01T23:59:59Z", "2018-04-04T00:00:00Z", "no time",
    )  # fmt: skip
    found = events_between(labelled, CARD_FRAUD, date(2018, 4, 2), date(2018, 4, 3))
    told = outcomes_of_events(found)
    assert told.labels.tolist() == [False, True, False]
    assert (told.days - day_number(START)).tolist() == [1, 1, 2]
    assert told.entities.tolist() == ["c-1"] * 3


def test_a_stream_starts_with_the_test_or_where_it_is_told_to() -> None:
    data = outcomes((0, "a", 0), (6, "b", 1))
    assert stream_start(CARD_FRAUD, data, WEEKS.test_start, START) == START
    assert START <= stream_start(CARD_FRAUD, data, WEEKS.test_start, None) <= WEEKS.test_start
    for wrong in (date(2018, 3, 31), date(2018, 4, 6)):
        with pytest.raises(DaysOutsideData, match="days to stream"):
            stream_start(CARD_FRAUD, data, WEEKS.test_start, wrong)


def test_a_folder_without_transactions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match=TRANSACTIONS):
        transactions_in(tmp_path)
    (tmp_path / TRANSACTIONS).touch()
    assert transactions_in(tmp_path) == transactions_in(tmp_path / TRANSACTIONS)
