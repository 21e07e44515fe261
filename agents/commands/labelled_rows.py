"""The labelled rows of a command: simulated, or of a file, with a progress bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import Progress

from topics.printable import printable

if TYPE_CHECKING:
    from models.training.data import TrainingData
    from topics.pipeline import Pipeline


def gathered_rows(
    pipeline: Pipeline, data: str | None, *, rows: int, seed: int, bars: Progress
) -> TrainingData:
    """The rows of file *data*, or so many simulated ones. Raises NoTrainingData, DatasetError."""
    from agents.commands import training_data

    if data is None:
        reading = bars.add_task("simulated events", total=rows)
        gathered = training_data.simulated(
            pipeline, rows=rows, seed=seed, progress=lambda n: bars.advance(reading, n)
        )
    else:
        said = escape(f"events of {printable(data)}"[-24:])
        reading = bars.add_task(said, total=training_data.rows_in(data))
        gathered = training_data.from_file(
            pipeline, data, seed=seed, progress=lambda n: bars.advance(reading, n)
        )
    bars.update(reading, total=bars.tasks[reading].completed)  # a source may have fewer
    return gathered
