"""Runs for TensorBoard: `tensorboard --logdir $ANABRANCH_HOME/tensorboard`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from models.report.tracking import Param, Tracker


class _Events:
    def __init__(self, writer: EventFileWriter, began: datetime) -> None:
        self._writer, self._time = writer, began.timestamp()

    def log_params(self, params: Mapping[str, Param]) -> None:
        rows = "".join(f"| {name} | {value} |\n" for name, value in params.items())
        self._text("params", f"| parameter | value |\n| --- | --- |\n{rows}")

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._add(Summary(value=values))

    def log_artifact(self, path: Path) -> None:
        self._text(f"artifacts/{path.name}", str(path.resolve()))

    def _text(self, tag: str, markdown: str) -> None:
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(
            dtype=DT_STRING, string_val=[markdown.encode()], tensor_shape=shape
        )  # fmt: skip
        kind = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        self._add(Summary(value=[Summary.Value(tag=tag, metadata=kind, tensor=tensor)]))

    def _add(self, summary: Summary) -> None:
        self._writer.add_event(Event(wall_time=self._time, step=0, summary=summary))


@contextmanager
def tensorboard_run(home: Path, pipeline: str, began: datetime) -> Iterator[Tracker]:
    """A run as event files under *home*/tensorboard/PIPELINE/TIME."""
    folder = home / "tensorboard" / pipeline / f"{began:%Y%m%dT%H%M%S.%fZ}"
    folder.mkdir(parents=True, exist_ok=True)
    writer = EventFileWriter(str(folder))
    try:
        yield _Events(writer, began)
    finally:
        writer.close()
