"""The report page is one file that says what the report says."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from models.report import html_page
from models.report.page import report_page
from models.report.report_plots import reliability_plots
from models.report.training_report import TrainingReport
from tests.unit.test_training import card_fraud, trained
from topics.errors import MissingExtra

AT = datetime(2026, 1, 2, 12, tzinfo=UTC)
COSTS = {
    "approve": {"positive": 120},
    "review": {"positive": 5, "negative": 5},
    "decline": {"negative": 30},
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    policy = card_fraud().policy.model_dump(by_alias=True)
    pipeline = card_fraud(policy={**policy, "costs": COSTS})
    return trained(tmp_path_factory.mktemp("report"), pipeline=pipeline)


class Outline(HTMLParser):
    """Headings, and everything that a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.loaded += [
            value or "" for name, value in attrs
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#")
        ]  # fmt: skip

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2" and data.strip():
            self.headings.append(data.strip())

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass


def test_the_page_has_every_part_and_loads_nothing(report: TrainingReport) -> None:
    page = report_page(report, AT)
    outline = Outline()
    outline.feed(page)
    assert outline.headings == [
        "Components and the whole", "What each stage adds", "How they rank",
        "Whether a signal means what it says", "What the policy decides", "What decisions cost",
    ]  # fmt: skip
    assert outline.loaded == []
    assert "<script" not in page
    assert "url(http" not in page
    assert page.count("<svg") == 2


def test_the_page_shows_the_figures_of_the_report(report: TrainingReport) -> None:
    page = report_page(report, AT)
    assert "2026-01-02 12:00 UTC" in page
    assert f"{report.composed.auc:.3f}" in page
    assert f"{report.composed.log_loss:.5f}" in page
    for name, part in report.components.items():
        row = re.search(rf"<tr><td>{name}</td>.*?</tr>", page, re.DOTALL)
        assert row
        assert f"<td>{part.average_precision:.3f}</td>" in row[0]
    assert report.held_out.costs is not None
    assert report.held_out.costs.best.cost is not None
    assert f"{1000 * report.held_out.costs.best.cost:,.2f}" in page


def test_no_empty_plot_fills_the_last_row_up(report: TrainingReport) -> None:
    curves = report.held_out.curves
    assert len(curves) == 5, "of six places"
    drawn = reliability_plots(curves, "composed", 0.1)
    assert drawn.count('id="axes_') == len(curves)


def test_equal_reports_give_equal_pages(report: TrainingReport) -> None:
    assert report_page(report, AT) == report_page(report, AT)


def test_a_name_with_markup_stays_text(report: TrainingReport) -> None:
    page = report_page(report.model_copy(update={"pipeline": "<script>alert(1)</script>"}), AT)
    assert "<script>" not in page


def test_a_pipeline_without_costs_has_no_section_of_them(report: TrainingReport) -> None:
    held_out = report.held_out.model_copy(update={"costs": None, "left_out": {}})
    page = report_page(report.model_copy(update={"held_out": held_out}), AT)
    assert "What decisions cost" not in page
    assert "What each stage adds" not in page


def test_without_the_extra_the_error_names_it(
    report: TrainingReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html_page, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtra, match=r"anabranch\[report\]"):
        report_page(report, AT)


def test_the_held_out_part_adds_up(report: TrainingReport, tmp_path: Path) -> None:
    held_out = report.held_out
    assert held_out.rows == 300
    assert held_out.policy is not None
    assert sum(decision.rows for decision in held_out.policy.decisions.values()) == held_out.rows
    assert (
        sum(decision.positives for decision in held_out.policy.decisions.values())
        == held_out.positives
    )
    assert list(held_out.curves) == [*report.weights, "composed"]
    assert list(held_out.left_out) == list(report.weights)
    assert held_out.costs is not None
    assert held_out.costs.stated == held_out.policy
    fixed = dict(zip(report.weights, (0.1, 0.2, 0.3, 0.4), strict=True))
    weighting = card_fraud().weighting.model_dump(by_alias=True)
    other = trained(tmp_path, pipeline=card_fraud(weighting={**weighting, "weights": fixed}))
    assert other.held_out.rows == 600, "no row was used up to learn weights"
    assert list(other.held_out.left_out) == list(fixed)
