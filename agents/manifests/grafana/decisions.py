"""What is decided, at which scores, and without which stages."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from agents.manifests.grafana.frame import framed
from agents.manifests.grafana.panels import (
    COUNT,
    EVENTS,
    SECONDS,
    SHARE,
    Panel,
    Query,
    Text,
    heat,
    lines,
)
from agents.manifests.grafana.scope import Scope

_CHOSEN = 'pipeline=~"$pipeline"'
_BUCKETS = f"rate(anabranch_decision_score_bucket{{{_CHOSEN}}}[$__rate_interval])"
_DECISIONS = f"rate(anabranch_decisions_total{{{_CHOSEN}}}[$__rate_interval])"
_DEGRADED = "AnabranchDegradedDecisions"
_UNEXPLAINED = "AnabranchUnexplainedDecisions"


def decisions(scope: Scope) -> dashboard.Dashboard:
    """Decisions by kind, their scores, and the stages that they lack."""
    return framed(
        scope,
        "decisions",
        "decisions",
        "What is decided, and is it what was evaluated? A share or a score that drifts, while the "
        "events do not, is a model, a feature or a producer that has changed.",
        [
            ("What is decided", [*_kinds(), _since()]),
            ("Scores", _scores(scope)),
            ("Stages that are missing", _missing()),
            ("Exploration", _exploration()),
            ("Explanations", _explanations()),
        ],
        component=False,
    )


def _kinds() -> list[Panel]:
    rate = Text(
        "Decisions by kind",
        "A second, by what was decided and by what: the score, or the file's decision for what is "
        "late. Nothing while events come: look at the overview, who waits or is down.",
        "AnabranchNoProgress",
    )
    share = Text(
        "Share of each decision",
        "Of all decisions. A step at a mark (promoted, weights, policy) is that change; one "
        "without a mark is the events, or a field that a producer has changed: look at scores.",
        "AnabranchSwapRefused",
    )
    by_kind = "sum by (pipeline, decision, decided_by)"
    shares = (
        f"sum by (pipeline, decision) ({_DECISIONS})"
        f" / on (pipeline) group_left () (sum by (pipeline) ({_DECISIONS}) > 0)"
    )
    name = "{{pipeline}} {{decision}}"
    return [
        lines(
            rate, EVENTS, Query(f"{by_kind} ({_DECISIONS})", f"{name} by {{{{decided_by}}}}"),
            width=8, stacked=True,
        ),
        lines(share, SHARE, Query(shares, name), width=8),
    ]  # fmt: skip


def _since() -> Panel:
    since = Text(
        "Since the last decision",
        "Grows by a second each second while nothing is decided. No harm while nothing is "
        "published either: hold it against the age of the oldest record.",
        "AnabranchNoProgress",
    )
    newest = (
        "max by (pipeline) "
        f"(max_over_time(anabranch_last_decision_timestamp_seconds{{{_CHOSEN}}}[6h]))"
    )
    return lines(since, SECONDS, Query(f"time() - {newest}", "{{pipeline}}"), width=8)


def _scores(scope: Scope) -> list[Panel]:
    cuts = ", ".join(f"{cut:g}" for cut in scope.thresholds)
    where = f" The policy of the file cuts at {cuts}." if cuts else ""
    spread = Text(
        "Scores",
        "How many decisions have which score, over time. A band that moves across a threshold "
        f"changes decisions: compare models and weights with those before.{where}",
        "AnabranchWeightsOfOtherModels",
    )
    quantiles = Text(
        "Scores, quantiles",
        "Interpolated within the histogram's buckets. All of them moving at once is the weights or "
        "a model; p99 alone is the rare events.",
        "AnabranchWeightsOfOtherModels",
    )
    shown = [
        Query(
            f"histogram_quantile({at}, sum by (pipeline, le) ({_BUCKETS}))",
            f"{{{{pipeline}}}} {name}",
        )
        for at, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
    ]
    return [
        heat(spread, f"sum by (le) ({_BUCKETS})", unit=COUNT),
        lines(quantiles, COUNT, *shown, limits=scope.thresholds),
    ]


def _missing() -> list[Panel]:
    stages = Text(
        "Degraded, by stage and reason",
        "Decisions a second that lack the stage. failed: it raised on the event, see its errors; "
        "down: start it; late: give it another worker.",
        _DEGRADED,
    )
    share = Text(
        "Degraded decisions",
        "Share of decisions that were made without every stage. Above 1 % somebody looks at it: "
        "the panel beside says which stage is missing, and why.",
        _DEGRADED,
    )
    missing = f"rate(anabranch_missing_stages_total{{{_CHOSEN}}}[$__rate_interval])"
    by_reason = f"sum by (pipeline, component, reason) ({missing})"
    degraded = f"pipeline:anabranch_degraded_decisions:ratio_rate10m{{{_CHOSEN}}}"
    return [
        lines(
            stages, EVENTS, Query(by_reason, "{{pipeline}}: {{component}} {{reason}}"), stacked=True
        ),
        lines(share, SHARE, Query(degraded, "{{pipeline}}"), limits=[0.01]),
    ]


def _exploration() -> list[Panel]:
    share = Text(
        "Explored share",
        "Of the decisions that `policy: explore:` applies to, the share taken otherwise, to know "
        "their outcome. It is `share` of the file, but for chance; nothing where none explores. "
        "Nothing though the file says so: the policy was refused, or no value is within up_to.",
        "AnabranchSwapRefused",
    )
    count = Text(
        "Explored decisions",
        "In the hour before, by what the policy says: so many outcomes come back of what is not "
        "seen otherwise, and each such event may cost what it was to be declined for.",
        "AnabranchSwapRefused",
    )
    explorable = f"anabranch_explorable_decisions_total{{{_CHOSEN}}}"
    explored = f'anabranch_explorable_decisions_total{{{_CHOSEN},result="explored"}}'
    by = "sum by (pipeline, decision)"
    return [
        lines(
            share, SHARE,
            Query(
                f"{by} (increase({explored}[1h])) / ({by} (increase({explorable}[1h])) > 0)",
                "{{pipeline}} instead of {{decision}}",
            ),
        ),
        lines(
            count, COUNT,
            Query(f"{by} (increase({explored}[1h]))", "{{pipeline}} instead of {{decision}}"),
        ),
    ]  # fmt: skip


def _explanations() -> list[Panel]:
    rate = Text(
        "Explained decisions",
        "A second, by what was decided, where the pipeline file asks for explanations. Nothing "
        "while such decisions are made: no explainer runs, or it is behind.",
        _UNEXPLAINED,
    )
    without = Text(
        "Not explained, by reason",
        "Decisions a second that were to be explained. shed: too old when their turn came, give "
        "it another explainer; version_gone, output_gone: see what was deleted. Counted, not lost.",
        _UNEXPLAINED,
    )
    behind = Text(
        "From decision to explanation",
        "Interpolated within the histogram's buckets, and the age of the oldest decision that the "
        "explainer has not looked at. At `shed_after` it is shed.",
        _UNEXPLAINED,
    )
    explained = f"rate(anabranch_explained_decisions_total{{{_CHOSEN}}}[$__rate_interval])"
    unexplained = f"rate(anabranch_unexplained_decisions_total{{{_CHOSEN}}}[$__rate_interval])"
    took = f"rate(anabranch_explanation_seconds_bucket{{{_CHOSEN}}}[$__rate_interval])"
    oldest = f'anabranch_oldest_record_seconds{{{_CHOSEN},component="explainer"}}'
    return [
        lines(
            rate, EVENTS,
            Query(f"sum by (pipeline, decision) ({explained})", "{{pipeline}} {{decision}}"),
            width=8, stacked=True,
        ),
        lines(
            without, EVENTS,
            Query(f"sum by (pipeline, reason) ({unexplained})", "{{pipeline}} {{reason}}"),
            width=8, stacked=True,
        ),
        lines(
            behind, SECONDS,
            Query(f"histogram_quantile(0.99, sum by (pipeline, le) ({took}))", "{{pipeline}} p99"),
            Query(f"max by (pipeline) ({oldest})", "{{pipeline}} oldest"),
            width=8,
        ),
    ]  # fmt: skip
