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
from models.data import (
    FrameTable,
    ServedPart,
    count_rows,
    event_rows,
    joined_parts,
    served_by,
    served_parts,
)
from models.report.selective_labels import outcome_weights
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
_NO_ROWS = TrainingData({}, np.zeros(0, np.bool_))
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
        served = joined_parts([*served_parts(pipeline, path)])
        data = _as_served(pipeline, path, data, served.picked(np.array(valid, np.bool_)))
    for name in data.constant(_fields_used(pipeline)):
        log.warning("%s: %s has one value only: features made of it say nothing", path, name)
    return data if pipeline.data.published_at is None else data.dealt(seed)


def served_blocks(
    pipeline: Pipeline, path: str, rows: int, first: int = 0
) -> Iterator[TrainingData]:
    """The rows of a file of `anabranch dataset` in blocks of *rows*, from block *first* on.

    They are checked like any others, so a block may have fewer, or none; with the windows that
    decided them. All rows of the file have an outcome.
    """
    parts = _part_blocks(served_parts(pipeline, path), rows)
    events = _event_blocks(events_and_labels(pipeline, path), rows)
    for place, (block, part) in enumerate(zip(events, parts, strict=True)):
        if place < first:
            continue
        valid: list[bool] = []
        try:
            data = collected(pipeline, block, valid=valid)
        except NoTrainingData:  # no event of the block is one
            yield _NO_ROWS
            continue
        try:
            yield _as_served(pipeline, path, data, part.picked(np.array(valid, np.bool_)))
        except NoTrainingData:
            yield _NO_ROWS


def _event_blocks(
    labelled: Iterator[tuple[dict[str, object], bool]], rows: int
) -> Iterator[list[tuple[dict[str, object], bool]]]:
    """The same in lists of so many."""
    while block := list(islice(labelled, rows)):
        yield block


def _part_blocks(parts: Iterable[ServedPart], rows: int) -> Iterator[ServedPart]:
    """The rows of *parts* in parts of so many; none for no rows."""
    held: ServedPart | None = None
    for part in parts:
        held = part if held is None else joined_parts([held, part])
        while len(held.explored) >= rows:
            yield held.picked(slice(0, rows))
            held = held.picked(slice(rows, None))
    if held is not None and len(held.explored):
        yield held


def _as_served(
    pipeline: Pipeline, path: str, data: TrainingData, served: ServedPart
) -> TrainingData:
    """The rows (N,) with what was *served* of them (N,): windows, and what an outcome stands for.

    Windows of these rows alone would be others: events without an outcome are not among them.
    Rows that have none, as a component failed on them, are left out; so are those that might have
    been explored and were not, for which the explored ones stand.
    """
    whole = np.ones(data.rows, np.bool_)
    for columns in served.windowed.values():
        for column in columns.values():
            whole &= ~np.isnan(column)
    weights = outcome_weights(served.explored, served.propensity)
    is_weighed = bool((weights != 1).any())
    data = replace(data, windowed=served.windowed, weights=weights if is_weighed else None)
    kept = whole & (weights > 0)
    if kept.all():
        return data
    if not whole.all():
        log.warning(
            "%d of %d rows are left out: a component had no output for them",
            int((~whole).sum()), data.rows,
        )  # fmt: skip
    if stood_for := int((whole & (weights == 0)).sum()):
        log.warning(
            "%d of %d rows are left out: they might have been explored and were not, and those "
            "that were stand for them", stood_for, data.rows,
        )  # fmt: skip
    if not kept.any():
        raise NoTrainingData(f"nothing to train {pipeline.name} on: no row of {path} is left")
    return data.picked(kept)


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
