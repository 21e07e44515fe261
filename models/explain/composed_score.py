"""The score of a pipeline as one function of what is recorded of an event.

What is recorded are features, and what components of one's own say; all models after them are run
again: those that a decision names, weighed as it says, in one session where that can be. So are
components of one's own that are declared pure; then stage by stage, see `stage_functions`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Self

import numpy as np

from models.arrays import Floats32, Floats64
from models.component import Component, Floats
from models.explain.stage_functions import ModelOfOtherColumns, StageFunctions
from models.onnx.fuse import FusedSession, block_of, fusable_models, one_by_one
from models.onnx.session import ModelSession
from models.registry import RegistryError
from models.weighting import combine
from topics.events import as_float32
from topics.pipeline import Pipeline, in_order, is_recorded

log = logging.getLogger(__name__)

_Signals = Callable[[Mapping[str, Floats], Mapping[str, Floats32]], Mapping[str, Floats32]]
"""From recorded outputs and signals to the signals that are computed, all by component."""
_ModelSignals = Callable[[Mapping[str, Floats32]], Mapping[str, Floats32]]


class ModelUnnamed(RegistryError):
    """Nothing says which model of a component a score was made by."""

    def __init__(self, pipeline: str, component: str) -> None:
        super().__init__(
            f"the score of pipeline {pipeline} needs the model of {component}, and nothing that "
            "is recorded of the event names one"
        )


def needed_components(pipeline: Pipeline, weights: Mapping[str, float]) -> list[str]:
    """The components that a score with these *weights* depends on, in the order of the flow.

    What comes before a component of your own is not among them, unless that is pure: its output is
    taken as it is.
    """
    needed = {name for name, weight in weights.items() if weight > 0}
    ordered = in_order(pipeline)
    for name in reversed(ordered):
        if name in needed and not is_recorded(pipeline.component(name)):
            needed.update(pipeline.component(name).inputs)
    return [name for name in ordered if name in needed]


def run_components(
    pipeline: Pipeline, needed: Sequence[str], weights: Mapping[str, float]
) -> list[str]:
    """Those of *needed* whose model or code is run again.

    A model of features is where its signal counts: weighed itself, or read by a pure component.
    """
    specs = {name: pipeline.component(name) for name in needed}
    read = {source for spec in specs.values() if spec.pure for source in spec.inputs}

    def counts(name: str) -> bool:
        return specs[name].model is not None and (weights.get(name, 0) > 0 or name in read)

    return [name for name in needed if not is_recorded(specs[name]) or counts(name)]


class ComposedScore:
    """Σ weight · signal, of N rows of recorded outputs."""

    def __init__(
        self, inputs: Mapping[str, int], weights: Mapping[str, float], signals: _Signals,
        *, calls_code: bool = False,
    ) -> None:  # fmt: skip
        self.inputs = inputs
        """Component whose recorded output is read → how many columns it has."""
        self._weights = {name: weight for name, weight in weights.items() if weight > 0}
        self._signals = signals
        self._calls_code = calls_code

    @classmethod
    def of(
        cls,
        pipeline: Pipeline,
        weights: Mapping[str, float],
        sessions: Mapping[str, ModelSession],
        widths: Mapping[str, int],
        pure: Mapping[str, Component] | None = None,
    ) -> Self:
        """The score with *weights* of the stages that are present, which sum to 1.

        `sessions` are the models, `widths` the columns of recorded outputs, and `pure` the
        components that are declared so, by component. Raises ModelUnnamed, ModelOfOtherColumns, and
        what reading the models raises.
        """
        needed = needed_components(pipeline, weights)
        run = run_components(pipeline, needed, weights)
        code = {name: each for name, each in (pure or {}).items() if name in run}
        if lacking := [name for name in run if name not in sessions and name not in code]:
            raise ModelUnnamed(pipeline.name, lacking[0])
        models = {name: sessions[name] for name in run if name not in code}
        inputs = {name: widths[name] for name in needed if is_recorded(pipeline.component(name))}
        if code:
            stages = StageFunctions(pipeline, needed, models, code)
            return cls(inputs, weights, stages.signals, calls_code=True)
        return cls(inputs, weights, _signals_of_models(pipeline, models, inputs))

    def as_read(self, output: Floats) -> Floats:
        """A recorded output as the stages read it: models float32, code of one's own as it is."""
        return output if self._calls_code else as_float32(output)

    def scores(self, outputs: Mapping[str, Floats], signals: Mapping[str, Floats32]) -> Floats64:
        """The scores (N,) of rows, by what components that are `inputs` say of them.

        `outputs` (N, F), and `signals` (N,), which count for components without a model.
        Raises PureComponentFailed.
        """
        computed = self._signals({name: outputs[name] for name in self.inputs}, signals)
        stages = [computed[name] if name in computed else signals[name] for name in self._weights]
        alpha = np.array([*self._weights.values()])
        matrix = np.stack(stages, axis=1)
        return combine(matrix, np.ones(matrix.shape, np.bool_), alpha).scores


def _signals_of_models(
    pipeline: Pipeline, models: Mapping[str, ModelSession], widths: Mapping[str, int]
) -> _Signals:
    """What these models say, in one session where that can be.

    Raises ModelOfOtherColumns, and what reading the models raises.
    """
    members = fusable_models(pipeline, models)
    if not members:
        return lambda _, __: {}
    read = {tensor for member in members for tensor in member.inputs}
    blocks = {block_of(name): width for name, width in widths.items() if block_of(name) in read}
    for member in members:
        given = sum(blocks.get(tensor, 1) for tensor in member.inputs)
        if given != member.session.n_inputs:
            raise ModelOfOtherColumns(member.name, member.session.n_inputs, given)
    run: _ModelSignals = partial(one_by_one, members)
    if len(members) > 1:
        try:
            run = FusedSession.of(members, blocks).signals
        except Exception as exc:  # graphs of any kind; one by one they give the same bits
            names = ", ".join(member.name for member in members)
            log.info("%s run one by one, a little slower: %s", names, exc)
    return lambda outputs, _: run(
        {block_of(name): as_float32(output) for name, output in outputs.items()}
    )
