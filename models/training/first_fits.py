"""Components fitted in the order of the flow, each on what those before it say in service.

A fitted model is registered aside and opened from there by the same code as in service; then it is
run over all rows, so that what reads it is fitted on honest inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from models.component import Component
from models.onnx.model_component import ComponentOpener
from models.registry import ModelVersion, Registry
from models.training.engines import Engine, Task
from models.training.fit import Fit, Fits
from models.training.stage_outputs import StageOutputs
from models.training.training_plan import TrainingPlan
from topics.pipeline import EVENTS, OUTCOMES, Pipeline

Clock = Callable[[], datetime]
Progress = Callable[[str, float], None]
"""Told the component, and how much of it is done, from 0 to 1."""
Versions = Mapping[str, ModelVersion]


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class FirstFits:
    """The models of one training before they are fitted again, and the components with them.

    `registry` opens what is not fitted, on the versions *kept*.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        folder: Path,
        plan: TrainingPlan,
        stages: StageOutputs,
        engine: Engine,
        *,
        open_component: ComponentOpener,
        registry: Registry,
        aside: Registry,
        kept: Versions,
        data_hash: str = "",
        clock: Clock = utc_now,
    ) -> None:
        self.fits = Fits(pipeline, plan, stages, engine)
        self.versions: dict[str, ModelVersion] = {}
        """Component → its model, as it is registered aside."""
        self.components: dict[str, Component] = {}
        self._pipeline, self._folder, self._plan = pipeline, folder, plan
        self._stages, self._engine, self._open = stages, engine, open_component
        self._registry, self._aside, self._kept = registry, aside, kept
        self._data_hash, self._clock = data_hash, clock

    def submit(self, names: Sequence[str]) -> dict[str, Task[Fit]]:
        """Have those of the components *names* fitted that are fitted here.

        All that they read has been run.
        """
        return {
            name: self.fits.submit(name, self._plan.rows(name))
            for name in names
            if name in self._plan.estimators
        }

    def run(self, names: Sequence[str], tasks: Mapping[str, Task[Fit]], progress: Progress) -> None:
        """Wait for the models, open the components *names*, and run them over all rows."""
        models = self._engine.gather([*tasks.values()])
        for name, fitted in zip(tasks, models, strict=True):
            model = self.fits.first(name, fitted.onnx, data_hash=self._data_hash, clock=self._clock)
            self.versions[name] = self._aside.add(self._pipeline.name, name, *model)
        for name in names:
            registry = self._aside if name in tasks else self._registry
            version = version_in({**self._kept, **self.versions}, name)
            pipeline = self._pipeline.with_version(name, version)
            component = self._open(pipeline, name, registry, self._folder).component
            self.components[name] = component
            self._stages.run(name, component, partial(progress, name))


def fields_used(pipeline: Pipeline) -> list[str]:
    """The event fields that features are made of."""
    used: list[str] = []
    for spec in pipeline.components:
        if spec.windowed:
            used.append(pipeline.entity(spec.name))
        used += [
            feature.of for feature in spec.features or [] if feature.of not in (EVENTS, OUTCOMES)
        ]
    return used


def version_in(versions: Versions, name: str) -> int | None:
    """The version of component *name*, to keep it on whatever others register meanwhile."""
    return versions[name].version if name in versions else None
