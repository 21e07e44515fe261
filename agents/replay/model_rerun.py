"""Signals of recorded events with other models: those of the components that the change reaches.

A component whose model is another runs on the recorded outputs that it has read, and whatever reads
it runs on what comes of that, by the models that are recorded. Each runs as in a worker, row by row
the same bits. Where a component had no output it has none again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from agents.components import ComponentOutputs, OpenComponent, checked, spread
from agents.join import StageRows
from agents.replay.altered_decisions import StageSignals
from agents.replay.decision_columns import DecisionColumns
from agents.replay.errors import NotRecomputable
from agents.replay.pinned_versions import PinnedVersions
from agents.replay.recorded_range import RecordedBlock
from agents.replay.stage_outputs import joined_batch, recomputed, rows_by_model
from models.arrays import Bools, Ints
from models.component import StageOutput
from models.onnx.model_component import ModelComponent
from topics.events import as_float32
from topics.pipeline import Pipeline, in_order, kind_of


def reached_components(pipeline: Pipeline, changed: Sequence[str]) -> list[str]:
    """The components whose signal another model of *changed* ones may change, in order of the flow.

    What reads a component of features reads these, whatever its model says of them.
    """
    reached, passed_on = set(changed), {*changed} - _of_features(pipeline)
    for name in in_order(pipeline):
        if passed_on.intersection(pipeline.component(name).inputs):
            reached.add(name)
            passed_on.add(name)
    return [name for name in in_order(pipeline) if name in reached]


class ModelRerun:
    """Takes in recorded blocks; `signals` are those of all decisions that could be computed."""

    def __init__(
        self, pipeline: Pipeline, pins: PinnedVersions, models: Mapping[str, OpenComponent],
        recorded: DecisionColumns,
    ) -> None:  # fmt: skip
        self._pipeline, self._pins, self._models = pipeline, pins, models
        self._recorded = recorded
        self._reached = reached_components(pipeline, [*models])
        self._signals, self._present = recorded.signals.copy(), recorded.present.copy()
        self._computed = np.zeros(len(recorded), np.bool_)
        self._rows = {
            partition: _sorted_rows(recorded, partition)
            for partition in np.unique(recorded.partitions).tolist()
        }

    @property
    def signals(self) -> StageSignals:
        """The signals of all decisions (N, S), and which there are (N, S)."""
        return StageSignals(self._signals, self._present)

    @property
    def as_recorded(self) -> Bools:
        """Decisions with a score that keep their signals: what they are made of is gone (N,)."""
        return ~self._computed & ~self._recorded.late

    def take(self, block: RecordedBlock) -> None:
        """Compute what a block holds. Raises NotRecomputable, PinGone, RegistryError."""
        offsets, rows = self._rows.get(block.partition, (np.empty(0, np.int64),) * 2)
        _, at, found = np.intersect1d(block.offsets, offsets, return_indices=True)
        if not len(at):
            return
        stages = {name: block.stage_rows(name) for name in self._read()}
        new = dict[str, StageRows]()
        usable = np.ones(len(block.offsets), np.bool_)
        for name in self._reached:
            new[name], lacks = self._outputs(name, stages, new)
            usable &= ~lacks
        place, kept = rows[found], usable[at]
        self._take(new, stages, at[kept], place[kept])

    def _take(
        self, new: Mapping[str, StageRows], stages: Mapping[str, StageRows], at: Ints, place: Ints
    ) -> None:
        """Rows *at* of a block are the decisions at *place*."""
        columns = {name: column for column, name in enumerate(self._recorded.stages) if name in new}
        whole = np.ones(len(at), np.bool_)
        for name, column in columns.items():
            # A decision that has it, and nothing is there of it any more.
            whole &= stages[name].present[at] | ~self._recorded.present[place, column]
        at, place = at[whole], place[whole]
        for name, column in columns.items():
            there = self._recorded.present[place, column] & new[name].present[at]
            self._present[place, column] = there
            self._signals[place, column] = np.where(there, new[name].signal[at], 0)
        self._computed[place] = True

    def _read(self) -> list[str]:
        """The components whose recorded outputs are needed."""
        read = {each for name in self._reached for each in self._pipeline.component(name).inputs}
        names = {*read, *self._reached}
        return [name for name in in_order(self._pipeline) if name in names]

    def _outputs(
        self, name: str, stages: Mapping[str, StageRows], new: Mapping[str, StageRows]
    ) -> tuple[StageRows, Bools]:
        """What a component makes of a block's rows, and which rows it lacks an input of now (N,).

        Of the latter it had an output: what it has read is gone.
        """
        recorded, n = stages[name], len(stages[name].present)
        if name in _of_features(self._pipeline):
            outputs = _novelty(self._models[name], recorded)
            return _rows_of(outputs, recorded), np.zeros(n, np.bool_)
        inputs = self._pipeline.component(name).inputs
        read = {each: new.get(each, stages[each]) for each in inputs}
        there = np.logical_and.reduce([each.present for each in read.values()])
        lacks = ~np.logical_and.reduce([stages[each].present for each in inputs])
        run = np.flatnonzero(recorded.present & there)
        result = replace(recorded, present=np.zeros(n, np.bool_))
        for opened, rows in self._by_model(name, recorded, run):
            outputs = recomputed(opened, joined_batch(read), rows, n)
            result = _merged(result, _rows_of(outputs, recorded))
        return result, recorded.present & lacks

    def _by_model(
        self, name: str, recorded: StageRows, rows: Ints
    ) -> Iterator[tuple[OpenComponent, Ints]]:
        """What makes *rows* after the change, each with its rows."""
        if name in self._models:
            yield self._models[name], rows
            return
        for model, of_model in rows_by_model(recorded, rows):
            opened = self._pins.component(None, name, model)
            if opened is None:
                raise NotRecomputable(
                    name, "it reads what changes, and is code of your own that may say another "
                    "thing each time; if it does not, say deterministic: true",
                )  # fmt: skip
            yield opened, of_model


def _of_features(pipeline: Pipeline) -> set[str]:
    """Components that pass on features: what their model says nobody reads but the weigher."""
    return {spec.name for spec in pipeline.components if kind_of(spec).passes_on_features}


def _novelty(opened: OpenComponent, recorded: StageRows) -> ComponentOutputs:
    """What the model of a component of features says of the features that are recorded (N)."""
    if not isinstance(opened.component, ModelComponent):
        raise TypeError("a component without a model has got another one")
    rows = np.flatnonzero(recorded.present)
    output = recorded.output[rows]
    signal = opened.component.session.signal(as_float32(output))
    outputs = checked(StageOutput(output, signal), len(rows))
    return spread(outputs, rows, len(recorded.present))


def _rows_of(outputs: ComponentOutputs, recorded: StageRows) -> StageRows:
    return replace(recorded, present=outputs.present, output=outputs.output, signal=outputs.signal)


def _merged(one: StageRows, other: StageRows) -> StageRows:
    """Outputs of N rows, those that *other* has from there; none of another width, as in joins."""
    if other.output.shape[1] != one.output.shape[1]:
        return one if one.present.any() else other
    rows = other.present
    output = np.where(rows[:, None], other.output, one.output)
    signal = np.where(rows, other.signal, one.signal)
    return replace(one, present=one.present | rows, output=output, signal=signal)


def _sorted_rows(recorded: DecisionColumns, partition: int) -> tuple[Ints, Ints]:
    """Source offsets of a partition's scored first attempts, ascending, and their rows."""
    wanted = (recorded.partitions == partition) & ~recorded.late & ~recorded.redriven
    rows = np.flatnonzero(wanted)
    offsets, first = np.unique(recorded.offsets[rows], return_index=True)
    return offsets, rows[first]
