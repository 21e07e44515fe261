"""The models of a worker's components in one session, as long as that can be.

See `agents.stages.component_group` for what it means that components are fused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agents.components import (
    ActiveComponent,
    Inference,
    ModelOutputs,
    OpenComponent,
    checked,
    spread,
)
from agents.join import StageInput
from agents.workers import Wiring
from models.arrays import Floats32
from models.component import StageOutput
from models.onnx.fuse import FusedSession, block_of, fusable_models
from models.onnx.model_component import ModelComponent
from models.onnx.session import ModelSession
from models.registry import RegistryError
from topics.events import BeyondFloat32, as_float32
from topics.pipeline import worker_name
from topics.records import Floats, Ints

log = logging.getLogger(__name__)

Champions = Mapping[str, OpenComponent]


@dataclass(frozen=True, slots=True)
class _OuterInputs:
    """What the components' models read of some rows from outside."""

    rows: Ints
    """Of the N that are given, those that everything is there of."""
    blocks: Mapping[str, Floats32]
    features_of: str | None = None
    """The component that reads events."""
    features: Floats | None = None
    """What that one passes on."""

    @property
    def widths(self) -> dict[str, int]:
        return {name: block.shape[1] for name, block in self.blocks.items()}


class FusedModels:
    """Runs all components of a worker in one session, or says that they are to run one by one.

    They run one by one while one of them has a challenger, where a row lacks an input of some of
    them or an output, and until the session of what is in service now is there: it is made aside.
    One that fails is not used again until another version is in service.
    """

    def __init__(self, wiring: Wiring, components: Mapping[str, ActiveComponent]) -> None:
        self._worker = worker_name([*components])
        self._pipeline = wiring.pipeline
        self._components = components
        self._metrics = wiring.metrics
        self._inference = Inference(wiring.metrics)
        self._of: Champions = {}
        self._widths: Mapping[str, int] = {}
        self._session: FusedSession | None = None
        self._making: asyncio.Task[None] | None = None

    async def run(self, rows: StageInput) -> dict[str, ModelOutputs]:
        """What each component makes of the rows; empty when they are to run one by one."""
        if any(active.challenger is not None for active in self._components.values()):
            return {}
        champions = {name: active.champion for name, active in self._components.items()}
        try:
            read = self._read(rows, champions)
            if read is None or not len(read.rows):
                return {}
            session = self._session_of(champions, read.widths)
            if session is None:
                return {}
            n = len(rows.rows)
            return await self._inference.run(lambda: _outputs(session, champions, read, n), n)
        except BeyondFloat32:
            return {}  # one by one it comes out which row's it is
        except Exception:  # whatever it is: one by one it comes out which component's it is
            log.exception("%s: its components run one by one from now on", self._worker)
            self._use(None)
            return {}

    def _read(self, rows: StageInput, champions: Champions) -> _OuterInputs | None:
        """None when some rows have only a part of what is read."""
        if rows.events is not None:
            batch, valid, _ = rows.events
            name, first = next(iter(champions.items()))
            if not isinstance(first.component, ModelComponent) or not batch.rows:
                return None
            passed_on = first.component.features(batch)
            if passed_on is None:
                return None
            blocks = {block_of(name): passed_on.model_input}
            return _OuterInputs(valid, blocks, name, passed_on.features)
        whole, *others = [stage.present for stage in rows.stages.values()]
        if any((present != whole).any() for present in others):
            return None
        present = np.flatnonzero(whole)
        blocks = {
            block_of(name): as_float32(stage.output[present]) for name, stage in rows.stages.items()
        }
        return _OuterInputs(present, blocks)

    def _session_of(self, champions: Champions, widths: Mapping[str, int]) -> FusedSession | None:
        """The session, if it is there; otherwise it is begun to be made."""
        if self._of != champions:
            self._of, self._widths = champions, widths
            self._use(None)
            self._making = asyncio.create_task(self._make(champions, widths))
        return self._session if widths == self._widths else None

    async def _make(self, champions: Champions, widths: Mapping[str, int]) -> None:
        try:
            parts = fusable_models(self._pipeline, _sessions(champions))
            session = await asyncio.to_thread(FusedSession.of, parts, widths)
        except Exception as exc:  # graphs of any kind: what is wrong with one must end no worker
            log.warning("%s: its components run one by one: %s", self._worker, exc)
            return
        if self._of == champions:
            self._use(session)

    def _use(self, session: FusedSession | None) -> None:
        self._session = session
        self._metrics.observe_fused(in_one=session is not None)


def _sessions(champions: Champions) -> dict[str, ModelSession]:
    sessions: dict[str, ModelSession] = {}
    for name, opened in champions.items():
        if not isinstance(opened.component, ModelComponent):
            raise RegistryError(f"{name} has no ONNX model")
        sessions[name] = opened.component.session
    return sessions


def _outputs(
    session: FusedSession, champions: Champions, read: _OuterInputs, n: int
) -> dict[str, ModelOutputs]:
    """The outputs; empty when one of them is not valid: one by one it comes out why."""
    results: dict[str, ModelOutputs] = {}
    for name, signal in session.signals(read.blocks).items():
        opened = champions[name]
        output = StageOutput.of_signal(signal)
        if name == read.features_of and read.features is not None:
            output = StageOutput(read.features, signal)
        outputs = checked(output, len(read.rows))
        if outputs.errors:
            return {}
        results[name] = ModelOutputs(opened.model, spread(outputs, read.rows, n))
    return results
