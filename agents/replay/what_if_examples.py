"""Examples of decisions that change, and why they get their scores: before the change, and after.

As by `anabranch explain`: what is explained after a change is the decision record as it would be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.explanations import (
    DecisionArchive,
    DecisionExplainer,
    EventFields,
    RecordedDecision,
    RecordedEvent,
    RegistryVersions,
    named,
)
from agents.replay.altered_decisions import NO_QUORUM, AlteredDecisions, StageSignals
from agents.replay.decision_columns import DecisionColumns
from agents.replay.what_if_report import Example, Flow
from agents.weigh import Scorer, Weights
from agents.workers import TailReader
from models.registry import Registry
from topics.errors import AnabranchError
from topics.pipeline import Pipeline, PipelineFile, Topology
from topics.records import Contribution, Decision, ModelRef, Source

_MOST_FLOWS = 6
"""Of so many kinds of changes there are examples."""


class EventReasons:
    """Puts into a sentence what made scores."""

    def __init__(self, file: PipelineFile, registry: Registry, tail: TailReader) -> None:
        self._archive = DecisionArchive(tail, Topology.of(file.pipeline))
        self._explainer = DecisionExplainer(file.pipeline, RegistryVersions(file, registry))
        self._fields = EventFields(tail, file.pipeline)

    async def recorded(self, source: Source) -> RecordedDecision:
        """The decision about an event. Raises DecisionNotFound."""
        return await self._archive.find(named(source))

    async def of(self, recorded: RecordedDecision) -> str:
        """The reason of a decision, recorded or as it would be.

        Raises NotExplained, OutputGone and RegistryError.
        """
        wanted = self._explainer.wanted(recorded.decision)
        outputs = await self._archive.outputs(recorded, wanted)
        fields = (await self._fields.of([recorded.source])).get(recorded.source, {})
        return self._explainer.explained(RecordedEvent(recorded.decision, outputs, fields)).reason


@dataclass(frozen=True, slots=True)
class ExampleMaker:
    """Makes examples of N decisions and what they are after a change."""

    pipeline: Pipeline
    decisions: DecisionColumns
    altered: AlteredDecisions
    signals: StageSignals
    """Of all decisions, after the change (N, S)."""
    weights: Callable[[int], Weights]
    """What a decision that names such a version is weighed by after the change."""
    models: Mapping[str, ModelRef]
    """Component → its model, where the change gives it another."""

    async def with_examples(
        self, flows: Sequence[Flow], count: int, reasons: EventReasons
    ) -> list[Flow]:
        """The flows, the first that change with *count* examples each."""
        changing = [flow for flow in flows if flow.before != flow.after][:_MOST_FLOWS]
        result = []
        for flow in flows:
            examples = []
            if flow in changing:
                for row in self.rows(flow, count):
                    example = self.example(row)
                    examples.append(await self._explained(example, row, flow, reasons))
            result.append(flow.model_copy(update={"examples": examples}))
        return result

    def rows(self, flow: Flow, count: int) -> list[int]:
        """Of the events of a *flow* those whose scores move most, else those that came first."""
        altered = self.altered
        before, after = altered.names.index(flow.before), len(altered.names) - 1
        if flow.after != NO_QUORUM:
            after = altered.names.index(flow.after)
        rows = np.flatnonzero((altered.before == before) & (altered.after == after))
        moved = np.nan_to_num(np.abs(altered.scores_after[rows] - altered.scores_before[rows]))
        chosen: list[int] = rows[np.argsort(-moved, kind="stable")[:count]].tolist()
        return chosen

    def example(self, row: int) -> Example:
        """One event, without reasons."""
        before, after = self.altered.scores_before[row], self.altered.scores_after[row]
        return Example(
            event_id=self.decisions.ids[row],
            source=self.decisions.source(Topology.of(self.pipeline).events, row),
            score_before=float(before) if np.isfinite(before) else None,
            score_after=float(after) if np.isfinite(after) else None,
        )

    def record(self, decision: Decision, row: int, taken: str) -> Decision:
        """The decision record of a row as it would be, *taken* being what is decided."""
        weights = self.weights(decision.weights)
        one = slice(row, row + 1)
        signals, present = self.signals.signals[one], self.signals.present[one]
        weighed = Scorer(self.pipeline, weights).weigh(signals, present)
        contributions = {}
        for at in np.flatnonzero(present[0]).tolist():
            name = self.decisions.stages[at]
            said = decision.contributions[name]
            model = self.models.get(name, ModelRef(said.model, said.digest, said.variant))
            contributions[name] = Contribution(
                signal=float(signals[0, at]), weight=float(weighed.weights[0, at]),
                contribution=float(weighed.contributions[0, at]), **model._asdict(),
            )  # fmt: skip
        return decision.model_copy(update={
            "decision": taken, "instead_of": None, "explored": False, "propensity": 1.0,
            "score": float(weighed.scores[0]), "weights": weights.version,
            "contributions": contributions,
        })  # fmt: skip

    async def _explained(
        self, example: Example, row: int, flow: Flow, reasons: EventReasons
    ) -> Example:
        """The example with reasons, as far as there are any."""
        if example.score_before is None:
            return example
        said: dict[str, str] = {}
        try:
            recorded = await reasons.recorded(example.source)
            said["reason_before"] = await reasons.of(recorded)
            if example.score_after not in (None, example.score_before):
                decision = self.record(recorded.decision, row, flow.after)
                said["reason_after"] = await reasons.of(
                    RecordedDecision(decision, recorded.attempt)
                )
        except AnabranchError as exc:
            said["unexplained"] = str(exc)
        return example.model_copy(update=said)
