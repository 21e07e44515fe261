"""The port on which a command that goes on serves its metrics and its health."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agents.commands.terminal import stderr

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from agents.process.liveness import Liveness
    from topics.pipeline import PipelineFile


@contextmanager
def monitored(
    address: tuple[str, int], file: PipelineFile, registry: CollectorRegistry, liveness: Liveness
) -> Iterator[None]:
    """Serve metrics and health at host and port meanwhile, and say where."""
    from agents.process.build_info import BuildInfo
    from agents.process.http_port import http_server

    BuildInfo.of(file).show(registry, file.pipeline.name)
    with http_server(*address, registry, liveness) as number:
        url = f"http://{address[0]}:{number}"
        stderr.print(f"metrics and health on {url}/metrics, /healthz, /readyz", soft_wrap=True)
        yield
