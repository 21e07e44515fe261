"""A what-if: recorded events of a range under a change, from the topics to a report."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import ValidationError

from agents.broker import LogReader
from agents.components import OpenComponent, open_component
from agents.control import FixedWeights
from agents.replay.altered_decisions import (
    AlteredDecisions,
    AlteredRule,
    RecordedRules,
    StageSignals,
)
from agents.replay.decision_columns import PolicyRef
from agents.replay.decision_reader import DecisionReader, RecordedDecisions
from agents.replay.errors import NotRecomputable
from agents.replay.model_rerun import ModelRerun
from agents.replay.pinned_versions import PinnedVersions
from agents.replay.recorded_range import SourceRange, recorded_ranges
from agents.replay.segments import check_field, segments_of
from agents.replay.topic_records import Progress
from agents.replay.what_if_examples import EventReasons, ExampleMaker
from agents.replay.what_if_figures import FigureMaker
from agents.replay.what_if_report import Change, Flow, WhatIfReport, counts_of, notes_of
from agents.service.open_version import open_weights
from agents.weigh import Weights
from agents.workers import TailReader
from models.registry import ContentGone, Registry
from models.report.selective_labels import outcome_weights
from topics.pipeline import ComponentSpec, Pipeline, PipelineFile, Policy, Topology
from topics.records import ControlState
from topics.settings import BrokerSettings


@dataclass(frozen=True, slots=True)
class Alteration:
    """What takes the place of what decisions name; None for what stays."""

    weights: int | None = None
    """A version of learned weights."""
    policy: Policy | None = None
    models: Mapping[str, int] = field(default_factory=dict)
    """Component → version of its model."""


class Redecided(NamedTuple):
    """The decisions of a range, and what they are after a change."""

    recorded: RecordedDecisions
    altered: AlteredDecisions
    signals: StageSignals
    """What they are weighed of now."""
    models: Mapping[str, OpenComponent]
    """The components with another model."""
    as_recorded: int
    """Those that keep the recorded signals though a model is another."""


class WhatIf:
    """Says what a change would do to the decisions of a pipeline."""

    def __init__(
        self, settings: BrokerSettings, file: PipelineFile, registry: Registry, tail: TailReader,
        state: ControlState, alteration: Alteration, *,
        progress: Mapping[str, Progress] | None = None,
    ) -> None:  # fmt: skip
        self._settings, self._registry, self._tail = settings, registry, tail
        self._alteration = alteration
        self._file, self._pipeline, self._progress = file, file.pipeline, progress
        self._rules = RecordedRules(
            lambda version: _recorded_weights(file.pipeline, registry, version),
            _KnownPolicies(file.pipeline, registry, state).named,
        )

    async def report(
        self, ranges: Sequence[SourceRange], *, segments: Sequence[str] = (), examples: int = 0
    ) -> WhatIfReport:
        """The report on the decisions about *ranges*, with *examples* of each kind of change.

        Raises the errors of this package, RegistryError, BrokerError, KafkaError.
        """
        for name in segments:
            check_field(self._pipeline, name)
        async with LogReader.of(self._settings) as reader:
            topics = DecisionReader(
                self._settings, reader, self._tail, self._pipeline, ranges, self._progress
            )
            return await self._report(topics, await self.decide(topics), segments, examples)

    async def decide(self, topics: DecisionReader) -> Redecided:
        """The decisions of a range, and what they are after the change; raises as `report`."""
        weights, policy = self._weights(), self._alteration.policy
        rule = AlteredRule(self._pipeline, self._rules, weights=weights, policy=policy)
        models = self._models()
        recorded = await topics.decisions()
        if not models:
            signals = StageSignals(recorded.decisions.signals, recorded.decisions.present)
            return Redecided(recorded, rule.decide(recorded.decisions), signals, models, 0)
        pins = PinnedVersions(self._file, self._registry)
        rerun = ModelRerun(self._pipeline, pins, models, recorded.decisions)
        await self._rerun(rerun, topics.ranges)
        altered, kept = rule.decide(recorded.decisions, rerun.signals), rerun.as_recorded
        return Redecided(recorded, altered, rerun.signals, models, int(kept.sum()))

    async def _rerun(self, rerun: ModelRerun, ranges: Sequence[SourceRange]) -> None:
        """Run the models on what the stage topics hold of the ranges."""
        topology = Topology.of(self._pipeline)
        progress = (self._progress or {}).get(topology.events)
        done, total = 0, sum(of.end - of.start for of in ranges)
        async with recorded_ranges(self._settings, topology, ranges, self._tail) as partitions:
            for partition in partitions:
                while (block := await partition.block()) is not None:
                    await asyncio.to_thread(rerun.take, block)
                    done += len(block)
                    if progress is not None:
                        progress(done, total)

    def _models(self) -> dict[str, OpenComponent]:
        """The components that get another model, with it; also where the file keeps them on one."""
        folder, opened = self._file.path.parent, {}
        for name, version in self._alteration.models.items():
            spec = _component(self._pipeline, name)
            if spec.model is None:
                raise NotRecomputable(name, "it has no model from the registry")
            pinned = self._pipeline.with_version(name, version)
            opened[name] = open_component(pinned, name, self._registry, folder, to_the_bit=True)
        return opened

    async def _report(
        self, topics: DecisionReader, redecided: Redecided, segments: Sequence[str],
        examples: int,
    ) -> WhatIfReport:  # fmt: skip
        recorded, altered = redecided.recorded, redecided.altered
        pipeline, decisions = self._pipeline, recorded.decisions
        policy = self._alteration.policy or pipeline.policy
        outcomes = await topics.outcomes(decisions.ids)
        weights = outcome_weights(decisions.explored, decisions.propensity)
        figures = FigureMaker(
            altered, outcomes, policy.otherwise, policy.costs or pipeline.policy.costs, weights
        )
        by_field = {}
        for name in segments:
            place = segments_of(pipeline, name, await topics.field(name, decisions))
            by_field[name] = figures.segments(*place)
        changed = int(altered.changed.sum())
        report = WhatIfReport(
            pipeline=pipeline.name, change=self._change(redecided.models),
            offsets={of.partition: (of.start, of.end) for of in topics.ranges},
            events=counts_of(
                decisions, as_recorded=redecided.as_recorded,
                dead_letters=await topics.dead_letters(decisions), foreign=recorded.foreign,
                repeated=recorded.repeated,
            ),
            changed=changed, changed_share=changed / len(decisions),
            decisions=[*altered.names[:-1]],
            flows=await self._flows(figures, redecided, examples), scores=figures.shift(),
            outcomes=figures.quality(), segments=by_field,
        )  # fmt: skip
        notes = notes_of(
            report, outcomes.known & (weights > 0), altered, decisions.explored,
            decisions.propensity,
        )  # fmt: skip
        return report.model_copy(update={"notes": notes})

    async def _flows(self, figures: FigureMaker, redecided: Redecided, count: int) -> list[Flow]:
        """All flows, with so many examples of those that change."""
        flows, weights = figures.flows(), self._weights()
        if not count:
            return flows
        examples = ExampleMaker(
            self._pipeline, redecided.recorded.decisions, redecided.altered, redecided.signals,
            self._rules.weights if weights is None else lambda _: weights,
            {name: opened.model for name, opened in redecided.models.items()},
        )  # fmt: skip
        reasons = EventReasons(self._file, self._registry, self._tail)
        return await examples.with_examples(flows, count, reasons)

    def _weights(self) -> Weights | None:
        if self._alteration.weights is None:
            return None
        weights = open_weights(self._pipeline, self._registry, self._alteration.weights)
        if weights.version == 0:
            raise FixedWeights(self._pipeline.name)
        return weights

    def _change(self, models: Mapping[str, OpenComponent]) -> Change:
        alteration, policy = self._alteration, self._alteration.policy
        return Change(
            weights=alteration.weights,
            policy=None if policy is None else dict(policy.thresholds),
            policy_version=None if policy is None else policy.version,
            models={opened.model.model: opened.model.digest for opened in models.values()},
        )


class _KnownPolicies:
    """The policies that decisions name."""

    def __init__(self, pipeline: Pipeline, registry: Registry, state: ControlState) -> None:
        self._pipeline, self._registry = pipeline.name, registry
        deployed = state.policy
        promoted = [] if deployed is None else [deployed.previous, deployed.policy]
        known = [pipeline.policy, *(policy for policy in promoted if policy is not None)]
        self._by_name = {f"{pipeline.name}@{policy.version}": policy for policy in known}

    def named(self, ref: PolicyRef) -> Policy | None:
        """By its digest, from the registry; else by its version, which may be another's."""
        if ref.digest is not None:
            with suppress(ContentGone, ValidationError):
                return Policy.model_validate_json(self._registry.kept(self._pipeline, ref.digest))
        return self._by_name.get(ref.name)


def _component(pipeline: Pipeline, name: str) -> ComponentSpec:
    """Raises NotRecomputable for one that there is not."""
    known = [spec.name for spec in pipeline.components]
    if name not in known:
        there = ", ".join(known)
        raise NotRecomputable(name, f"{pipeline.name} has no such component; it has {there}")
    return pipeline.component(name)


def _recorded_weights(pipeline: Pipeline, registry: Registry, version: int) -> Weights:
    """The weights that a decision names; 0 are those of the file."""
    fixed = pipeline.weighting.fixed_weights
    if version == 0 and fixed is not None:
        return Weights(fixed, 0)
    return Weights(registry.weights(pipeline.name, version).card.values, version)
