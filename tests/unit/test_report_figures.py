"""What a report counts: by time in bounded memory, and a page that says it."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.report.figures import (
    ChangeFigures,
    DriftDay,
    DriftFigures,
    LetterFigures,
    PeriodFigures,
    PipelineFigures,
    QualityWindow,
    RenewalFigures,
    RenewalStepFigures,
    VersionFigures,
)
from agents.report.page import figures_page, sampled
from agents.report.time_bins import (
    MOST_BINS,
    TimeBins,
    latency_quantile,
    latency_step,
    score_quantile,
)
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.records.decision import Contribution, Decision, Source, rfc3339_time

POLICY = load_pipeline(find_pipeline("card-fraud")).pipeline.policy
TIMES = st.lists(st.integers(0, 10 * 365 * 86_400_000), min_size=1, max_size=60)


def decision(score: float = 0.2, latency_ms: float = 12, taken: str = "review") -> Decision:
    part = Contribution(
        signal=score, weight=1, contribution=score, model="risk@3", digest="d", variant="fp32"
    )
    return Decision(
        event_id="e", pipeline="p", decision=taken, score=score, contributions={"risk": part},
        degraded=False, missing=[], weights=2, policy="p@1",
        source=Source(topic="p.events", partition=0, offset=0),
        event_time="2026-01-01T00:00:00Z", decided_at="2026-01-01T00:00:00Z",
        latency_ms=latency_ms,
    )  # fmt: skip


@given(TIMES)
def test_bins_are_few_and_nothing_is_lost_whatever_the_times(times: list[int]) -> None:
    bins = TimeBins()
    for at in times:
        bins.at(at).count(decision())
    starts = [start for start, _ in bins.bins]
    assert len(starts) <= MOST_BINS
    assert bins.total.decided == len(times)
    assert starts[0] <= min(times)
    assert max(times) < starts[-1] + bins.width_ms


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=200))
def test_quantiles_of_latency_are_within_a_step_of_numpys(latencies: list[float]) -> None:
    counts = np.zeros(160, np.int64)
    for each in latencies:
        counts[latency_step(each)] += 1
    exact = float(np.quantile(latencies, 0.5, method="inverted_cdf"))
    assert latency_quantile(counts, 0.5) == np.clip(
        latency_quantile(counts, 0.5) or 0, exact / 1.13, exact * 1.13
    )


def test_nothing_has_no_quantile() -> None:
    assert latency_quantile(np.zeros(160, np.int64), 0.5) is None
    assert score_quantile(np.zeros(200, np.int64), 0.5) is None


def test_versions_beyond_a_bound_are_counted_together() -> None:
    bins = TimeBins()
    for number in range(80):
        given_version = decision().model_copy(update={"weights": number})
        bins.at(0).count(given_version)
    versions = bins.total.versions
    assert versions["others"] == 80 - 48
    assert versions.total() == 3 * 80


def figures(**changes: object) -> PipelineFigures:
    bins = TimeBins()
    for minute in range(30):
        for _ in range(minute + 1):
            bins.at(1_767_225_600_000 + minute * 60_000).count(decision(0.01 * minute))
    periods = [
        PeriodFigures(
            start=rfc3339_time(start), decided=counts.decided,
            decisions=dict(counts.decisions), dead_letters=0, degraded=0, late=0,
            latency_p50_ms=latency_quantile(counts.latencies, 0.5), latency_p95_ms=15.0,
            latency_p99_ms=20.0, score_p10=0.01, score_p50=0.02, score_p90=0.3,
            weights={"risk": 1.0},
        )
        for start, counts in bins.bins
    ]  # fmt: skip
    whole = PipelineFigures(
        pipeline="card-fraud", description="Scores cards.", since=None,
        first="2026-01-01T00:00:01.000Z", last="2026-01-01T00:29:59.000Z",
        bin_s=bins.width_ms / 1000,
        decided=465, decisions={"review": 465}, redriven=0, degraded=0, late=0, dead_letters=2,
        latency_p50_ms=12.0, latency_p95_ms=15.0, latency_p99_ms=20.0, periods=periods,
        versions=[VersionFigures(version="risk@3", decisions=465, first="2026-01-01T00:00:00Z",
                                 last="2026-01-01T00:29:00Z")],
        letters=[LetterFigures(component="features", error="InvalidEvent", letters=2,
                               example="amount: <script>alert(1)</script>")],
        changes=[ChangeFigures(at="2026-01-01T00:10:00Z", action="promote", what="risk",
                               version="2 → 3", by="ann", reason="better")],
        renewals=[RenewalFigures(
            number=1, trigger="drift", reason="amount has moved", begun="2026-01-01T00:12:00Z",
            steps=[RenewalStepFigures(at="2026-01-01T00:13:00Z", step="train", state="done",
                                      reason="risk@3 on 400 <b>events</b>")],
            ended="2026-01-01T00:14:00Z", verdict="promoted", why="all steps are done",
        )],
        explored={"approve": 3},
        drift=[DriftFigures(seen="2026-01-01T00:20:00Z", series="amount", what="mean",
                            ended=False, sentence="amount has moved.")],
        drift_days=[DriftDay(at="2026-01-01T00:00:00Z", psi={"amount": 0.1},
                             limits={"amount": 0.05}, learning=["word"], lacking={})],
        quality=[QualityWindow.model_validate({
            "since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z", "state": "matured",
            "subject": "composed", "rows": 400, "positives": 9, "outside": ["auc"],
            "figures": {"auc": {"value": 0.9, "low": 0.85, "high": 0.95}},
        })],
        unknown=[], cost_by_outcome={}, not_read=["card-fraud.decisions[0] begins with offset 7"],
    )  # fmt: skip
    return whole.model_copy(update=changes)


class _Page(HTMLParser):
    """What a page loads and says."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(page: str) -> _Page:
    parsed = _Page()
    parsed.feed(page)
    return parsed


def test_a_page_loads_nothing_says_everything_and_runs_nothing_of_an_events() -> None:
    page = read(figures_page(figures(), POLICY, datetime(2026, 1, 2, tzinfo=UTC)))
    text = " ".join(page.words)
    for words in (
        "amount has moved.",
        "2 → 3",
        "InvalidEvent",
        "begins with offset 7",
        "0.850–",
        "Renewal 1, drift: promoted",
        "risk@3 on 400 <b>events</b>",
    ):
        assert words in text
    assert "<script>alert(1)</script>" in text
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe")]
    sources = [value for _, attrs in page.tags for name, value in attrs.items()
               if name in ("src", "href") and not str(value).startswith("#")]  # fmt: skip
    assert sources == []


def test_each_plot_has_words_and_a_table() -> None:
    page = read(figures_page(figures(), POLICY, datetime(2026, 1, 2, tzinfo=UTC)))
    plots = [attrs for tag, attrs in page.tags if tag == "figure"]
    assert len(plots) == 7
    assert all("table" in (attrs["aria-label"] or "") for attrs in plots)


def test_a_page_about_nothing_says_so() -> None:
    nothing = figures(
        decided=0, decisions={}, periods=[], versions=[], letters=[], changes=[], explored={},
        drift=[], drift_days=[], quality=[], renewals=[], first=None, last=None,
        latency_p50_ms=None, latency_p99_ms=None, dead_letters=0,
    )  # fmt: skip
    text = " ".join(read(figures_page(nothing, POLICY, datetime(2026, 1, 2, tzinfo=UTC))).words)
    assert "No event was decided." in text
    assert "no monitor has watched" in text


def test_what_is_not_known_is_a_list_and_all_windows_are_there_to_be_opened() -> None:
    unknown = ["decline: of none of 2 it is known", "decline: of none of 10 it is known"]
    made = figures_page(figures(unknown=unknown), POLICY, datetime(2026, 1, 2, tzinfo=UTC))
    page = read(made)
    assert [word for word in page.words if word in unknown] == unknown
    assert "1 windows of the composed score" in page.words


def test_a_sample_of_periods_has_the_first_and_the_last() -> None:
    periods = figures().periods
    picked = sampled(periods, 12)
    assert len(picked) == 12
    assert (picked[0], picked[-1]) == (periods[0], periods[-1])
