"""Whether there are enough workers, and what they are busy with."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from agents.manifests.grafana.frame import framed
from agents.manifests.grafana.panels import (
    BYTES,
    COUNT,
    EVENTS,
    ROWS,
    SECONDS,
    Panel,
    Query,
    Text,
    lines,
    listing,
)
from agents.manifests.grafana.scope import Scope

_CHOSEN = 'pipeline=~"$pipeline",component=~"$component"'
_NAME = "{{pipeline}}/{{component}}"
_JOB = 'job=~".*anabranch.*"'
_GROWS = "AnabranchLagGrows"


def capacity(scope: Scope) -> dashboard.Dashboard:
    """Workers, their CPU and memory, and how busy each component is."""
    return framed(
        scope,
        "capacity",
        "capacity",
        "Are there enough workers? Add one to the component whose lag grows and whose processes "
        "are near a whole core; not more than it has partitions.",
        [
            ("Workers", [*_workers(), *_processes(), _builds()]),
            ("Components", [*_busy(), *_costs()]),
        ],
        component=True,
    )


def _rate(metric: str) -> str:
    return f"rate({metric}{{{_CHOSEN}}}[$__rate_interval])"


def _by(what: str) -> str:
    return f"sum by (pipeline, component) ({what})"


def _workers() -> list[Panel]:
    up = Text(
        "Processes that answer",
        "1 answers its scrapes, 0 does not: see whether it runs, and what it said last.",
        "AnabranchWorkerDown",
    )
    running = Text(
        "Workers of each component",
        "More than the topic has partitions are idle. None: nobody does its work.",
        "AnabranchComponentGone",
    )
    share = Text(
        "Events by weighting agent",
        "Decisions and dead letters a second, of each worker that decides. Uneven: keys are, or "
        "the partitions do not divide by the workers.",
        _GROWS,
    )
    ends = 'rate(anabranch_events_total{pipeline=~"$pipeline"}[$__rate_interval])'
    count = f"count by (pipeline, component) (anabranch_consumer_lag_records{{{_CHOSEN}}})"
    each = Query(f"sum by (pipeline, instance) ({ends})", "{{pipeline}} {{instance}}")
    return [
        lines(up, COUNT, Query(f"up{{{_JOB}}}", "{{job}} {{instance}}"), width=8),
        lines(running, COUNT, Query(count, _NAME), width=8),
        lines(share, EVENTS, each, width=8, stacked=True),
    ]


def _processes() -> list[Panel]:
    cpu = Text(
        "CPU",
        "Cores that each process uses. A worker's event loop uses one at most: near 1 with lag "
        "that grows, give its components a worker of their own or another one.",
        _GROWS,
    )
    memory = Text(
        "Memory",
        "Resident. Grows with keys that windows remember, and with backlog at the join; without "
        "either, restart the worker and keep its log.",
        _GROWS,
    )
    files = Text(
        "Open files",
        "Sockets and files of each process. A steady rise ends at the process's limit: restart it, "
        "and keep its log.",
        "AnabranchWorkerDown",
    )
    cores = f"rate(process_cpu_seconds_total{{{_JOB}}}[$__rate_interval])"
    resident = f"process_resident_memory_bytes{{{_JOB}}}"
    return [
        lines(cpu, COUNT, Query(cores, "{{instance}}"), width=8),
        lines(memory, BYTES, Query(resident, "{{instance}}"), width=8),
        lines(files, COUNT, Query(f"process_open_fds{{{_JOB}}}", "{{instance}}"), width=8),
    ]


def _builds() -> Panel:
    builds = Text(
        "What runs",
        "Of each process: Anabranch, Python, ONNX Runtime, and what `sha256sum` says of its "
        "pipeline file. Two of one kind are an upgrade under way, or one that has stopped halfway.",
        "AnabranchWorkerDown",
    )
    what = 'anabranch_build_info{pipeline=~"$pipeline"}'
    return listing(builds, Query(what), ["endpoint", "namespace", "container"], width=24)


def _busy() -> list[Panel]:
    busy = Text(
        "Time between fetch and output",
        "Seconds a second, over all partitions; the time on the broker counts too. A component "
        "far above the others is where a row spends its latency.",
        _GROWS,
    )
    inference = Text(
        "Time in transform",
        "Cores that the component's own code and its model use. Near 1: another worker, or a "
        "faster variant of the model.",
        _GROWS,
    )
    return [
        lines(busy, SECONDS, Query(_by(_rate("anabranch_stage_seconds_sum")), _NAME), stacked=True),
        lines(
            inference,
            COUNT,
            Query(_by(_rate("anabranch_inference_seconds_sum")), _NAME),
            stacked=True,
        ),
    ]


def _costs() -> list[Panel]:
    cost = Text(
        "Transform, for each row",
        "Falls as batches grow. Higher than it was at the same rate: a new model, or a machine "
        "that is shared.",
        "AnabranchLatencyBudgetShrinks",
    )
    rows = Text(
        "Rows",
        "That each component reads, a second. The most that was seen without lag is what its "
        "workers can do: plan with half of it.",
        _GROWS,
    )
    waiting = Text(
        "Rows at the join",
        "In flight between the first stage and the decision. Near its bound the faster stages are "
        "paused: look for the slowest one.",
        _GROWS,
    )
    spent = _by(_rate("anabranch_inference_seconds_sum"))
    per_row = f"{spent} / ({_by(_rate('anabranch_rows_total'))} > 0)"
    read = Query(_by(_rate("anabranch_batch_rows_sum")), _NAME)
    join = 'sum by (pipeline) (anabranch_join_rows{pipeline=~"$pipeline"})'
    return [
        lines(cost, SECONDS, Query(per_row, _NAME), width=8),
        lines(rows, ROWS, read, width=8),
        lines(waiting, COUNT, Query(join, "{{pipeline}}"), width=8),
    ]
