"""Brokers and disks, as their own exporters tell: panels that stay empty where there are none."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from agents.manifests.grafana.frame import framed
from agents.manifests.grafana.panels import BYTES, COUNT, SECONDS, SHARE, Panel, Query, Text, lines
from agents.manifests.grafana.scope import Scope

_DISKS = 'fstype!~"tmpfs|overlay|squashfs|ramfs"'
_NODE = "Needs node_exporter (job node)."
_JMX = "Needs the JMX exporter with deploy/prometheus/kafka-jmx.yml (job kafka)."


def machines(scope: Scope) -> dashboard.Dashboard:
    """What brokers and machines say of themselves."""
    return framed(
        scope,
        "machines",
        "brokers and machines",
        "Is the broker well, and is there room? These panels need exporters beside the workers: "
        "deploy/grafana/README.md says how Prometheus finds them.",
        [("Brokers", [*_replicas(), *_traffic()]), ("Machines", [*_disks(), *_load()])],
        component=False,
    )


def _replicas() -> list[Panel]:
    replicas = Text(
        "Partitions without all replicas",
        f"Under-replicated: a broker is down or behind; offline: nobody leads it, so workers wait. "
        f"Start the broker that is missing. {_JMX}",
        "AnabranchNoProgress",
    )
    requests = Text(
        "Requests, p99",
        f"Of producers and of fetches, by broker. Produce far above what it was: the disk, or a "
        f"replica that is slow. {_JMX}",
        "AnabranchLatencyBudgetBurns",
    )
    time_of = 'kafka_request_seconds{quantile="0.99",request=~"Produce|FetchConsumer"}'
    return [
        lines(
            replicas,
            COUNT,
            Query("sum by (instance) (kafka_under_replicated_partitions)", "{{instance}} under"),
            Query("sum by (instance) (kafka_offline_partitions)", "{{instance}} offline"),
        ),
        lines(requests, SECONDS, Query(time_of, "{{instance}} {{request}}")),
    ]


def _traffic() -> list[Panel]:
    traffic = Text(
        "Bytes in and out",
        f"A second, of each broker. Far more out than in: somebody reads a topic from its "
        f"beginning, an audit or a worker that has begun anew. {_JMX}",
        "AnabranchLagGrows",
    )
    logs = Text(
        "Size of the logs",
        f"Of all partitions of a topic on each broker. Grows until retention: plan the disk for "
        f"it; a topic that grows without end has no retention. {_JMX}",
        "AnabranchLagGrows",
    )
    moved = [
        Query(
            f"sum by (instance) (rate(kafka_bytes_{way}_total[$__rate_interval]))",
            f"{{{{instance}}}} {way}",
        )
        for way in ("in", "out")
    ]
    size = "topk(20, sum by (instance, topic) (kafka_log_size_bytes))"
    return [
        lines(traffic, BYTES, *moved),
        lines(logs, BYTES, Query(size, "{{instance}} {{topic}}")),
    ]


def _disks() -> list[Panel]:
    free = Text(
        "Disk space left",
        f"Share of each file system. A broker whose disk is full ends, and events wait: below 15 % "
        f"shorten retention or add disk. {_NODE}",
        "AnabranchNoProgress",
    )
    busy = Text(
        "Disk busy",
        f"Share of the time that a disk has something to do. Near 1, every write waits: brokers "
        f"want a disk of their own. {_NODE}",
        "AnabranchLatencyBudgetBurns",
    )
    left = f"node_filesystem_avail_bytes{{{_DISKS}}} / node_filesystem_size_bytes{{{_DISKS}}}"
    io = "rate(node_disk_io_time_seconds_total[$__rate_interval])"
    return [
        lines(free, SHARE, Query(left, "{{instance}} {{mountpoint}}")),
        lines(busy, SHARE, Query(io, "{{instance}} {{device}}")),
    ]


def _load() -> list[Panel]:
    cpu = Text(
        "CPU",
        f"Share of a machine's cores that is used. Near 1, workers are late though none of them is "
        f"at fault: fewer on this machine. {_NODE}",
        "AnabranchLatencyBudgetShrinks",
    )
    memory = Text(
        "Memory left",
        f"Share that is available. Near 0 the system ends processes (exit code 137): fewer workers "
        f"here, or more memory. {_NODE}",
        "AnabranchWorkerDown",
    )
    idle = 'rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval])'
    left = "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes"
    return [
        lines(cpu, SHARE, Query(f"1 - avg by (instance) ({idle})", "{{instance}}")),
        lines(memory, SHARE, Query(left, "{{instance}}")),
    ]
