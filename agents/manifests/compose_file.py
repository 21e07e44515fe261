"""A Compose file for a pipeline: Kafka, topics, training, and a container for each component.

Both generations of Compose read it: no `version`, no `deploy`, and limits as `mem_limit` and
`cpus`. Each service that is one of ours extends `x-serve`, and each component `x-worker`.
"""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import NamedTuple

from agents.manifests.compose_stack import VOLUMES, alertmanager, grafana, kafka, prometheus
from agents.manifests.compose_yaml import EXTENDS, Anchored, Content, compose_text, escaped, mount
from topics.errors import AnabranchError
from topics.pipeline import EXPLAINER, MONITOR, TRAINER, WEIGH, Pipeline
from topics.pipeline import workers as of_pipeline
from topics.printable import printable

METRICS_PORT = 9464
AUDIT_PORT = 9465
GATEWAY_PORT = 8080
GATEWAY = "gateway"
BROKER = "kafka:19092"
"""Where the components find Kafka; 9092 is for the host."""
PIPELINES = "/pipelines"
"""Where a container finds a pipeline file that is not in the image, and what is beside it."""
_CPU_SHARES = 128
"""Of a processor that is wanted by more than there is: an eighth of what others get."""
_HOME = "/var/lib/anabranch"
_REGISTRY = f"registry:{_HOME}/registry"
_DATASETS = "renewals"
"""The volume with the data sets of renewals that run."""
_AWAITING = "awaiting"
"""That with decisions that wait for outcomes."""
_COMMENTS = {
    "x-serve": "What all of ours have; @hostname: a container keeps it when it is started again.",
    "x-worker": "What every component has; the alias is where Prometheus finds every replica.",
    "kafka": "One node that is broker and controller. make kafka-image builds another KAFKA_IMAGE.",
    "topics": "A job: ends before the components start.",
    "train": "A job, and the only one that writes the registry.",
    WEIGH: "The weighting agent: rejoins the stages, and writes the decisions.",
    EXPLAINER: "Says why, on the topic of explanations; where cores are short it comes last.",
    GATEWAY: "Questions over HTTP, from this machine alone: whoever reaches the port may ask.",
    MONITOR: "Holds decisions against outcomes; what waits for them is made again from the topics.",
    TRAINER: "Renews models by itself, and writes the registry too; several may run.",
    "audit": "Accounts for every event, from the topics alone. An operator's commands run here "
    "too.",
    "alertmanager": "Who is told of an alert: fill in the receiver in its alertmanager.yml.",
    "grafana": "Anybody on this machine may look; who changes something needs the password's file.",
}
SERVICES = (
    "kafka",
    "topics",
    "train",
    "producer",
    GATEWAY,
    MONITOR,
    TRAINER,
    "audit",
    "prometheus",
    "alertmanager",
    "grafana",
)
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

    Last is the explainer, where the file asks for one. Raises ServiceNameTaken.
    """
    names = [*of_pipeline(pipeline)]
    for name in names:
        if name in SERVICES:
            raise ServiceNameTaken(pipeline.name, name)
    return [*names, WEIGH, *([EXPLAINER] if pipeline.explain.is_continuous else [])]


_SPANS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG", "OTEL_RESOURCE_ATTRIBUTES",
)  # fmt: skip
"""Of whoever calls Compose; without an endpoint there are no spans."""


def render(pipeline: Pipeline, layout: Layout) -> str:
    """The file's text. Raises ServiceNameTaken."""
    names = workers(pipeline)
    serve = Anchored("serve", _serve(layout))
    worker = Anchored("worker", _worker(serve, layout))
    services: Content = {
        "kafka": kafka(),
        "topics": _topics(serve, layout),
        "train": _train(serve, layout),
        **{name: _component(name, worker, layout) for name in names},
    }
    if layout.simulated:
        services["producer"] = _producer(serve, layout)
    services |= {
        GATEWAY: _gateway(serve, layout),
        MONITOR: _monitor(serve, layout, pipeline),
        **({TRAINER: _trainer(serve, layout)} if pipeline.renew.is_by_itself else {}),
        "audit": _audit(serve, layout),
        "prometheus": prometheus(layout.source),
        "alertmanager": alertmanager(layout.source),
        "grafana": grafana(layout.source),
    }
    volumes = (
        VOLUMES | {_AWAITING: None} | ({_DATASETS: None} if pipeline.renew.is_by_itself else {})
    )
    content: Content = {
        "x-serve": serve, "x-worker": worker, "services": services, "volumes": volumes,
    }  # fmt: skip
    return compose_text(_head(pipeline, layout), content, _COMMENTS)


def _head(pipeline: Pipeline, layout: Layout) -> Iterator[str]:
    yield f"{pipeline.name} on Kafka, a container for each component. Written by"
    yield f"  {printable(layout.command)}"
    yield "which writes it anew: put changes of your own into docker-compose.override.yml."
    yield ""
    yield "  docker compose up -d                          Kafka, topics, models, components, audit"
    if layout.simulated:
        yield "  docker compose --profile producer up -d       and simulated events"
    else:
        yield "    with DATA=FOLDER and TRAINING_FILE=FILE set: what there is to train on"
    yield "  docker compose --profile gateway up -d        and POST http://127.0.0.1:8080/predict"
    yield "  docker compose --profile monitor up -d        and how good decisions are, by outcomes"
    if pipeline.renew.is_by_itself:
        yield "  docker compose --profile trainer up -d        and models that renew themselves"
    yield "  docker compose --profile monitoring up -d     and Prometheus, Alertmanager, Grafana"
    yield f"  docker compose up -d --scale {next(iter(of_pipeline(pipeline)))}=3"
    yield f"  docker compose run --rm --no-deps audit audit {printable(quote(layout.argument))}"
    yield ""
    yield "docker-compose 1.29 takes the same words. deploy/containers.md says more."


def _serve(layout: Layout) -> Content:
    return {
        **_image(layout, "serve"),
        "environment": {
            "ANABRANCH_BROKER": BROKER,
            "ANABRANCH_INSTANCE_ID": "@hostname",
            **{name: f"${{{name}:-}}" for name in _SPANS},
        },
        "init": True,
        "read_only": True,
        "tmpfs": ["/tmp"],  # noqa: S108  # the container's own
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": 256,
        **_volumes(layout),
    }


def _worker(serve: Anchored, layout: Layout) -> Content:
    return {
        EXTENDS: serve,
        "restart": "unless-stopped",
        "stop_grace_period": "30s",
        **_limits("512m", cpus=1.0),
        **_volumes(layout, f"{_REGISTRY}:ro"),
        "networks": {"default": {"aliases": ["anabranch-worker"]}},
        "depends_on": {
            job: {"condition": "service_completed_successfully"} for job in ("topics", "train")
        },
        "healthcheck": _healthcheck(METRICS_PORT),
    }


def _image(layout: Layout, target: str) -> Content:
    return {
        "image": f"${{{target.upper()}_IMAGE:-anabranch:{target}}}",
        "build": {
            "context": escaped(layout.source),
            "dockerfile": "deploy/Dockerfile",
            "target": target,
            "args": {"BASE": "${PYTHON_IMAGE:-python:3.12-slim}"},
        },
    }


def _volumes(layout: Layout, *volumes: str) -> Content:
    """What is mounted: the pipeline's folder where it is not in the image, and *volumes*."""
    folder = [] if layout.folder is None else [mount(layout.folder, PIPELINES)]
    mounted = [*folder, *volumes]
    return {"volumes": mounted} if mounted else {}


def _limits(memory: str, *, cpus: float) -> Content:
    return {"mem_limit": memory, "cpus": cpus}


def _healthcheck(port: int) -> Content:
    return {
        "test": ["CMD", "python", "-IS", "/opt/anabranch/healthcheck.py", str(port)],
        "interval": "5s", "timeout": "5s", "start_period": "60s", "retries": 3,
    }  # fmt: skip


def _topics(serve: Anchored, layout: Layout) -> Content:
    return {
        EXTENDS: serve,
        "command": ["topics", escaped(layout.argument), "--create"],
        "depends_on": {"kafka": {"condition": "service_healthy"}},
        "restart": "no",
        "mem_limit": "256m",
        "healthcheck": {"disable": True},
    }


def _train(serve: Anchored, layout: Layout) -> Content:
    volumes = [_REGISTRY, f"reports:{_HOME}/reports"]
    if layout.simulated:
        rows = ["--rows", "${TRAINING_ROWS:-150000}"]
    else:
        rows = ["--data", "/data/${TRAINING_FILE:?the file in DATA to train on}"]
        volumes.append("${DATA:-./data}:/data:ro")
    return {
        EXTENDS: serve,
        **_image(layout, "train"),
        "command": ["train", escaped(layout.argument), "--if-needed", *rows],
        "restart": "no",
        **_limits("2g", cpus=2.0),
        **_volumes(layout, *volumes),
        "healthcheck": {"disable": True},
    }


def _component(name: str, worker: Anchored, layout: Layout) -> Content:
    shares = {"cpu_shares": _CPU_SHARES} if name == EXPLAINER else {}
    return {EXTENDS: worker, "command": _run(name, layout), **shares}


def _run(name: str, layout: Layout) -> list[str]:
    return ["run", escaped(layout.argument), "--component", name, *_metrics(METRICS_PORT)]


def _metrics(port: int) -> list[str]:
    return ["--metrics-host", "0.0.0.0", "--metrics-port", str(port)]  # noqa: S104  # a container


def _producer(serve: Anchored, layout: Layout) -> Content:
    return {
        EXTENDS: serve,
        "profiles": ["producer"],
        "command": ["simulate", escaped(layout.argument), "--rate", "${EVENTS_PER_S:-200}"],
        "depends_on": {WEIGH: {"condition": "service_healthy"}},
        "restart": "on-failure",
        **_limits("256m", cpus=1.0),
        "healthcheck": {"disable": True},
    }


def gateway_command(layout: Layout, *words: str) -> list[str]:
    """What the gateway's container runs: *words* say who may ask."""
    listens = ["--host", "0.0.0.0", "--port", str(GATEWAY_PORT)]  # noqa: S104  # a container
    return ["gateway", escaped(layout.argument), *listens, *words, *_metrics(METRICS_PORT)]


def _gateway(serve: Anchored, layout: Layout) -> Content:
    return {
        EXTENDS: serve,
        "profiles": [GATEWAY],
        "command": gateway_command(layout, "--without-keys"),
        "restart": "unless-stopped",
        "stop_grace_period": "30s",
        "ports": [f"127.0.0.1:${{GATEWAY_PORT:-{GATEWAY_PORT}}}:{GATEWAY_PORT}"],
        **_limits("1g", cpus=1.0),
        **_volumes(layout, f"{_REGISTRY}:ro"),
        "networks": {"default": {"aliases": ["anabranch-gateway"]}},
        "depends_on": {"topics": {"condition": "service_completed_successfully"}},
        "healthcheck": _healthcheck(METRICS_PORT),
    }


def _monitor(serve: Anchored, layout: Layout, pipeline: Pipeline) -> Content:
    registry = _REGISTRY if pipeline.weighting.is_moved else f"{_REGISTRY}:ro"
    return {
        EXTENDS: serve,
        **_image(layout, "train"),  # what watches for drift is not in the image that serves
        "profiles": [MONITOR],
        "command": [
            "monitor", escaped(layout.argument), "--folder", f"{_HOME}/monitor",
            *_metrics(METRICS_PORT),
        ],
        "restart": "unless-stopped",
        "stop_grace_period": "30s",
        **_limits("1g", cpus=1.0),
        **_volumes(layout, registry, f"{_AWAITING}:{_HOME}/monitor"),
        "networks": {"default": {"aliases": ["anabranch-monitor"]}},
        "depends_on": {"topics": {"condition": "service_completed_successfully"}},
        "healthcheck": _healthcheck(METRICS_PORT),
    }  # fmt: skip


def _trainer(serve: Anchored, layout: Layout) -> Content:
    return {
        EXTENDS: serve,
        **_image(layout, "train"),
        "profiles": [TRAINER],
        "command": ["renew", escaped(layout.argument), *_metrics(METRICS_PORT)],
        "restart": "unless-stopped",
        "stop_grace_period": "30s",
        **_limits("2g", cpus=2.0),
        **_volumes(layout, _REGISTRY, f"{_DATASETS}:{_HOME}/renewals", f"reports:{_HOME}/reports"),
        "networks": {"default": {"aliases": ["anabranch-trainer"]}},
        "depends_on": {
            job: {"condition": "service_completed_successfully"} for job in ("topics", "train")
        },
        "healthcheck": _healthcheck(METRICS_PORT),
    }


def _audit(serve: Anchored, layout: Layout) -> Content:
    return {
        EXTENDS: serve,
        "command": ["audit", escaped(layout.argument), "--follow", *_metrics(AUDIT_PORT)],
        "restart": "unless-stopped",
        **_limits("512m", cpus=1.0),
        **_volumes(layout, f"{_REGISTRY}:ro"),
        "networks": {"default": {"aliases": ["anabranch-audit"]}},
        "depends_on": {"topics": {"condition": "service_completed_successfully"}},
        "healthcheck": _healthcheck(AUDIT_PORT),
    }
