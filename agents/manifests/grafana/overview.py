"""The dashboard to open first: whether every pipeline is well."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from agents.manifests.grafana.frame import framed
from agents.manifests.grafana.panels import (
    COUNT,
    EVENTS,
    RECORDS,
    SECONDS,
    SHARE,
    Panel,
    Query,
    Text,
    heat,
    lines,
    listing,
    number,
)
from agents.manifests.grafana.scope import Scope

_EVENTS = 'rate(anabranch_events_total{pipeline=~"$pipeline"}[$__rate_interval])'
_BUCKETS = (
    'rate(anabranch_event_to_decision_seconds_bucket{pipeline=~"$pipeline"}[$__rate_interval])'
)
_SLOW = "pipeline:anabranch_slow_decisions:ratio_rate"
_DEAD = 'pipeline:anabranch_dead_letters:ratio_rate10m{pipeline=~"$pipeline"}'
_DEGRADED = 'pipeline:anabranch_degraded_decisions:ratio_rate10m{pipeline=~"$pipeline"}'
_LAG = 'pipeline_component:anabranch_consumer_lag_records:sum{pipeline=~"$pipeline"}'
_OLDEST = 'pipeline_component:anabranch_oldest_record_seconds:max{pipeline=~"$pipeline"}'
_UNOWNED = 'pipeline_component:anabranch_unowned_partitions:sum{pipeline=~"$pipeline"}'
_UNACCOUNTED = 'anabranch_unaccounted_events_total{pipeline=~"$pipeline"}'


def overview(scope: Scope) -> dashboard.Dashboard:
    """Rate, latency, lag, dead letters and what is unaccounted for."""
    return framed(
        scope,
        "overview",
        "overview",
        "Is every pipeline well? From here go to the component that is behind.",
        [
            ("Now", [*_flow_now(), *_ends_now(), *_ages_now()]),
            ("Events and their latency", [*_events(), *_latency()]),
            ("Who is down or waits for whom", [*_owners(), *_waits()]),
            ("What is left to do and what died", _ends()),
            ("Proof", _proof()),
        ],
        component=False,
    )


def _flow_now() -> list[Panel]:
    events = Text(
        "Events",
        "Events that ended, a second. Zero while events are published: look at the lag, then at "
        "the component that has most of it.",
        "AnabranchNoProgress",
    )
    latency = Text(
        "Latency, p99",
        "99 of 100 decisions come within this time of their event's publication. Above 250 ms "
        "they use up the objective's budget: see which component takes long, or has lag.",
        "AnabranchLatencyBudgetBurns",
    )
    slow = Text(
        "Slow decisions",
        "Share of the last five minutes' decisions that took over 250 ms. The objective is 1 % in "
        "30 days: if it stays above, see which component takes long, or has lag.",
        "AnabranchLatencyBudgetShrinks",
    )
    p99 = Query(f"histogram_quantile(0.99, sum by (le) ({_BUCKETS}))")
    return [
        number(events, EVENTS, Query(f"sum({_EVENTS})")),
        number(latency, SECONDS, p99, limits=[0.25, 1]),
        number(
            slow, SHARE, Query(f'max({_SLOW}5m{{pipeline=~"$pipeline"}})'), limits=[0.01, 0.144]
        ),
    ]


def _ends_now() -> list[Panel]:
    dead = Text(
        "Dead letters",
        "Share of events of the last ten minutes without a decision. List them, mend the cause, "
        "redrive them.",
        "AnabranchDeadLetters",
    )
    unaccounted = Text(
        "Unaccounted",
        "Events that ended in neither decision nor dead letter. Must be 0: run an audit.",
        "AnabranchUnaccountedEvents",
    )
    lag = Text(
        "Lag",
        "Records that wait, over all components. Backlog is worked off by itself; what grows for "
        "ten minutes needs another worker.",
        "AnabranchLagGrows",
    )
    return [
        number(dead, SHARE, Query(f"max({_DEAD})"), limits=[0.01, 0.1]),
        number(unaccounted, COUNT, Query(f"sum({_UNACCOUNTED})"), limits=[1]),
        number(lag, RECORDS, Query(f"sum({_LAG})"), limits=[1000, 10000]),
    ]


def _ages_now() -> list[Panel]:
    oldest = Text(
        "Oldest record",
        "Age of the oldest record that some component has still to deal with. What nears the "
        "topics' retention is lost when it reaches it: see which partition it is.",
        "AnabranchLagGrows",
    )
    decided = Text(
        "Since the last decision",
        "Grows while nothing is decided. No harm while nothing is published: then no record waits.",
        "AnabranchNoProgress",
    )
    unowned = Text(
        "Partitions without an owner",
        "Of all components: nobody works on these. A rebalance passes within seconds; what stays "
        "is a worker to be started.",
        "AnabranchComponentGone",
    )
    dealt = Text(
        "Rebalances",
        "In the last quarter of an hour, over all components; a start counts. More than one a "
        "minute: workers that end and start again, or miss their sessions.",
        "AnabranchWorkerDown",
    )
    where = '{pipeline=~"$pipeline"}'
    last = f"max_over_time(anabranch_last_decision_timestamp_seconds{where}[6h])"
    rebalances = f"sum(increase(anabranch_rebalances_total{where}[15m]))"
    return [
        number(oldest, SECONDS, Query(f"max({_OLDEST})"), limits=[60, 3600], width=6),
        number(decided, SECONDS, Query(f"time() - max({last})"), width=6),
        number(unowned, COUNT, Query(f"sum({_UNOWNED})"), limits=[1], width=6),
        number(dealt, COUNT, Query(rebalances), limits=[15], width=6),
    ]


def _owners() -> list[Panel]:
    unowned = Text(
        "Partitions without an owner",
        "By component: `down` in `anabranch status`. All of its partitions: no worker of it runs.",
        "AnabranchComponentGone",
    )
    busy = Text(
        "Partitions that start or wait",
        "By component: `starting` (reads its past again: its log says how far it is) and `waiting` "
        "in `anabranch status`. What stays waits for a stage that is down or hangs.",
        "AnabranchRowsWait",
    )
    states = (
        "sum by (pipeline, component, state) "
        '(anabranch_partitions{pipeline=~"$pipeline",state!="working"})'
    )
    return [
        lines(unowned, COUNT, Query(_UNOWNED, "{{pipeline}}/{{component}}")),
        lines(busy, COUNT, Query(states, "{{pipeline}}/{{component}} {{state}}")),
    ]


def _events() -> list[Panel]:
    rate = Text(
        "Events by their end",
        "Decisions and dead letters a second. They should follow what producers publish; a gap "
        "between the two is lag, or a worker that is down.",
        "AnabranchWorkerDown",
    )
    latency = Text(
        "Latency",
        "From an event's publication to its decision. A second band far above the first is often "
        "one partition that is behind: look at each component's lag.",
        "AnabranchLatencyBudgetBurns",
    )
    ends = Query(f"sum by (pipeline, outcome) ({_EVENTS})", "{{pipeline}} {{outcome}}")
    return [lines(rate, EVENTS, ends), heat(latency, f"sum by (le) ({_BUCKETS})")]


def _latency() -> list[Panel]:
    quantiles = Text(
        "Latency, quantiles",
        "Interpolated within the histogram's buckets. The dashed line is the objective: 99 % "
        "within 250 ms. If p99 is above it and p50 far below, look for one slow partition.",
        "AnabranchLatencyBudgetBurns",
    )
    burn = Text(
        "Burn of the latency budget",
        "1 uses up the budget in exactly 30 days. Above 14.4 in an hour, or 6 in six hours, "
        "somebody is called; above 1 in three days it is a ticket.",
        "AnabranchLatencyBudgetBurns",
    )
    shown = [
        Query(
            f"histogram_quantile({at}, sum by (pipeline, le) ({_BUCKETS}))",
            f"{{{{pipeline}}}} {name}",
        )
        for at, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    ]
    burns = [
        Query(f'{_SLOW}{window}{{pipeline=~"$pipeline"}} / 0.01', f"{{{{pipeline}}}} {window}")
        for window in ("5m", "30m", "1h", "6h", "3d")
    ]
    return [
        lines(quantiles, SECONDS, *shown, limits=[0.25]),
        lines(burn, COUNT, *burns, limits=[1, 6, 14.4]),
    ]


def _waits() -> list[Panel]:
    rows = Text(
        "Rows that wait",
        "Held by a component until the stage has answered. They come and go; if they stay, see "
        "which stage answers none: `anabranch status PIPELINE` says what to do.",
        "AnabranchRowsWait",
    )
    longest = Text(
        "Longest wait",
        "For how long a stage that rows wait for has answered none, in the worst partition. Above "
        "30 s somebody is called: start that stage, or mend it.",
        "AnabranchRowsWait",
    )
    down = Text(
        "Stages that are down",
        "1 while a component finds that the stage gives neither answers nor signs of life. It "
        "must be started; meanwhile decisions are degraded, or wait.",
        "AnabranchStageDown",
    )
    where, by = '{pipeline=~"$pipeline"}', "by (pipeline, component, stage)"
    name = "{{pipeline}}: {{component}} for {{stage}}"
    return [
        lines(rows, COUNT, Query(f"sum {by} (anabranch_waiting_rows{where})", name), width=8),
        lines(
            longest, SECONDS, Query(f"max {by} (anabranch_waiting_seconds{where})", name),
            limits=[30], width=8,
        ),
        lines(down, COUNT, Query(f"max {by} (anabranch_stage_down{where})", name), width=8),
    ]  # fmt: skip


def _ends() -> list[Panel]:
    lag = Text(
        "Lag",
        "Records that wait for each component; those of stages are micro-batches. The first "
        "component in the flow whose lag grows is the one to give another worker.",
        "AnabranchLagGrows",
    )
    dead = Text(
        "Dead letters",
        "By the stage that failed and its error. InvalidEvent is for the producers to mend; every "
        "other error is a component's.",
        "AnabranchDeadLetters",
    )
    degraded = Text(
        "Degraded decisions",
        "Share of decisions that were made without every stage. The component whose lag is high, "
        "or whose rows are absent, is the one that is missing.",
        "AnabranchDegradedDecisions",
    )
    redriven = Text(
        "Redriven events",
        "Dead letters that went through the pipeline again, by their end. Those that died again "
        "have not been mended: show one of them.",
        "AnabranchDeadLetters",
    )
    died = 'rate(anabranch_dead_letters_total{pipeline=~"$pipeline"}[$__rate_interval])'
    again = 'anabranch_redriven_events_total{pipeline=~"$pipeline"}'
    by_error = Query(
        f"sum by (pipeline, stage, error) ({died})", "{{pipeline}}/{{stage}} {{error}}"
    )
    by_outcome = Query(f"sum by (pipeline, outcome) ({again})", "{{pipeline}} {{outcome}}")
    return [
        lines(lag, RECORDS, Query(_LAG, "{{pipeline}}/{{component}}")),
        lines(dead, EVENTS, by_error),
        lines(degraded, SHARE, Query(_DEGRADED, "{{pipeline}}"), limits=[0.01]),
        lines(redriven, COUNT, by_outcome),
    ]


def _proof() -> list[Panel]:
    join = Text(
        "Unaccounted, and at the join",
        "Rows at the join are on their way; an event that is unaccounted for is a fault: run an "
        "audit.",
        "AnabranchUnaccountedEvents",
    )
    audit = Text(
        "Audit",
        "Source records as the topics themselves tell, by `anabranch audit --follow`. Lost, "
        "duplicated and expired unread must be 0.",
        "AnabranchAuditFailed",
    )
    alerts = Text("Alerts", "Firing, or about to. Each has a page of its name among the runbooks.")
    states = (
        'sum by (pipeline, state) (anabranch_audit_records{pipeline=~"$pipeline",'
        'state=~"lost|duplicated|expired_unread|in_flight|dead"})'
    )
    waiting = 'sum by (pipeline) (anabranch_join_rows{pipeline=~"$pipeline"})'
    return [
        lines(
            join,
            COUNT,
            Query(f"sum by (pipeline) ({_UNACCOUNTED})", "{{pipeline}} unaccounted"),
            Query(waiting, "{{pipeline}} at the join"),
            width=8,
        ),
        lines(audit, RECORDS, Query(states, "{{pipeline}} {{state}}"), width=8),
        listing(alerts, Query('ALERTS{alertname=~"Anabranch.*"}'), ["instance"], width=8),
    ]
