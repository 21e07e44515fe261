"""What a Compose file has beside Anabranch itself: Kafka, Prometheus, Grafana, volumes."""

from __future__ import annotations

from collections.abc import Iterator

from agents.manifests.compose_text import compose_mount


def kafka() -> Iterator[str]:
    """A broker that listens to the components, and on 127.0.0.1 to the host."""
    yield from """\
  # One node that is broker and controller. make kafka-image builds another KAFKA_IMAGE.
  kafka:
    image: ${KAFKA_IMAGE:-apache/kafka:4.1.0}
    restart: unless-stopped
    stop_grace_period: 30s
    mem_limit: 1g
    cpus: 2.0
    ports: ["127.0.0.1:${KAFKA_PORT:-9092}:9092"]
    environment:
      CLUSTER_ID: 5L6g3nShT-eMCtK--X86sw
      KAFKA_HEAP_OPTS: -Xms256m -Xmx512m
      KAFKA_NODE_ID: 1
      KAFKA_PROCESS_ROLES: broker,controller
      KAFKA_CONTROLLER_QUORUM_VOTERS: 1@localhost:9093
      KAFKA_CONTROLLER_LISTENER_NAMES: CONTROLLER
      KAFKA_LISTENERS: INTERNAL://:19092,HOST://:9092,CONTROLLER://localhost:9093
      KAFKA_ADVERTISED_LISTENERS: INTERNAL://kafka:19092,HOST://127.0.0.1:${KAFKA_PORT:-9092}
      KAFKA_LISTENER_SECURITY_PROTOCOL_MAP: INTERNAL:PLAINTEXT,HOST:PLAINTEXT,CONTROLLER:PLAINTEXT
      KAFKA_INTER_BROKER_LISTENER_NAME: INTERNAL
      KAFKA_AUTO_CREATE_TOPICS_ENABLE: "false"
      KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS: 0
      KAFKA_LOG_DIRS: /var/lib/kafka/data
      KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR: 1
      KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR: 1
      KAFKA_TRANSACTION_STATE_LOG_MIN_ISR: 1
      KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR: 1
      KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR: 1
    volumes: ["kafka-data:/var/lib/kafka/data"]
    healthcheck:
      test: [CMD, bash, -c, ": < /dev/tcp/127.0.0.1/9092"]
      interval: 3s
      timeout: 3s
      start_period: 60s
      retries: 10
""".splitlines()


def dashboards(source: str) -> Iterator[str]:
    """Prometheus and Grafana, set up by what is in *source*/deploy."""
    deploy = f"{source}/deploy"
    provisioning = compose_mount(f"{deploy}/grafana/provisioning", "/etc/grafana/provisioning")
    dashboards = compose_mount(f"{deploy}/grafana/dashboards", "/var/lib/grafana/dashboards")
    yield from (
        "",
        "  prometheus:",
        "    image: ${PROMETHEUS_IMAGE:-prom/prometheus:v3.5.0}",
        "    profiles: [monitoring]",
        "    restart: unless-stopped",
        "    mem_limit: 512m",
        "    cpus: 1.0",
        '    ports: ["127.0.0.1:${PROMETHEUS_PORT:-9090}:9090"]',
        "    volumes:",
        f"      - {compose_mount(f'{deploy}/prometheus', '/etc/prometheus')}",
        '      - "prometheus-data:/prometheus"',
        "    healthcheck:",
        "      test: [CMD, wget, -q, -O, /dev/null, http://127.0.0.1:9090/-/healthy]",
        "      interval: 10s",
        "      timeout: 5s",
        "      retries: 6",
        "",
        "  # Anybody on this machine may look; who changes something needs the password's file.",
        "  grafana:",
        "    image: ${GRAFANA_IMAGE:-grafana/grafana:12.1.0}",
        "    profiles: [monitoring]",
        "    restart: unless-stopped",
        "    mem_limit: 512m",
        "    cpus: 1.0",
        '    ports: ["127.0.0.1:${GRAFANA_PORT:-3000}:3000"]',
        "    environment:",
        '      GF_AUTH_ANONYMOUS_ENABLED: "true"',
        "      GF_AUTH_ANONYMOUS_ORG_ROLE: Viewer",
        "      GF_SECURITY_ADMIN_PASSWORD__FILE: /run/secrets/grafana-password",
        '      GF_ANALYTICS_REPORTING_ENABLED: "false"',
        "    secrets: [grafana-password]",
        "    volumes:",
        f"      - {provisioning}",
        f"      - {dashboards}",
        '      - "grafana-data:/var/lib/grafana"',
        "    depends_on: [prometheus]",
        "    healthcheck:",
        "      test: [CMD, wget, -q, -O, /dev/null, http://127.0.0.1:3000/api/health]",
        "      interval: 10s",
        "      timeout: 5s",
        "      retries: 6",
    )


def end() -> Iterator[str]:
    """Secrets and volumes."""
    yield from (
        "",
        "secrets:",
        "  grafana-password:",
        "    file: ${SECRETS:-./.secrets}/grafana-password",
        "",
        "volumes:",
        "  grafana-data:",
        "  kafka-data:",
        "  prometheus-data:",
        "  registry:",
        "  reports:",
    )
