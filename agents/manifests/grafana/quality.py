"""How good decisions are, by outcomes and before them, and what has become of outcomes."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from agents.manifests.grafana.frame import framed
from agents.manifests.grafana.panels import COUNT, RECORDS, SHARE, Panel, Query, Text, lines
from agents.manifests.grafana.scope import Scope

_CHOSEN = 'pipeline=~"$pipeline"'
_BELOW = "AnabranchQualityBelowPromise"
_BOUNDS = 'bound="value"'


def quality(scope: Scope) -> dashboard.Dashboard:
    """Figures of the newest window, as a monitor says them."""
    return framed(
        scope,
        "quality",
        "quality",
        "How good are decisions, now that outcomes are there? Figures are of the newest window "
        "that has matured; a monitor says them, and keeps all windows on its topic.",
        [
            ("By outcomes", _figures()),
            ("Against what was promised, and estimated", _promises()),
            ("Outcomes", _outcomes()),
        ],
        component=False,
    )


def _figures() -> list[Panel]:
    ranking = Text(
        "AUC and its interval",
        "Of the composed score and each component. Below the promise with the whole interval it "
        "is an alert; one component alone is its model, all of them the events or the outcomes.",
        _BELOW,
    )
    at_policy = Text(
        "Precision and recall at the policy",
        "Of the composed score, at each threshold, weighed by propensity. Recall of what was "
        "declined without exploration cannot be known.",
        _BELOW,
    )
    auc = f'anabranch_quality{{{_CHOSEN},figure="auc"}}'
    shares = f'anabranch_quality{{{_CHOSEN},{_BOUNDS},figure=~"(precision|recall)[.].*"}}'
    return [
        lines(ranking, SHARE, Query(auc, "{{pipeline}} {{subject}} {{bound}}")),
        lines(at_policy, SHARE, Query(shares, "{{pipeline}} {{figure}}")),
    ]


def _promises() -> list[Panel]:
    errors = Text(
        "Calibration: Brier and calibration error",
        "Of the composed score and each component; less is better. A rise while AUC stays is a "
        "share of positives that has changed: weights and thresholds are of another time.",
        _BELOW,
    )
    estimates = Text(
        "AUC estimated, and how far estimates were off",
        "Estimated: of the newest window that is over, before outcomes are there. Off: of the "
        "newest that has matured. An estimate that is off says that inputs mean something else.",
        _BELOW,
    )
    brier = f'anabranch_quality{{{_CHOSEN},{_BOUNDS},figure=~"brier|calibration_error"}}'
    estimated = f'anabranch_quality_estimated{{{_CHOSEN},{_BOUNDS},figure="auc"}}'
    off = f'abs(anabranch_quality_estimate_error{{{_CHOSEN},figure="auc"}})'
    return [
        lines(errors, COUNT, Query(brier, "{{pipeline}} {{subject}} {{figure}}")),
        lines(
            estimates, COUNT, Query(estimated, "{{pipeline}} {{subject}} estimated"),
            Query(off, "{{pipeline}} {{subject}} off"),
        ),
    ]  # fmt: skip


def _outcomes() -> list[Panel]:
    fates = Text(
        "Outcomes by what they came to",
        "In the hour before. dead: no decision was found in their time, see "
        "outcomes.dead-letters; reversed: a stronger or later one says otherwise.",
        _BELOW,
    )
    waiting = Text(
        "Decisions that wait, and lag",
        "Decisions that are kept for outcomes, outcomes without a decision, and records that the "
        "monitor has not read yet. A lag that grows: it needs a core of its own.",
        _BELOW,
    )
    by_fate = f"increase(anabranch_monitor_outcomes_total{{{_CHOSEN}}}[1h])"
    return [
        lines(
            fates, COUNT, Query(f"sum by (pipeline, fate) ({by_fate})", "{{pipeline}} {{fate}}"),
            stacked=True,
        ),
        lines(
            waiting, RECORDS,
            Query(f"anabranch_monitor_kept_decisions{{{_CHOSEN}}}", "{{pipeline}} decisions"),
            Query(f"anabranch_monitor_unmatched_outcomes{{{_CHOSEN}}}", "{{pipeline}} outcomes"),
            Query(f"anabranch_monitor_lag_records{{{_CHOSEN}}}", "{{pipeline}} lag {{topic}}"),
        ),
    ]  # fmt: skip
