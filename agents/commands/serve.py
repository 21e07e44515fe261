"""`anabranch serve`: a whole pipeline behind HTTP, as SageMaker starts a container."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async, until_signalled
from agents.commands.options import (
    BrokerOption,
    CreateTopicsOption,
    MetricsHostOption,
    MetricsPortOption,
    open_registry,
    pipeline_file,
)
from agents.commands.terminal import stderr

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from agents.gateway.limits import Limits
    from models.registry import Registry
    from topics.pipeline import PipelineFile
    from topics.settings import BrokerSettings

_MODELS = Path("/opt/ml/model")
"""Where SageMaker extracts a model's archive."""
_MOST_BYTES = 6 * 2**20
"""So much it sends in a request."""


def serve(
    pipeline: Annotated[
        str,
        typer.Argument(
            metavar="PIPELINE",
            envvar="ANABRANCH_PIPELINE",
            help="Name of a file in deploy/pipelines, or path of a pipeline file.",
        ),
    ],
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="HOST",
            envvar="ANABRANCH_SERVE_HOST",
            help="Where it listens; whoever reaches it may ask.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            min=0,
            max=65535,
            metavar="PORT",
            envvar="SAGEMAKER_BIND_TO_PORT",
            help="0 for any free port.",
        ),
    ] = 8080,
    models: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            envvar="ANABRANCH_SERVE_MODELS",
            help="A registry, or its extracted archive. [default: /opt/ml/model where that holds "
            "something, else the registry]",
        ),
    ] = None,
    broker: BrokerOption = None,
    create_topics: CreateTopicsOption = False,
    deadline_ms: Annotated[
        int,
        typer.Option(
            min=1,
            max=600_000,
            metavar="MS",
            envvar="ANABRANCH_DEADLINE_MS",
            help="How long a request waits for its decisions.",
        ),
    ] = 5000,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
) -> None:
    """Run a whole pipeline and answer questions over HTTP, as SageMaker's container contract says.

    All components in one process beside the gateway's, on an embedded broker of their own unless
    one is named. /ping is 200 once all of them own their partitions; /invocations takes JSON, JSON
    lines and CSV. In the image it listens to all addresses, as SageMaker wants it, and asks for no
    key: let nobody else reach it. SIGTERM ends it within 30 s: what is here then is answered, and
    what is done is committed.

    Examples:
      anabranch serve card-fraud

      curl -d @event.json -H 'content-type: application/json' localhost:8080/invocations

      SAGEMAKER_BIND_TO_PORT=9000 ANABRANCH_PIPELINE=card-fraud anabranch serve
    """  # fmt: skip
    from agents.gateway.limits import Limits
    from agents.service.open_pipeline import check_trained
    from topics.errors import MissingExtra
    from topics.kafka import EmbeddedBroker
    from topics.settings import BrokerSettings

    try:
        from agents.gateway.server import listening
    except ModuleNotFoundError as exc:
        raise MissingExtra("anabranch serve", "gateway") from exc
    file, registry = pipeline_file(pipeline), _registry(models)
    check_trained(file.pipeline, registry)  # said before anything is started
    limits = Limits(
        body_bytes=_MOST_BYTES,
        deadline_s=deadline_ms / 1000,
        longest_deadline_s=max(deadline_ms / 1000, Limits().longest_deadline_s),
    )
    named = os.environ.get("ANABRANCH_BROKER") if broker is None else broker
    with listening(host, port) as listener, ExitStack() as stack:
        if named is None:
            address = stack.enter_context(EmbeddedBroker()).address
            settings = BrokerSettings(broker=address, embedded=True)
        else:
            settings = BrokerSettings(broker=named)
        words = ["--create-topics"] if create_topics else []
        if metrics_port is not None:
            words += ["--metrics-port", str(metrics_port), "--metrics-host", metrics_host]
        run_async(_serve(file, registry, settings, listener, limits, words))


def _registry(folder: Path | None) -> Registry:
    from models.registry import Registry

    if folder is None and _MODELS.is_dir() and any(_MODELS.iterdir()):
        folder = _MODELS
    return open_registry() if folder is None else Registry(folder)


async def _serve(
    file: PipelineFile, registry: Registry, settings: BrokerSettings, listener: socket.socket,
    limits: Limits, words: Sequence[str],
) -> None:  # fmt: skip
    """The gateway answers from the start on, also while the components still start or end.

    *words* are options of the process that runs these, see `anabranch run`.
    """
    from agents.gateway.access.guard import Guard
    from agents.gateway.gateway_process import limits_for, run_gateway
    from agents.process.child_process import worker_process
    from agents.process.tasks import first_of, interruptible

    stopping, running = asyncio.Event(), asyncio.Event()
    until_signalled(stopping)
    host, number = listener.getsockname()[:2]
    place = f"http://{f'[{host}]' if ':' in host else host}:{number}"
    stderr.print(f"{file.pipeline.name} on {place}, from {settings.broker}", soft_wrap=True)

    def up() -> None:
        stderr.print(f"ready: POST {place}/invocations; Ctrl-C stops", soft_wrap=True)

    answering = asyncio.create_task(
        run_gateway(
            file, registry, settings, listener, stopping, limits=limits_for(settings, limits),
            guard=Guard(), up=up, begin=running,
        )
    )  # fmt: skip

    async def work(started: asyncio.Event) -> None:
        async with worker_process(file.path, registry.root, settings, *words) as workers:
            started.set()
            running.set()
            await first_of(workers.ended, lambda: answering)

    try:
        await interruptible(work, stopping)
        await answering
    finally:
        answering.cancel()
