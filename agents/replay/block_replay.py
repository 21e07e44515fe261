"""One block made again: each stage from what was recorded of its inputs, then the decisions.

That each stage is the same to the bit, from the raw event on, makes the whole the same. What a
stage is not run on again is taken as it is recorded, and counted by the class of the reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.join import StageRows
from agents.replay.decisions import DecisionReplay
from agents.replay.event_columns import EventColumns, WindowColumns
from agents.replay.pinned_versions import PinnedVersions, needed_by
from agents.replay.recorded_range import RecordedBlock
from agents.replay.report import (
    EARLY,
    HISTORY,
    LATE,
    OTHER_FEATURES,
    OWN_CODE,
    PASSED_OVER,
    Difference,
    Tally,
)
from agents.replay.stage_inputs import StageInputs, stage_inputs
from agents.replay.stage_outputs import (
    Divergence,
    divergences,
    passed_over,
    recomputed,
    rows_by_model,
)
from topics.pipeline import EVENTS, WEIGH, ComponentSpec, Pipeline, Topology
from topics.records import Bools, Ints, Provenance, Source, error_of_letter

_UNKNOWN = "unknown"


@dataclass(slots=True)
class _BlockState:
    """What has come out of a block so far."""

    block: RecordedBlock
    columns: EventColumns
    keyed: Mapping[str, WindowColumns]
    stages: Mapping[str, StageRows]
    differs: Bools
    taken: dict[str, Bools] = field(default_factory=dict)
    """Class → rows (N,) of which some stage is taken as it is recorded."""

    def take(self, kind: str, rows: Ints) -> None:
        """Note that rows are of a class."""
        if len(rows):
            self.taken.setdefault(kind, np.zeros(len(self.block), np.bool_))[rows] = True


class BlockReplay:
    """Makes the blocks of a pipeline again, and counts.

    `features` is the pipeline whose features events were read for.
    """

    def __init__(self, pins: PinnedVersions, features: Pipeline, tally: Tally) -> None:
        self._pins, self._tally = pins, tally
        self._features = features_of(features)
        self._events = Topology.of(features).events
        self._decisions: dict[int, DecisionReplay] = defaultdict(lambda: DecisionReplay(pins))
        self._provenance: Provenance | None = None
        """Of the last decision, for rows that have none."""

    def replay(
        self, block: RecordedBlock, columns: EventColumns, keyed: Mapping[str, WindowColumns]
    ) -> None:
        """Make *block* again, from its events' *columns*.

        Raises NotMadeAgain where what a decision names is not to be had.
        """
        with needed_by(self._events, block.partition, block.offsets):
            self._replay(block, columns, keyed)

    def _replay(
        self, block: RecordedBlock, columns: EventColumns, keyed: Mapping[str, WindowColumns]
    ) -> None:
        stages = {name: block.stage_rows(name) for name in block.stages}
        state = _BlockState(block, columns, keyed, stages, np.zeros(len(block), np.bool_))
        place = {offset: row for row, offset in enumerate(block.offsets.tolist())}
        decided = {
            place[offset]: record
            for offset, record in block.decisions.items()
            if offset in place
        }  # fmt: skip
        provenance = self._decide(state, decided)
        self._decide_again(state, place)
        for named, rows in self._by_file(provenance, len(block)):
            pipeline = self._pins.file(named).pipeline
            same_features = features_of(pipeline) == self._features
            for spec in pipeline.components:
                if spec.name in stages:
                    self._stage(state, pipeline, spec, named, rows, known=same_features)
        self._count(state, np.array(sorted(decided), np.int64), provenance)

    # -- decisions

    def _decide(
        self, state: _BlockState, decided: Mapping[int, ConsumerRecord]
    ) -> Mapping[int, Provenance | None]:
        block = state.block
        result = self._decisions[block.partition].decide(
            block.partition, state.columns.rows, state.stages, decided
        )
        for row, where, before, now in result.differences:
            state.differs[row] = True
            self._differ(state, WEIGH, Divergence(row, where, before, now))
        if result.provenance:
            self._provenance = result.provenance[max(result.provenance)]
        return result.provenance

    def _decide_again(self, state: _BlockState, place: Mapping[int, int]) -> None:
        """Further decisions about an event are held against what is made of it now, too."""
        block = state.block
        for offset, record in block.repeated:
            self._tally.repeated += 1
            result = self._decisions[block.partition].decide(
                block.partition, state.columns.rows, state.stages, {place[offset]: record}
            )
            for row, where, before, now in result.differences:
                state.differs[row] = True
                self._differ(state, WEIGH, Divergence(row, where, before, now))
        for offset, record in block.misplaced:
            self._tally.misplaced += 1
            self._tally.differ(Difference(
                source=self._source(block.partition, offset), stage=WEIGH, field="place",
                recorded=f"offset {record.offset}, behind decisions about later events",
                recomputed="no decision there",
            ))  # fmt: skip

    def _by_file(
        self, provenance: Mapping[int, Provenance | None], n: int
    ) -> Iterator[tuple[Provenance | None, Ints]]:
        """The rows of each pipeline file; those without a decision are of the last one's."""
        if len({id(named) for named in provenance.values()} | {id(self._provenance)}) == 1:
            yield self._provenance, np.arange(n)
            return
        rows: dict[Provenance | None, list[int]] = defaultdict(list)
        first: dict[str | None, Provenance | None] = {}
        for row in range(n):
            named = provenance.get(row, self._provenance)
            digest = None if named is None else named.pipeline_file
            rows[first.setdefault(digest, named)].append(row)
        for named, of_file in rows.items():
            yield named, np.array(of_file, np.int64)

    # -- stages

    def _stage(
        self, state: _BlockState, pipeline: Pipeline, spec: ComponentSpec,
        named: Provenance | None, rows: Ints, *, known: bool,
    ) -> None:  # fmt: skip
        """Make what a component says of *rows* again, as far as that can be."""
        recorded = state.stages[spec.name]
        inputs = stage_inputs(pipeline, spec, state.columns, state.keyed, state.stages)
        rows = rows[recorded.delivered[rows]]
        for kind, of_class in self._classes(pipeline, spec, recorded, inputs, known=known):
            self._take(state, spec.name, kind, rows[of_class[rows]])
            rows = rows[~of_class[rows]]
        run = rows[inputs.valid[rows]]
        # Without an input there is no output.
        wrong = [
            Divergence(row, "present", "an output", "no output: an input of it has none")
            for row in rows[~inputs.valid[rows] & recorded.present[rows]].tolist()
        ]
        for model, of_model in rows_by_model(recorded, run):
            opened = self._pins.component(named, spec.name, model)
            if opened is None:
                self._take(state, spec.name, OWN_CODE, of_model)
                rows = rows[~np.isin(rows, of_model)]
                continue
            made = recomputed(opened, inputs.batch_of, of_model, len(state.block))
            wrong += divergences(recorded, made, of_model)
        late = [
            each.row for each in wrong
            if inputs.windows is not None and not inputs.windows.in_time[each.row]
        ]  # fmt: skip
        self._take(state, spec.name, LATE, np.array(late, np.int64))
        wrong = [each for each in wrong if each.row not in set(late)]
        for each in wrong:
            state.differs[each.row] = True
            self._differ(state, spec.name, each)
        self._tally.stage_different[spec.name] += len(wrong)
        self._tally.same[spec.name] += len(rows) - len(wrong) - len(late)

    def _classes(
        self, pipeline: Pipeline, spec: ComponentSpec, recorded: StageRows, inputs: StageInputs,
        *, known: bool,
    ) -> Iterator[tuple[str, Bools]]:  # fmt: skip
        """Classes of rows (N,) that the component is not run on again."""
        yield PASSED_OVER, passed_over(recorded)
        if EVENTS in spec.inputs and not known:
            yield OTHER_FEATURES, np.ones(len(recorded.present), np.bool_)
        if recorded.early is not None and pipeline.is_repartitioned(spec.name):
            yield EARLY, recorded.early
        if inputs.windows is not None:
            yield HISTORY, inputs.valid & ~inputs.windows.whole

    # -- counts

    def _take(self, state: _BlockState, stage: str, kind: str, rows: Ints) -> None:
        state.take(kind, rows)
        self._tally.take(stage, kind, len(rows))

    def _differ(self, state: _BlockState, stage: str, divergence: Divergence) -> None:
        row, where, before, now = divergence
        source = self._source(state.block.partition, int(state.block.offsets[row]))
        self._tally.differ(
            Difference(source=source, stage=stage, field=where, recorded=before, recomputed=now)
        )

    def _source(self, partition: int, offset: int) -> Source:
        return Source(topic=self._events, partition=partition, offset=offset)

    def _count(
        self, state: _BlockState, decided: Ints, provenance: Mapping[int, Provenance | None]
    ) -> None:
        tally, block = self._tally, state.block
        tally.events += len(block)
        tally.decisions += len(decided)
        tally.unnamed += [*provenance.values()].count(None)
        differs = state.differs[decided]
        tally.different += int(differs.sum())
        partly = np.zeros(len(decided), np.bool_)
        for kind, rows in state.taken.items():
            of_class = rows[decided] & ~differs
            tally.taken[kind] += int(of_class.sum())
            partly |= of_class
        tally.partly_taken += int(partly.sum())
        tally.recomputed += int((~differs & ~partly).sum())
        dead = {offset: record for offset, record in block.dead_letters.items()
                if offset not in block.decisions}  # fmt: skip
        tally.dead_letters.update(error_of_letter(record.headers) or _UNKNOWN
                                  for record in dead.values())  # fmt: skip
        if dead or block.has_later_attempts:
            tally.redriven_in.add(block.partition)
        tally.foreign += block.foreign
        ended = {*dead, *block.decisions}
        endless = [offset for offset in block.offsets.tolist() if offset not in ended]
        tally.undecided += len(endless)
        behind = max(block.decisions, default=-1)
        passed_by = [offset for offset in endless if block.is_passed or offset < behind]
        tally.passed_by.setdefault(block.partition, set()).update(passed_by)


def features_of(pipeline: Pipeline) -> Sequence[object]:
    """All that says what components make of events before their models."""
    specs = [
        spec.model_dump_json(include={"name", "features", "key", "inputs"})
        for spec in pipeline.components
        if EVENTS in spec.inputs
    ]
    return [pipeline.event, pipeline.outcomes.delay, pipeline.partitions, specs]
