"""The models of a worker's components in one session, as long as that can be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agents.components import OpenComponent
from agents.inference import Inference
from agents.slot import Made
from agents.stage_metrics import StageMetrics
from agents.transforming import checked, spread
from models.component import StageOutput
from models.fusing import FusedSession, Part
from models.model_component import ModelComponent
from models.registry_errors import RegistryError
from models.session import Singles
from topics.feature import EVENTS
from topics.stage_batch import Floats, Ints

if TYPE_CHECKING:
    from agents.chain import Given, Member

log = logging.getLogger(__name__)

Champions = Mapping[str, OpenComponent]


@dataclass(frozen=True, slots=True)
class _Read:
    """What the components' models read of some rows from outside."""

    rows: Ints
    """Of the N that are given, those that everything is there of."""
    blocks: Mapping[str, Singles]
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
    """

    def __init__(self, worker: str, members: Mapping[str, Member], metrics: StageMetrics) -> None:
        self._worker = worker
        self._members = members
        self._metrics = metrics
        self._inference = Inference(metrics)
        self._of: tuple[Champions, Mapping[str, int]] | None = None
        self._session: FusedSession | None = None
        self._merging: asyncio.Task[None] | None = None

    async def run(self, given: Given) -> dict[str, Made]:
        """What each component makes of the rows; empty when they are to run one by one."""
        if any(member.slot.challenge is not None for member in self._members.values()):
            return {}
        champions = {name: member.slot.champion for name, member in self._members.items()}
        try:
            read = self._read(given, champions)
            if read is None or not len(read.rows):
                return {}
            session = self._session_of(champions, read.widths)
            if session is None:
                return {}
            n = len(given.rows)
            return await self._inference.run(lambda: _made(session, champions, read, n), n)
        except Exception:  # whatever it is: one by one it comes out which component's it is
            log.exception("%s: not in one session", self._worker)
            return {}

    def _read(self, given: Given, champions: Champions) -> _Read | None:
        """None when some rows have only a part of what is read."""
        if given.events is not None:
            batch, rows, _ = given.events
            name, first = next(iter(champions.items()))
            if not isinstance(first.component, ModelComponent) or not batch.rows:
                return None
            features = first.component.vector(batch)
            blocks = {_block(name): features.astype(np.float32, copy=False)}
            return _Read(rows, blocks, name, features)
        present = [stage.present for stage in given.stages.values()]
        if any((it != present[0]).any() for it in present):
            return None
        rows = np.flatnonzero(present[0])
        blocks = {
            _block(name): stage.output[rows].astype(np.float32, copy=False)
            for name, stage in given.stages.items()
        }
        return _Read(rows, blocks)

    def _session_of(self, champions: Champions, widths: Mapping[str, int]) -> FusedSession | None:
        """The session, if it is there; otherwise it is begun to be made."""
        if self._of != (champions, widths):
            self._of = champions, widths
            self._session = None
            self._metrics.observe_fused(in_one=False)
            self._merging = asyncio.create_task(self._merge(champions, widths))
        return self._session

    async def _merge(self, champions: Champions, widths: Mapping[str, int]) -> None:
        try:
            parts = [self._part(name, it, champions) for name, it in champions.items()]
            session = await asyncio.to_thread(FusedSession.of, parts, widths)
        except Exception as exc:  # graphs of any kind: what is wrong with one must end no worker
            log.warning("%s: its components run one by one: %s", self._worker, exc)
            return
        if self._of == (champions, widths):
            self._session = session
            self._metrics.observe_fused(in_one=True)

    def _part(self, name: str, opened: OpenComponent, champions: Champions) -> Part:
        if not isinstance(opened.component, ModelComponent):
            raise RegistryError(f"{name} has no ONNX model")
        inputs = self._members[name].inputs
        return Part(name, opened.component.session, self._tensors(name, inputs, champions))

    def _tensors(self, name: str, inputs: Sequence[str], champions: Champions) -> list[str]:
        """What the model of *name* reads: signals of others, blocks from outside."""
        if EVENTS in inputs:
            return [_block(name)]
        passes_features_on = {it for it in champions if EVENTS in self._members[it].inputs}
        return [
            it if it in champions and it not in passes_features_on else _block(it) for it in inputs
        ]


def _block(name: str) -> str:
    """What the columns that component *name* passes on are called in a graph."""
    return f"{name}.output"


def _made(session: FusedSession, champions: Champions, read: _Read, n: int) -> dict[str, Made]:
    """The outputs; empty when one of them is not valid: one by one it comes out why."""
    found: dict[str, Made] = {}
    for name, signal in session.signals(read.blocks).items():
        opened = champions[name]
        output = StageOutput.of_signal(signal)
        if name == read.features_of and read.features is not None:
            output = StageOutput(read.features, signal)
        done = checked(output, len(read.rows))
        if done.errors:
            return {}
        found[name] = Made(opened.model, spread(done, read.rows, n))
    return found
