"""A Compose file for a pipeline: Kafka, topics, training, and a container for each component.

Both generations of Compose read it: no `version`, no `deploy`, and limits as `mem_limit` and
`cpus`. Each service that is one of ours extends `x-serve`, and each component `x-worker`.
"""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import NamedTuple

from agents.manifests.compose_stack import dashboards, end, kafka
from agents.manifests.compose_text import compose_mount, compose_scalar
from topics.errors import AnabranchError
from topics.pipeline import WEIGH, Pipeline, scalar
from topics.pipeline import workers as of_pipeline
from topics.printable import printable

METRICS_PORT = 9464
AUDIT_PORT = 9465
BROKER = "kafka:19092"
"""Where the components find Kafka; 9092 is for the host."""
PIPELINES = "/pipelines"
"""Where a container finds a pipeline file that is not in the image, and what is beside it."""
_HOME = "/var/lib/anabranch"
SERVICES = ("kafka", "topics", "train", "producer", "audit", "prometheus", "grafana")
"""What there is beside the components."""


class ServiceNameTaken(AnabranchError):
    """A component is called like a service that is there for all of them."""

    def __init__(self, pipeline: str, component: str) -> None:
        super().__init__(
            f"component {component} of pipeline {pipeline} has the name of another service "
            f"({', '.join(SERVICES)}): give it another name"
        )


class Layout(NamedTuple):
    """Where things are, as seen from the Compose file's directory."""

    command: str
    """What writes the file, for the comment."""
    source: str
    """The directory that has deploy/Dockerfile."""
    argument: str
    """The pipeline, as commands in a container name it."""
    folder: str | None
    """The directory to be mounted on PIPELINES; None for a pipeline that is in the image."""
    simulated: bool
    """Whether there is a simulator: to train on, and to produce."""


def workers(pipeline: Pipeline) -> list[str]:
    """The workers of components, in the order of the pipeline file, and the weighting agent.

    Raises ServiceNameTaken.
    """
    names = [*of_pipeline(pipeline)]
    for name in names:
        if name in SERVICES:
            raise ServiceNameTaken(pipeline.name, name)
    return [*names, WEIGH]


def render(pipeline: Pipeline, layout: Layout) -> str:
    """The file's text. Raises ServiceNameTaken."""
    names = workers(pipeline)
    parts = [
        _head(pipeline, layout), _shared(layout), ["services:"], kafka(), _jobs(layout),
        *(_worker(name, layout) for name in names),
        _producer(layout) if layout.simulated else [], _audit(layout),
        dashboards(layout.source), end(),
    ]  # fmt: skip
    return "\n".join(line for part in parts for line in part) + "\n"


def _head(pipeline: Pipeline, layout: Layout) -> Iterator[str]:
    yield f"# {pipeline.name} on Kafka, a container for each component. Written by"
    yield f"#   {printable(layout.command)}"
    yield "# which writes it anew: put changes of your own into docker-compose.override.yml."
    yield "#"
    yield "#   docker compose up -d                          Kafka, topics, models, components"
    if layout.simulated:
        yield "#   docker compose --profile producer up -d       and simulated events"
    else:
        yield "#     with DATA=FOLDER and TRAINING_FILE=FILE set: what there is to train on"
    yield "#   docker compose --profile monitoring up -d     and an audit, Prometheus, Grafana"
    yield f"#   docker compose up -d --scale {next(iter(of_pipeline(pipeline)))}=3"
    yield f"#   docker compose run --rm --no-deps audit audit {printable(quote(layout.argument))}"
    yield "#"
    yield "# docker-compose 1.29 takes the same words. deploy/containers.md says more."
    yield ""


def _shared(layout: Layout) -> Iterator[str]:
    yield "x-serve: &serve"
    yield from _image(layout, "serve")
    yield from (
        "  environment:",
        f"    ANABRANCH_BROKER: {BROKER}",
        '    ANABRANCH_INSTANCE_ID: "@hostname"  # a container keeps it when it is started again',
        "  init: true",
        "  read_only: true",
        "  tmpfs: [/tmp]",
        "  cap_drop: [ALL]",
        '  security_opt: ["no-new-privileges:true"]',
        "  pids_limit: 256",
        *_volumes(layout),
        "",
        "x-worker: &worker",
        "  <<: *serve",
        "  restart: unless-stopped",
        "  stop_grace_period: 30s",
        "  mem_limit: 512m",
        "  cpus: 1.0",
        *_volumes(layout, f"registry:{_HOME}/registry:ro"),
        "  networks:",
        "    default:",
        "      aliases: [anabranch-worker]  # where Prometheus finds every replica",
        "  depends_on:",
        "    topics: {condition: service_completed_successfully}",
        "    train: {condition: service_completed_successfully}",
        *_healthcheck(METRICS_PORT, indent=2),
        "",
    )


def _image(layout: Layout, target: str, indent: int = 2) -> Iterator[str]:
    lines = (
        f"image: ${{{target.upper()}_IMAGE:-anabranch:{target}}}",
        "build:",
        f"  context: {compose_scalar(layout.source)}",
        "  dockerfile: deploy/Dockerfile",
        f"  target: {target}",
        '  args: {BASE: "${PYTHON_IMAGE:-python:3.12-slim}"}',
    )  # fmt: skip
    yield from (" " * indent + line for line in lines)


def _volumes(layout: Layout, *volumes: str, indent: int = 2) -> list[str]:
    """What is mounted: *volumes*, and the pipeline's folder where it is not in the image."""
    found = [scalar(volume) for volume in volumes]
    if layout.folder is not None:
        found.insert(0, compose_mount(layout.folder, PIPELINES))
    return [f"{' ' * indent}volumes: [{', '.join(found)}]"] if found else []


def _healthcheck(port: int, indent: int = 4) -> Iterator[str]:
    lines = (
        "healthcheck:",
        f'  test: [CMD, python, -IS, /opt/anabranch/healthcheck.py, "{port}"]',
        "  interval: 5s",
        "  timeout: 5s",
        "  start_period: 60s",
        "  retries: 3",
    )
    yield from (" " * indent + line for line in lines)


def _jobs(layout: Layout) -> Iterator[str]:
    train = f"train, {compose_scalar(layout.argument)}, --if-needed"
    more = []
    if layout.simulated:
        train += ', --rows, "${TRAINING_ROWS:-150000}"'
    else:
        train += ', --data, "/data/${TRAINING_FILE:?the file in DATA to train on}"'
        more = ["${DATA:-./data}:/data:ro"]
    yield from (
        "",
        "  # Jobs: each ends before the components start.",
        "  topics:",
        "    <<: *serve",
        f"    command: [topics, {compose_scalar(layout.argument)}, --create]",
        "    depends_on:",
        "      kafka: {condition: service_healthy}",
        '    restart: "no"',
        "    mem_limit: 256m",
        "    healthcheck: {disable: true}",
        "",
        "  # The only one that writes the registry.",
        "  train:",
        "    <<: *serve",
        *_image(layout, "train", indent=4),
        f"    command: [{train}]",
        '    restart: "no"',
        "    mem_limit: 2g",
        "    cpus: 2.0",
        *_volumes(
            layout, f"registry:{_HOME}/registry", f"reports:{_HOME}/reports", *more, indent=4
        ),
        "    healthcheck: {disable: true}",
    )


def _worker(name: str, layout: Layout) -> Iterator[str]:
    yield ""
    if name == WEIGH:
        yield "  # The weighting agent: rejoins the stages, and writes the decisions."
    yield f"  {scalar(name)}:"
    yield "    <<: *worker"
    words = f"run, {compose_scalar(layout.argument)}, --component, {scalar(name)}, {_metrics()}"
    yield f"    command: [{words}]"


def _metrics(port: int = METRICS_PORT) -> str:
    return f'--metrics-host, 0.0.0.0, --metrics-port, "{port}"'


def _producer(layout: Layout) -> Iterator[str]:
    argument = compose_scalar(layout.argument)
    yield from (
        "",
        "  producer:",
        "    <<: *serve",
        "    profiles: [producer]",
        f'    command: [simulate, {argument}, --rate, "${{EVENTS_PER_S:-200}}"]',
        "    depends_on:",
        f"      {WEIGH}: {{condition: service_healthy}}",
        "    restart: on-failure",
        "    mem_limit: 256m",
        "    cpus: 1.0",
        "    healthcheck: {disable: true}",
    )


def _audit(layout: Layout) -> Iterator[str]:
    argument = compose_scalar(layout.argument)
    yield from (
        "",
        "  # Accounts for every event, from the topics alone. An operator's commands run here too.",
        "  audit:",
        "    <<: *serve",
        "    profiles: [monitoring]",
        f"    command: [audit, {argument}, --follow, {_metrics(AUDIT_PORT)}]",
        "    restart: unless-stopped",
        "    mem_limit: 512m",
        "    cpus: 1.0",
        f"    volumes: ['registry:{_HOME}/registry:ro']",
        "    networks:",
        "      default:",
        "        aliases: [anabranch-audit]",
        "    depends_on:",
        "      topics: {condition: service_completed_successfully}",
        *_healthcheck(AUDIT_PORT),
    )
