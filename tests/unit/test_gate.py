"""Conditions on the figures of a what-if: read, judged, and refused by the place of a mistake."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.replay.errors import BadCondition, UnknownFigure
from agents.replay.gate import Gate, figures_of
from agents.replay.what_if_figures import Outcomes
from tests.unit.test_what_if_page import report_of

FIGURES = {"changed": 0.004, "changed.approve-review": 0.002, "cost": None, "precision": 0.5}


@pytest.mark.parametrize(
    ("condition", "passed"),
    [
        ("changed <= 0.5%", True),
        ("changed <= 0.004", True),
        ("changed < 0.4%", False),
        ("changed == .4%", True),
        ("changed > -1", True),
        ("changed.approve-review>=0.2%", True),
        ("changed <= 1% and precision > 0.6", False),
        ("changed <= 1% or precision > 0.6", True),
        # and binds closer than or.
        ("precision > 0.6 and changed > 1 or changed <= 1%", True),
        ("precision > 0.6 and (changed > 1 or changed <= 1%)", False),
        ("changed <= 1% and cost <= 0", False),
        # One that is unknown is no matter of taste.
        ("changed <= 1% or cost <= 0", False),
    ],
)
def test_a_condition_is_judged_by_its_figures(condition: str, passed: bool) -> None:
    assert Gate(condition).judge(FIGURES).passed is passed


def test_the_figures_that_are_named_come_with_the_judgement() -> None:
    result = Gate("(changed <= 1% or cost <= 0)").judge(FIGURES)
    assert result.figures == {"changed": 0.004, "cost": None}


@pytest.mark.parametrize(
    ("condition", "at", "cause"),
    [
        ("", 1, "expected a figure, not 'the end'"),
        ("changed", 8, "expected one of <= >= == < >, not 'the end'"),
        ("changed <<= 1%", 9, "expected one of <= >= == < >, not '<<='"),
        ("changed <= ", 11, "expected a number such as 0.5% or -1.25, not 'the end'"),
        ("changed <= 1%%", 12, "expected a number such as 0.5% or -1.25, not '1%%'"),
        ("changed <= nan", 12, "expected a number such as 0.5% or -1.25, not 'nan'"),
        ("changed <= 1e9", 12, "expected a number such as 0.5% or -1.25, not '1e9'"),
        ("changed <= 1% cost <= 0", 15, "expected and, or, or the end, not 'cost'"),
        ("changed <= 1% and", 18, "expected a figure, not 'the end'"),
        ("(changed <= 1%", 15, "expected ) here, not 'the end'"),
        ("__import__('os') <= 1", 1, "expected a figure (changed, "),
        ("changed <= 1%)", 14, "expected and, or, or the end, not ')'"),
        ("(" * 21 + "changed <= 1", 22, "brackets are 20 deep at most"),
        ("changed <= 1" + " " * 500 + "x", 500, "at most 500 characters"),
    ],
)
def test_what_is_no_condition_is_refused_with_its_place(
    condition: str, at: int, cause: str
) -> None:
    with pytest.raises(BadCondition) as refused:
        Gate(condition)
    assert f"--if: at character {at}: {cause}" in str(refused.value)


def test_the_place_is_shown_below_the_condition() -> None:
    with pytest.raises(BadCondition) as refused:
        Gate("changed <= x")
    assert refused.value.lines[1:] == ["  changed <= x", "             ^"]


def test_a_change_between_decisions_that_there_are_not_is_refused() -> None:
    with pytest.raises(UnknownFigure, match=r"no figure 'changed\.approve-deny'; there"):
        Gate("changed.approve-deny <= 0").judge(FIGURES)


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_is_refused(text: str) -> None:
    try:
        gate = Gate(text)
    except BadCondition as refused:
        assert "at character" in str(refused)
    else:
        assert gate.comparisons


def test_figures_are_those_of_the_report() -> None:
    known = Outcomes(np.array([True, True, False, False]), np.array([True, False, False, False]))
    report = report_of(known)
    figures = figures_of(report)
    assert figures["changed"] == 0.75
    assert (figures["changed.review-decline"], figures["changed.decline-review"]) == (0.25, 0.0)
    assert (figures["dead"], figures["decided"], figures["outcomes"]) == (0.25, 4, 2)
    assert figures["cost"] is figures["precision"] is figures["recall.before"] is None
    assert not Gate("cost <= 100").judge(figures).passed, "of the dead nobody knows"
    alive = [flow for flow in report.flows if flow.after != report.no_quorum]
    figures = figures_of(report.model_copy(update={"flows": alive}))
    # Before: review (yes) and approve (no), after: decline (yes) and review (no); each costs 1 of
    # the positive, and 2 of the negative that is not approved.
    assert (figures["cost.before"], figures["cost.after"], figures["cost"]) == (0.5, 1.5, 1.0)
    assert figures["cost.change"] == figures["cost"]
    assert (figures["precision.before"], figures["precision"]) == (1.0, 0.5)
    assert figures["precision.change"] == -0.5


def test_nothing_is_known_of_a_change_that_could_not_be_computed() -> None:
    report = report_of(Outcomes.unknown(4))
    kept = report.events.model_copy(update={"as_recorded": 1})
    figures = figures_of(report.model_copy(update={"events": kept}))
    assert figures["changed"] is None
    assert figures["decided"] == 4
    assert not Gate("changed <= 100%").judge(figures).passed
