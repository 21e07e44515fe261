"""What a process is made of, as a metric: so a dashboard tells which versions run side by side."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Gauge

from models.registry import digest_of
from topics.pipeline import PipelineFile


class BuildInfo(NamedTuple):
    """What runs."""

    version: str
    """Of Anabranch."""
    pipeline_digest: str
    """What `sha256sum` says of the pipeline file."""
    python: str
    onnxruntime: str

    @classmethod
    def of(cls, file: PipelineFile) -> BuildInfo:
        """What this process runs *file* with."""
        return cls(
            version=version("anabranch"),
            pipeline_digest=digest_of(file.content),
            python=platform.python_version(),
            onnxruntime=version("onnxruntime"),
        )

    def show(self, registry: CollectorRegistry, pipeline: str) -> None:
        """Put it on *registry*."""
        Gauge(
            "anabranch_build_info",
            "1, with what runs: Anabranch, Python and ONNX Runtime, and the pipeline file's digest",
            ("pipeline", *self._fields),
            registry=registry,
        ).labels(pipeline, *self).set(1)
