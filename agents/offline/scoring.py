"""Scoring the rows of a source, or extracting their features: what is opened, and what came of it.

In service is what the registry and the pipeline file say: the newest versions, or those that the
file names. What the control topic of a broker says is not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from agents.components import open_component
from agents.offline.errors import NoFeatures
from agents.offline.event_chunks import FileEvents, RowSource
from agents.offline.offline_run import OfflineRun
from agents.offline.output_file import dead_letters_of, writing
from agents.offline.row_tables import DecisionTables, FeatureTables, RowTable, RowTables
from agents.service.open_pipeline import check_trained, check_weighed_models
from agents.service.open_version import open_weights
from agents.weigh import DecisionRule
from models.registry import Registry, digest_of
from topics.pipeline import EVENTS, ComponentSpec, Pipeline, PipelineFile, in_order
from topics.records import ControlState

Progress = Callable[[int], None]
"""Told how many more rows are done."""


class FileSummary(BaseModel):
    """What came of a file. Always: rows = written + dead."""

    model_config = ConfigDict(frozen=True)

    pipeline: str
    source: str
    output: str
    rows: int
    written: int
    dead: int
    """Rows without output: no valid events, or what a component failed on."""
    dead_letters: str | None
    """The file that they stand in; None where there are none."""
    errors: dict[str, int]
    """Class of error → how many rows died of it."""
    decisions: dict[str, int]
    """Decision → how many rows have it; empty for features."""
    degraded: int
    """Rows that were decided though a stage failed on them."""
    models: dict[str, str]
    """Component → its model and the model's digest."""
    weights: int | None
    """Their version; None for features."""


class Extraction:
    """The features of events, as components extract them."""

    def __init__(self, file: PipelineFile, registry: Registry) -> None:
        """Open what is needed. Raises NoFeatures, RegistryError, ComponentNotLoadable."""
        pipeline = file.pipeline
        specs = [spec for spec in pipeline.components if spec.features is not None]
        if not specs:
            raise NoFeatures(pipeline.name)
        needed = with_inputs(pipeline, specs)
        check_trained(pipeline, registry, needed)
        self.pipeline = pipeline
        self.weights: int | None = None
        self._components = {
            name: open_component(pipeline, name, registry, file.path.parent) for name in needed
        }
        self._tables: RowTables = FeatureTables(pipeline, specs)

    @property
    def schema(self) -> Any:
        """Of the tables, a pyarrow.Schema."""
        return self._tables.schema

    @property
    def models(self) -> dict[str, str]:
        """Component → its model and the model's digest."""
        return {
            name: f"{opened.model.model} {opened.model.digest}".strip()
            for name, opened in self._components.items()
        }

    def tables(self, source: RowSource, *, labelled: bool | None = None) -> Iterator[RowTable]:
        """All rows of *source*, in its order, in memory that does not grow with it.

        Labels are outcomes that windows see once they are known. With *labelled* there must be
        some, without (False) they are not looked at. Raises DatasetError, OutOfTimeOrder.
        """
        events = FileEvents(self.pipeline, source, labelled=labelled)
        for done in OfflineRun(self.pipeline, self._components).run(events):
            yield self._tables.table(done)


class Scoring(Extraction):
    """Scores and decisions, as the weighting agent would take them of these events."""

    def __init__(self, file: PipelineFile, registry: Registry) -> None:
        """Open the pipeline. Raises RegistryError, ComponentNotLoadable."""
        pipeline = file.pipeline
        check_trained(pipeline, registry)
        self.pipeline = pipeline
        self._components = {
            name: open_component(pipeline, name, registry, file.path.parent)
            for name in in_order(pipeline)
        }
        self.rule = DecisionRule.of(file, open_weights(pipeline, registry))
        check_weighed_models(file, registry, ControlState(), self.rule.weights.version)
        self.weights = self.rule.weights.version
        self._tables = DecisionTables(pipeline, self.rule)


def with_inputs(pipeline: Pipeline, specs: list[ComponentSpec]) -> list[str]:
    """The names of *specs* and of all that they read, in order."""
    needed, left = set[str](), [spec.name for spec in specs]
    while left:
        name = left.pop()
        if name not in needed and name != EVENTS:
            needed.add(name)
            left += pipeline.component(name).inputs
    return [name for name in in_order(pipeline) if name in needed]


def write_rows(
    file: PipelineFile, opened: Extraction, source: RowSource, output: Path, *,
    labelled: bool | None = None, progress: Progress = lambda _: None,
) -> FileSummary:  # fmt: skip
    """Write the rows of *source* to *output*, whole or not at all; see `check_output`.

    Raises DatasetError, OutOfTimeOrder, OutputNotWritable.
    """
    written = degraded = 0
    errors, decisions = Counter[str](), Counter[str]()
    with writing(output, opened.schema, _metadata(file, opened)) as out:
        for rows in opened.tables(source, labelled=labelled):
            out.write(rows)
            written += rows.table.num_rows
            errors.update(row.error for row in rows.dead)
            if "decision" in opened.schema.names and opened.weights is not None:
                counts = rows.table["decision"].value_counts().to_pylist()
                decisions.update({each["values"]: each["counts"] for each in counts})
                degraded += sum(rows.table["degraded"].to_pylist())
            progress(rows.table.num_rows + len(rows.dead))
    dead = errors.total()
    return FileSummary(
        pipeline=file.pipeline.name, source=str(source), output=str(output), rows=written + dead,
        written=written, dead=dead, dead_letters=str(dead_letters_of(output)) if dead else None,
        errors=dict(errors.most_common()), decisions=dict(sorted(decisions.items())),
        degraded=degraded, models=opened.models, weights=opened.weights,
    )  # fmt: skip


def _metadata(file: PipelineFile, opened: Extraction) -> Mapping[str, str]:
    """What a Parquet file says of itself."""
    said = {
        "anabranch.pipeline_name": file.pipeline.name,
        "anabranch.pipeline_file": digest_of(file.content),
        **{f"anabranch.model.{name}": model for name, model in opened.models.items()},
    }
    return said if opened.weights is None else {**said, "anabranch.weights": str(opened.weights)}
