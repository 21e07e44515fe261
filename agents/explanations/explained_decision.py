"""From a recorded decision to its explanation: by the models, weights and stages that decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from agents.explanations.deciding_functions import DecidingFunction, DecidingFunctions, Versions
from agents.explanations.errors import (
    CodeFails,
    NoScore,
    NotComputed,
    NotExplained,
    ScoreDiffers,
    WeightsFixed,
)
from agents.explanations.reason import Facts, Reasons
from agents.explanations.recorded_event import RecordedEvent
from models.explain import Attributions, Library, PureComponentFailed
from models.registry import RecordedOutput, RegistryError
from topics.errors import AnabranchError
from topics.pipeline import ColumnValue, Pipeline, Value
from topics.records import Decision, Source

EXPLANATION_SCHEMA = 1
"""Version of the record's form, raised as that of decisions is."""
_TOLERANCE = 1e-6


class GroupShare(BaseModel):
    """What one group of features adds to the score."""

    model_config = ConfigDict(frozen=True)

    group: str
    rank: int
    """1 for the group that moves the score most."""
    value: float
    """What it adds; below 0 for what it takes away."""
    share: float
    """Of all that is added and taken away, in [0, 1]; 0 where nothing is."""
    standard_error: float | None
    """Of the value, where it is an estimate."""


class Explanation(BaseModel):
    """Why an event got its score: base + Σ value = score, unless the method is lime."""

    model_config = ConfigDict(frozen=True)

    schema_version: Annotated[int, Field(alias="schema")] = EXPLANATION_SCHEMA
    event_id: str
    pipeline: str
    source: Source
    decision: str
    score: float
    base: float
    """The mean score of the background rows."""
    groups: list[GroupShare]
    """By rank."""
    method: Literal["exact", "sampled", "shap", "lime"]
    reason: str
    """All that in a sentence, in the first language of the pipeline file."""
    reasons: dict[str, str] = Field(default_factory=dict)
    """Language → sentence."""
    models: dict[str, str]
    """Component → digest of the model that the score was computed by, or of its code."""
    weights: int
    background: str
    """Digest of the background rows."""
    missing: list[str]
    """Stages that were weighed as nothing, as in the decision."""


class DecisionExplainer:
    """Explains what was decided by a pipeline: one decision, or many at once."""

    def __init__(
        self, pipeline: Pipeline, versions: Versions, *,
        each_column: bool = False, library: Library | None = None,
    ) -> None:  # fmt: skip
        self._pipeline, self._library = pipeline, library
        self._functions = DecidingFunctions(pipeline, versions, each_column=each_column)
        self._reasons = Reasons.of(pipeline)

    def wanted(self, decision: Decision) -> list[str]:
        """The components whose record about the event is needed. Raises NotExplained."""
        if decision.score is None:
            raise NoScore(decision)
        if decision.weights == 0:
            raise WeightsFixed(self._pipeline.name)
        return self._functions.wanted(decision)

    def explained(self, event: RecordedEvent) -> Explanation:
        """Raises NotExplained, RegistryError, and MissingExtra."""
        try:
            (result,) = self.explain([event])
        except AnabranchError:
            raise
        except Exception as exc:  # the boundary to models of any kind
            raise NotComputed(event.decision.source, exc) from exc
        if not isinstance(result, Explanation):
            raise result
        return result

    def explain(
        self, events: Sequence[RecordedEvent]
    ) -> list[Explanation | NotExplained | RegistryError]:
        """An explanation of each event, or why there is none; those of one function at once."""
        results: dict[int, Explanation | NotExplained | RegistryError] = {}
        together: dict[int, tuple[DecidingFunction, list[int]]] = {}
        for at, event in enumerate(events):
            try:
                function = self._functions.of(event)
            except (NotExplained, RegistryError) as exc:
                results[at] = exc
            else:
                together.setdefault(id(function), (function, []))[1].append(at)
        for function, places in together.values():
            some = [events[at] for at in places]
            try:
                of_some = self._of_one_function(function, some)
            except RegistryError as exc:
                of_some = [exc] * len(some)
            results |= dict(zip(places, of_some, strict=True))
        return [results[at] for at in range(len(events))]

    def _of_one_function(
        self, function: DecidingFunction, events: Sequence[RecordedEvent]
    ) -> list[Explanation | NotExplained | RegistryError]:
        outputs = function.outputs(events)
        try:
            attributions = function.explainer.explain(outputs, library=self._library)
        except PureComponentFailed as exc:
            if len(events) == 1:
                return [CodeFails(exc)]
            return [each for event in events for each in self._of_one_function(function, [event])]
        results: list[Explanation | NotExplained | RegistryError] = []
        for row, event in enumerate(events):
            decision, computed = event.decision, float(attributions.scores[row])
            if decision.score is None or not abs(computed - decision.score) <= _TOLERANCE:
                results.append(ScoreDiffers(decision.source, computed, decision.score or 0.0))
                continue
            if not np.isfinite(attributions.values[row]).all():
                cause = ArithmeticError("with columns of background rows its score is no number")
                results.append(NotComputed(decision.source, cause))
                continue
            values = self._values(event, outputs, row)
            results.append(self._explanation(event, function, attributions, row, values))
        return results

    def retold(self, explanation: Explanation, event: RecordedEvent) -> Explanation:
        """*explanation* of an *event*, with what follows from its values: ranks, shares and words.

        Its groups are those of the event's. Raises NotExplained, and RegistryError.
        """
        function = self._functions.of(event)
        by_name = {each.group: each for each in explanation.groups}
        groups = [by_name[name] for name in function.groups]
        ranked = _ranked(
            function.groups,
            [each.value for each in groups],
            [each.standard_error for each in groups],
        )
        reasons = self._said(
            event.decision, explanation.base, ranked,
            self._values(event, function.outputs([event]), 0),
        )  # fmt: skip
        told = {"groups": ranked, "reason": next(iter(reasons.values())), "reasons": reasons}
        return explanation.model_copy(update=told)

    def _said(
        self, decision: Decision, base: float, ranked: Sequence[GroupShare],
        values: Mapping[str, Value],
    ) -> dict[str, str]:  # fmt: skip
        """Language → sentence."""
        groups = [(each.group, each.value) for each in ranked]
        facts = Facts(decision.decision, decision.score or 0.0, base, groups, decision.instead_of)
        return self._reasons.said(facts, values)

    def _values(
        self, event: RecordedEvent, outputs: Mapping[str, RecordedOutput], row: int
    ) -> dict[str, Value]:
        """What texts may show of the event: by the name that they have for it."""
        values: dict[str, Value] = {}
        for name, wanted in self._reasons.wanted.items():
            if isinstance(wanted, ColumnValue):
                if wanted.component in outputs:
                    values[name] = float(outputs[wanted.component].output[row, wanted.place])
            elif wanted.field in event.fields:
                values[name] = event.fields[wanted.field]
        return values

    def _explanation(
        self, event: RecordedEvent, function: DecidingFunction, attributions: Attributions,
        row: int, values: Mapping[str, Value],
    ) -> Explanation:  # fmt: skip
        decision, score = event.decision, event.decision.score or 0.0
        errors = attributions.errors
        of_row = np.full(len(function.groups), np.nan) if errors is None else errors[row]
        ranked = _ranked(
            function.groups,
            attributions.values[row].tolist(),
            [None if np.isnan(error) else float(error) for error in of_row],
        )
        reasons = self._said(decision, attributions.base, ranked, values)
        return Explanation(
            event_id=decision.event_id, pipeline=self._pipeline.name, source=decision.source,
            decision=decision.decision, score=score, base=attributions.base, groups=ranked,
            method=self._library or ("exact" if errors is None else "sampled"),
            reason=next(iter(reasons.values())), reasons=reasons, models=function.models,
            weights=decision.weights, background=function.background, missing=decision.missing,
        )  # fmt: skip


def _ranked(
    names: Sequence[str], values: Sequence[float], errors: Sequence[float | None]
) -> list[GroupShare]:
    moved = sum(map(abs, values))
    order = sorted(range(len(names)), key=lambda at: -abs(values[at]))
    return [
        GroupShare(
            group=names[at], rank=rank, value=values[at],
            share=abs(values[at]) / moved if moved else 0.0, standard_error=errors[at],
        )
        for rank, at in enumerate(order, 1)
    ]  # fmt: skip
