"""One component at a time: what it reads, how long it takes, what fails."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from agents.manifests.grafana.frame import framed
from agents.manifests.grafana.panels import (
    COUNT,
    RECORDS,
    ROWS,
    SECONDS,
    Panel,
    Query,
    Text,
    heat,
    lines,
)
from agents.manifests.grafana.scope import Scope

_CHOSEN = 'pipeline=~"$pipeline",component=~"$component"'
_NAME = "{{pipeline}}/{{component}}"


def component(scope: Scope) -> dashboard.Dashboard:
    """Rows, failures, times, batches and windows of the components that are chosen."""
    return framed(
        scope,
        "component",
        "component",
        "What one component does. `<component>.keyed` is what deals its events out by another key; "
        "`weigh` is the weighting agent.",
        [
            ("Rows", _rows()),
            ("What is left to do", _left()),
            ("Waits", _waits()),
            ("Time", _time()),
            ("Windows", _windows()),
        ],
        component=True,
    )


def _rate(metric: str, more: str = "") -> str:
    return f"rate({metric}{{{_CHOSEN}{more}}}[$__rate_interval])"


def _by(labels: str, what: str) -> str:
    return f"sum by (pipeline, component{labels}) ({what})"


def _rows() -> list[Panel]:
    rows = Text(
        "Rows",
        "Rows written a second; absent ones have no output and are weighed without it. If absent "
        "rows rise, see their errors beside this.",
        "AnabranchDegradedDecisions",
    )
    failures = Text(
        "Rows without an output",
        "By error. StageMissing: another component gave no output in time, so mend that one first. "
        "Others are the component's own: show a dead letter of that stage.",
        "AnabranchDeadLetters",
    )
    skipped = Text(
        "Records that are no stage batch",
        "So many in all; somebody else writes to the component's input topic. Find out who with "
        "`anabranch watch TOPIC --json`, and withdraw the right to.",
        "AnabranchDegradedDecisions",
    )
    odd = f"anabranch_skipped_records_total{{{_CHOSEN}}}"
    none = f"0 * {_by('', f'anabranch_consumer_lag_records{{{_CHOSEN}}}')}"
    outcomes = Query(_by(", outcome", _rate("anabranch_rows_total")), f"{_NAME} {{{{outcome}}}}")
    errors = Query(_by(", error", _rate("anabranch_rows_failed_total")), f"{_NAME} {{{{error}}}}")
    return [
        lines(rows, ROWS, outcomes, width=8),
        lines(failures, ROWS, errors, width=8),
        lines(skipped, RECORDS, Query(f"{_by('', odd)} or {none}", _NAME), width=8),
    ]


def _left() -> list[Panel]:
    lag = Text(
        "Lag, by topic and partition",
        "The 20 with most records that wait; those of stages are micro-batches. Rises with the "
        "event rate and falls by itself. One alone: a hot key, or its worker; all: another worker.",
        "AnabranchLagGrows",
    )
    age = Text(
        "Age of the oldest record, by topic and partition",
        "The 20 oldest that a component has still to deal with. Grows by a second each second "
        "where nothing moves; what nears the topic's retention is about to be lost.",
        "AnabranchNoProgress",
    )
    rebalances = Text(
        "Rebalances",
        "In five minutes; a start counts once. Again and again: workers that end and start again, "
        "or are too busy to answer within their session: see their logs.",
        "AnabranchWorkerDown",
    )
    by, name = "(pipeline, component, topic, partition)", "{{component}}: {{topic}}[{{partition}}]"
    most = f"topk(20, sum by {by} (anabranch_partition_lag_records{{{_CHOSEN}}}))"
    oldest = f"topk(20, max by {by} (anabranch_oldest_record_seconds{{{_CHOSEN}}}))"
    dealt = _by("", f"increase(anabranch_rebalances_total{{{_CHOSEN}}}[5m])")
    return [
        lines(lag, RECORDS, Query(most, name), width=8),
        lines(age, SECONDS, Query(oldest, name), width=8),
        lines(rebalances, COUNT, Query(dealt, _NAME), width=8),
    ]


def _waits() -> list[Panel]:
    rows = Text(
        "Rows that wait",
        "Held until the stage has answered, over all partitions. If they stay, look at that stage "
        "next: rows wait where their stage does.",
        "AnabranchRowsWait",
    )
    longest = Text(
        "Longest wait",
        "For how long the stage has answered none while rows wait for it. A stage that works off a "
        "backlog answers all the time; one that does not is down, starting or hangs.",
        "AnabranchRowsWait",
    )
    name = f"{_NAME} for {{{{stage}}}}"
    held = _by(", stage", f"anabranch_waiting_rows{{{_CHOSEN}}}")
    seconds = f"max by (pipeline, component, stage) (anabranch_waiting_seconds{{{_CHOSEN}}})"
    return [
        lines(rows, COUNT, Query(held, name)),
        lines(longest, SECONDS, Query(seconds, name), limits=[30]),
    ]


def _time() -> list[Panel]:
    spread = Text(
        "From fetch to output",
        "How long batches take, until their output is on the broker. A second band far above the "
        "first: the broker, a pause of the machine, or a component's slow rows.",
        "AnabranchLatencyBudgetBurns",
    )
    stage = Text(
        "From fetch to output, p99",
        "Compare with the time in transform: what is left is the broker and the wire.",
        "AnabranchLatencyBudgetBurns",
    )
    inference = Text(
        "In transform, p50 and p99",
        "A model that has become slower shows here alone: compare with the version before, and "
        "with its other variants.",
        "AnabranchLatencyBudgetBurns",
    )
    batch = Text(
        "Rows a fetch",
        "Batches grow by themselves under load. Always near one at a high rate: the producer's or "
        "the broker's settings; thousands: there is backlog.",
        "AnabranchLagGrows",
    )
    buckets = _rate("anabranch_stage_seconds_bucket")
    within = _by(", le", _rate("anabranch_inference_seconds_bucket"))
    mean = (
        f"{_by('', _rate('anabranch_batch_rows_sum'))} / "
        f"({_by('', _rate('anabranch_batch_rows_count'))} > 0)"
    )
    return [
        heat(spread, f"sum by (le) ({buckets})"),
        lines(stage, SECONDS, Query(f"histogram_quantile(0.99, {_by(', le', buckets)})", _NAME)),
        lines(
            inference,
            SECONDS,
            Query(f"histogram_quantile(0.5, {within})", f"{_NAME} p50"),
            Query(f"histogram_quantile(0.99, {within})", f"{_NAME} p99"),
        ),
        lines(batch, COUNT, Query(mean, _NAME)),
    ]


def _windows() -> list[Panel]:
    late = Text(
        "Late rows",
        "A second, behind their entity's newest: late ones still count, too_late and truncated do "
        "not. If those stay, raise `lateness` or mend the producer.",
        "AnabranchLateRows",
    )
    early = Text(
        "Early rows",
        "A second, let go before a source that is down: their windows may lack its newest rows. "
        "Start the component that deals the source out.",
        "AnabranchEarlyRows",
    )
    answers = Text(
        "Late answers",
        "A second, of stages about events that have ended without them: such a stage was down, and "
        "catches up.",
        "AnabranchLateAnswers",
    )
    clocks = Text(
        "Events from the future",
        "A second, dated more than `future` after they were published: refused or clipped. The log "
        "names one a minute; mend that producer's clock.",
        "AnabranchClocksOff",
    )
    keys = Text(
        "Odd record keys",
        "A second, without a record key or with another than the event's (missing, other), and of "
        "some events looked at those on another partition than others of their key (elsewhere).",
        "AnabranchKeysMixed",
    )
    entries = Text(
        "Entries in memory",
        "Events and outcomes that windowed features remember. Growth without end: more keys than "
        "were planned for; see the workers' memory on the capacity dashboard.",
        "AnabranchLagGrows",
    )
    strays = _rate("anabranch_placed_keys_total", ',placed="elsewhere"')
    lateness = _by(", kind", _rate("anabranch_late_rows_total"))
    remembered = _by(", history", f"anabranch_history_entries{{{_CHOSEN}}}")
    rows = Query(_by("", _rate("anabranch_early_rows_total")), _NAME)
    return [
        lines(late, ROWS, Query(lateness, f"{_NAME} {{{{kind}}}}"), width=8),
        lines(early, ROWS, rows, width=8),
        lines(entries, COUNT, Query(remembered, f"{_NAME} {{{{history}}}}"), width=8),
        lines(answers, ROWS, Query(_by("", _rate("anabranch_late_answers_total")), _NAME), width=8),
        lines(
            clocks,
            ROWS,
            Query(
                _by(", outcome", _rate("anabranch_future_events_total")), f"{_NAME} {{{{outcome}}}}"
            ),
            width=8,
        ),
        lines(
            keys,
            ROWS,
            Query(_by(", kind", _rate("anabranch_odd_keys_total")), f"{_NAME} {{{{kind}}}}"),
            Query(_by("", strays), f"{_NAME} elsewhere"),
            width=8,
        ),
    ]
