"""The page of a what-if is one file that says what the report says."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from agents.replay.altered_decisions import AlteredRule
from agents.replay.what_if_figures import FigureMaker, Outcomes
from agents.replay.what_if_page import what_if_page
from agents.replay.what_if_report import Change, Example, WhatIfReport, counts_of, notes_of
from agents.weigh.decision_records import Weights
from tests.unit.test_decisions import PIPELINE
from tests.unit.test_report_page import Outline
from tests.unit.test_what_if import FIXED, recorded
from topics.pipeline.policy import DecisionCost
from topics.records.decision import Source

AT = datetime(2026, 1, 2, 12, tzinfo=UTC)


def report_of(outcomes: Outcomes) -> WhatIfReport:
    """Four events with weights that are all a's; one has no quorum then."""
    rows = recorded([0.5, 0.25, 1.0, None], [0.25, 0.125, 1.0, 0.125])
    altered = AlteredRule(PIPELINE, FIXED, weights=Weights({"a": 1.0, "b": 0.0}, 5)).decide(rows)
    costs = {name: DecisionCost(positive=1, negative=2) for name in PIPELINE.policy.thresholds}
    figures = FigureMaker(altered, outcomes, "approve", {**costs, "approve": DecisionCost()})
    flows = figures.flows()
    example = Example(
        event_id="<b>tx</b>", source=Source(topic="p.events", partition=2, offset=10),
        score_before=0.3125, score_after=0.5, reason_before="review: score 0.313",
    )  # fmt: skip
    flows[0] = flows[0].model_copy(update={"examples": [example]})
    report = WhatIfReport(
        pipeline="p", change=Change(weights=5), offsets={2: (10, 14)},
        events=counts_of(rows, as_recorded=0, dead_letters=3, foreign=0),
        changed=int(altered.changed.sum()), changed_share=float(altered.changed.mean()),
        decisions=[*altered.names[:-1]], flows=flows, scores=figures.shift(),
        outcomes=figures.quality(),
        segments={"amount": figures.segments(["low", "high"], np.array([0, 0, 1, 1]))},
    )  # fmt: skip
    return report.model_copy(
        update={"notes": notes_of(report, outcomes.known, altered, rows.explored, rows.propensity)}
    )


def test_the_page_says_what_the_report_says_and_loads_nothing() -> None:
    known = Outcomes(np.array([True, True, False, False]), np.array([True, False, False, False]))
    report = report_of(known)
    page = what_if_page(report, AT)
    outline = Outline()
    outline.feed(page)
    assert outline.headings == [
        "Decisions", "Scores", "Where outcomes are known", "By amount",
        "Examples", "What this leaves open",
    ]  # fmt: skip
    assert outline.loaded == []
    assert "75.000 %" in page
    assert "4 decisions about events 2/10 to 2/14" in page
    assert "review → decline" in page
    assert "&lt;b&gt;tx&lt;/b&gt;" in page
    assert "<b>tx" not in page
    assert report.digest in page
    assert "outcomes are known of 2 of 4 events" in page
    assert "1 would be dead letters" in page
    assert "as recorded stay 3 dead letters" in page
    assert page.count("<svg") == 1
    assert what_if_page(report, AT) == page, "equal reports give equal bytes"


def test_without_outcomes_the_page_says_so() -> None:
    page = what_if_page(report_of(Outcomes.unknown(4)), AT)
    assert "no outcome known" in page
    assert "nothing can be said of cost or quality" in page
    assert "Where outcomes are known" not in page
