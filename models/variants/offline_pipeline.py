"""A pipeline run over rows, offline: what its components read, and what would be decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats32
from models.component import Component
from models.training.called_rows import called_rows
from models.training.data import TrainingData
from models.training.stage_outputs import StageOutputs
from models.weighting import combine
from topics.pipeline import Pipeline, in_order

Components = Mapping[str, Component]
Progress = Callable[[float], None]


class OfflinePipeline:
    """All stages' outputs for N rows, and the decisions that follow from them."""

    def __init__(
        self,
        pipeline: Pipeline,
        data: TrainingData,
        components: Components,
        weights: Mapping[str, float],
        progress: Progress = lambda _: None,
    ) -> None:
        """Run every component. Raises ComponentFailed."""
        self._pipeline, self.components = pipeline, components
        self._alpha = np.array([weights[name] for name in pipeline.weighting.inputs])
        self._thresholds = np.array(list(pipeline.policy.thresholds.values()))
        self.data = data = called_rows(pipeline, data, components.__getitem__).data
        self._stages = StageOutputs(pipeline, data)
        for done, name in enumerate(in_order(pipeline), start=1):
            self._stages.run(name, components[name], lambda _: None)
            progress(done / len(components))
        self._decisions = self._decided(self._stages)

    def model_input(self, name: str) -> Floats32:
        """What the model of component *name* reads, (N, F)."""
        return self._stages.model_input(name, slice(0, self.data.rows))

    def passed_on(self, name: str) -> Floats32:
        """What component *name* gives to those that read it, (N, F)."""
        return self._stages.output(name).astype(np.float32)

    def signal(self, name: str) -> Floats32:
        """What component *name* says, (N,)."""
        return self._stages.signals([name], slice(0, self.data.rows))[:, 0]

    def flips(self, replaced: Components) -> int:
        """How many of the N decisions are others with *replaced* in place of theirs.

        Whatever reads a replaced component is run again. Raises ComponentFailed.
        """
        stages, changed = StageOutputs(self._pipeline, self.data), set(replaced)
        for name in in_order(self._pipeline):
            if changed.isdisjoint([name, *self._pipeline.component(name).inputs]):
                stages.take(name, self._stages)
                continue
            changed.add(name)
            stages.run(name, replaced.get(name, self.components[name]), lambda _: None)
        return int((self._decided(stages) != self._decisions).sum())

    def _decided(self, stages: StageOutputs) -> NDArray[np.intp]:
        """The place of each row's decision in the policy, as the weighting agent finds it."""
        signals = stages.signals(self._pipeline.weighting.inputs, slice(0, self.data.rows))
        scores = combine(signals, np.ones(signals.shape, np.bool_), self._alpha).scores
        return np.searchsorted(self._thresholds, scores, "right")
