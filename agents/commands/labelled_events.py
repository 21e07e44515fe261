"""Labelled events for training: simulated, or from a file, validated like any event."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import orjson
from pydantic_core import ValidationError
from rich.markup import escape
from rich.progress import Progress

from agents.commands.terminal import BAR_NAME_WIDTH
from models.arrays import Bools
from models.component import Column
from models.data import FrameTable, count_rows, event_rows, served_by, served_windows
from models.simulators import TRAINING
from models.training.train import TrainingData
from models.training.training_memory import check_memory, rows_about
from topics.errors import AnabranchError
from topics.events import FIELD_MISSING, EventDecoder, field_reasons
from topics.pipeline import Pipeline
from topics.printable import printable

log = logging.getLogger(__name__)

OnRows = Callable[[int], None]
"""Told how many more rows were read."""
_CHUNK = 20_000
_NO_TIME = "1970-01-01T00:00:00Z"
"""Of every row whose file has no times, so that the same file gives the same models."""


class NoTrainingData(AnabranchError):
    """There is nothing to train on."""


def training_rows(
    pipeline: Pipeline, data: str | None, *, rows: int, seed: int, bars: Progress
) -> TrainingData:
    """The rows of file *data*, or so many simulated ones, with a progress bar.

    Raises NoTrainingData, DatasetError.
    """
    if data is None:
        bar = bars.add_task("simulated events", total=rows)
    else:
        name = escape(f"events of {printable(data)}"[-BAR_NAME_WIDTH:])
        bar = bars.add_task(name, total=count_rows(data))

    def on_rows(count: int) -> None:
        bars.advance(bar, count)

    if data is None:
        training = simulated(pipeline, rows=rows, seed=seed, on_rows=on_rows)
    else:
        training = from_file(pipeline, data, seed=seed, on_rows=on_rows)
    bars.update(bar, total=bars.tasks[bar].completed)  # a source may have fewer
    return training


def simulated(
    pipeline: Pipeline, *, rows: int, seed: int, on_rows: OnRows = lambda _: None
) -> TrainingData:
    """*rows* events of the pipeline's simulator, or as many as it has, in time order."""
    if pipeline.name not in TRAINING:
        raise NoTrainingData(
            f"pipeline {pipeline.name} has no simulator: give its data with --data FILE"
        )
    events = TRAINING[pipeline.name](seed)
    return collected(pipeline, ((e.event, e.label) for e in islice(events, rows)), on_rows)


def from_file(
    pipeline: Pipeline, path: str | FrameTable, *, seed: int = 0,
    on_rows: OnRows = lambda _: None,
) -> TrainingData:  # fmt: skip
    """All events of a file (Parquet, CSV, JSONL) or frame, with the pipeline file's label column.

    One that is too large is refused before it is read, or, as nobody knows how much comes
    through a pipe, as soon as that shows. Rows without a time of their own are dealt out at
    random (`TrainingData.dealt`).
    """
    rows = path.rows if isinstance(path, FrameTable) else rows_about(path)
    if rows is not None:
        check_memory(pipeline, rows, str(path))
    valid: list[bool] = []
    data = collected(pipeline, events_and_labels(pipeline, path), on_rows, valid)
    if isinstance(path, str) and served_by(path) == pipeline.name:
        data = _with_served_windows(pipeline, path, data, np.array(valid, np.bool_))
    for name in data.constant(_fields_used(pipeline)):
        log.warning("%s: %s has one value only: features made of it say nothing", path, name)
    return data if pipeline.data.published_at is None else data.dealt(seed)


def _with_served_windows(
    pipeline: Pipeline, path: str, data: TrainingData, valid: Bools
) -> TrainingData:
    """The rows with the windows that decided them, of which *valid* (N,) are events still.

    Windows of these rows alone would be others: events without an outcome are not among them.
    Rows that have none, as a component failed on them, are left out.
    """
    windowed: dict[str, dict[str, Column]] = {
        component: {name: column[valid] for name, column in columns.items()}
        for component, columns in served_windows(pipeline, path).items()
    }
    whole = np.ones(data.rows, np.bool_)
    for columns in windowed.values():
        for column in columns.values():
            whole &= ~np.isnan(column)
    data = replace(data, windowed=windowed)
    if whole.all():
        return data
    log.warning(
        "%d of %d rows are left out: a component had no output for them",
        int((~whole).sum()), data.rows,
    )  # fmt: skip
    if not whole.any():
        raise NoTrainingData(f"nothing to train {pipeline.name} on: no row has all its features")
    return data.picked(whole)


def _fields_used(pipeline: Pipeline) -> list[str]:
    """The event fields whose values features are made of."""
    used = {feature.of for spec in pipeline.components for feature in spec.features or []}
    return [name for name in pipeline.event.fields if name in used]


def events_and_labels(
    pipeline: Pipeline, path: str | FrameTable
) -> Iterator[tuple[dict[str, object], bool]]:
    """The rows of a file as the events that a producer would publish, not validated; labels.

    Raises NoTrainingData when the pipeline file names no label column.
    """
    if pipeline.data.label is None and served_by(path) != pipeline.name:
        raise NoTrainingData(
            f"pipeline {pipeline.name} names no label column: add data.label to its file"
        )
    for batch in event_rows(pipeline, path, now=lambda: _NO_TIME, labelled=True):
        labels = [] if batch.labels is None else batch.labels.tolist()
        yield from zip(batch.events(), labels, strict=True)


def collected(
    pipeline: Pipeline,
    labelled: Iterable[tuple[dict[str, object], bool]],
    on_rows: OnRows = lambda _: None,
    valid: list[bool] | None = None,
) -> TrainingData:
    """The valid ones of these events and their labels, as columns; *valid* is told which these are.

    Raises NoTrainingData, and TooManyRows as soon as there is no memory to train on so many.
    """
    decoder = EventDecoder(pipeline.event)
    parts: list[dict[str, np.ndarray]] = []
    labels: list[bool] = []
    rows = iter(labelled)
    invalid = 0
    valid = [] if valid is None else valid
    while chunk := list(islice(rows, _CHUNK)):
        events: list[dict[str, Any]] = []
        for event, label in chunk:
            try:
                events.append(decoder.event(orjson.dumps(event)))
            except ValidationError as exc:
                invalid += 1
                valid.append(False)
                field, cause = field_reasons(exc)[0]
                reason = f"{field}: {'has no value' if cause == FIELD_MISSING else cause}"
                continue
            labels.append(bool(label))
            valid.append(True)
        parts.append(decoder.columns(events))
        on_rows(len(chunk))
        check_memory(pipeline, len(labels), "what was read so far", held=len(labels))
    if not labels:
        why = "the data has no rows"
        if invalid:
            why = f"all {invalid} rows are invalid events, the last because {reason}"
        raise NoTrainingData(f"nothing to train {pipeline.name} on: {why}")
    if invalid:
        log.warning(
            "%d of %d rows are left out, as they are no valid events: the last because %s",
            invalid, invalid + len(labels), reason,
        )  # fmt: skip
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return TrainingData(columns, np.array(labels, np.bool_))
