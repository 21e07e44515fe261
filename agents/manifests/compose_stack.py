"""What a Compose file has beside Anabranch itself: Kafka, what watches and who is told, volumes."""

from __future__ import annotations

from agents.manifests.compose_yaml import Content, mount

VOLUMES: Content = dict.fromkeys(
    ("alertmanager-data", "grafana-data", "kafka-data", "prometheus-data", "registry", "reports")
)


_DATA = "/var/lib/kafka/data"
_STARTS_WITH_MIB, _LIVES_WITH_MIB = 64, 256
"""Kafka's indexes are made in advance, 10 MiB a segment; the rest is time to do something."""


def kafka() -> Content:
    """A broker that listens to the components, and on 127.0.0.1 to the host.

    It says itself when its volume is full: Kafka ends then, and when it is started again it says
    "a fault occurred in an unsafe memory access operation", or nothing.
    """
    return {
        "image": "${KAFKA_IMAGE:-apache/kafka:4.1.0}",
        "command": ["bash", "-c", f"{_room(_STARTS_WITH_MIB)}; exec /etc/kafka/docker/run"],
        "restart": "unless-stopped",
        "stop_grace_period": "30s",
        "mem_limit": "1g",
        "cpus": 2.0,
        "ports": ["127.0.0.1:${KAFKA_PORT:-9092}:9092"],
        "environment": {
            "CLUSTER_ID": "5L6g3nShT-eMCtK--X86sw",
            "KAFKA_HEAP_OPTS": "-Xms256m -Xmx512m",
            "KAFKA_NODE_ID": 1,
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_LISTENERS": "INTERNAL://:19092,HOST://:9092,CONTROLLER://localhost:9093",
            "KAFKA_ADVERTISED_LISTENERS": "INTERNAL://kafka:19092,"
            "HOST://127.0.0.1:${KAFKA_PORT:-9092}",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "INTERNAL:PLAINTEXT,HOST:PLAINTEXT,"
            "CONTROLLER:PLAINTEXT",
            "KAFKA_INTER_BROKER_LISTENER_NAME": "INTERNAL",
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": 0,
            "KAFKA_LOG_DIRS": _DATA,
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": 1,
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": 1,
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": 1,
            "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": 1,
            "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": 1,
        },
        "volumes": [f"kafka-data:{_DATA}"],
        "healthcheck": {
            "test": [
                "CMD", "bash", "-c", f"{_room(_LIVES_WITH_MIB)}; : < /dev/tcp/127.0.0.1/9092",
            ],
            "interval": "3s", "timeout": "3s", "start_period": "60s", "retries": 10,
        },
    }  # fmt: skip


def _room(mib: int) -> str:
    """Commands for bash: they end it, and say why, with less than *mib* left on the volume."""
    free = f'df -Pk {_DATA} | tail -n 1 | tr -s " " | cut -d " " -f 4'
    said = (
        f"the volume kafka-data is full: $$free MiB left, {mib} needed; make room on the disk of "
        "Docker's volumes (deploy/containers.md)"
    )
    return (
        f'free=$$(( $$({free}) / 1024 )); (( free >= {mib} )) || {{ echo "{said}" >&2; exit 1; }}'
    )


def prometheus(source: str) -> Content:
    """Prometheus, set up by what is in *source*/deploy."""
    return {
        "image": "${PROMETHEUS_IMAGE:-prom/prometheus:v3.5.0}",
        **_MONITORING,
        "ports": ["127.0.0.1:${PROMETHEUS_PORT:-9090}:9090"],
        "volumes": [
            mount(f"{source}/deploy/prometheus", "/etc/prometheus"), "prometheus-data:/prometheus",
        ],
        "healthcheck": _answers("http://127.0.0.1:9090/-/healthy"),
    }  # fmt: skip


def alertmanager(source: str) -> Content:
    """Alertmanager, with the receiver that is filled in in *source*/deploy/prometheus."""
    return {
        "image": "${ALERTMANAGER_IMAGE:-prom/alertmanager:v0.28.1}",
        **_MONITORING,
        "ports": ["127.0.0.1:${ALERTMANAGER_PORT:-9093}:9093"],
        "volumes": [
            mount(f"{source}/deploy/prometheus", "/etc/alertmanager"),
            "alertmanager-data:/alertmanager",
        ],
        "healthcheck": _answers("http://127.0.0.1:9093/-/healthy"),
    }


def grafana(source: str) -> Content:
    """Grafana, with the dashboards that are in *source*/deploy."""
    folder = f"{source}/deploy/grafana"
    return {
        "image": "${GRAFANA_IMAGE:-grafana/grafana:12.1.0}",
        **_MONITORING,
        "ports": ["127.0.0.1:${GRAFANA_PORT:-3000}:3000"],
        "environment": {
            "GF_AUTH_ANONYMOUS_ENABLED": "true",
            "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
            "GF_SECURITY_ADMIN_PASSWORD__FILE": _PASSWORD,
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
        },
        "volumes": [
            # Mounted as a secret of Compose would be; that one is looked for, and warned of, also
            # while Grafana is not wanted.
            {
                "type": "bind",
                "source": "${SECRETS:-./.secrets}/grafana-password",
                "target": _PASSWORD,
                "read_only": True,
            },
            mount(f"{folder}/provisioning", "/etc/grafana/provisioning"),
            mount(f"{folder}/dashboards", "/var/lib/grafana/dashboards"),
            "grafana-data:/var/lib/grafana",
        ],
        "depends_on": ["prometheus"],
        "healthcheck": _answers("http://127.0.0.1:3000/api/health"),
    }


_PASSWORD = "/run/secrets/grafana-password"  # noqa: S105  # where it is, not what
_MONITORING: Content = {
    "profiles": ["monitoring"], "restart": "unless-stopped", "mem_limit": "512m", "cpus": 1.0,
}  # fmt: skip


def _answers(url: str) -> Content:
    return {
        "test": ["CMD", "wget", "-q", "-O", "/dev/null", url],
        "interval": "10s", "timeout": "5s", "retries": 6,
    }  # fmt: skip
