"""Fits that go on: a version's estimator learns the rows that came after its own, each once.

Rows come in blocks, in time order, and are let go again: memory is that of one block, of what is
judged and of RECENT_ROWS rows, however many come. A component that reads others reads what their
versions in service say of the rows, and only of rows that these were not fitted on themselves.

Figures are prequential: of the newest fifth of the rows, by the model as it was before it was
fitted on any of them (Dawid, *Present Position and Potential Developments*, J. R. Stat. Soc. A 147,
1984). In the end it has learned these too.

Every CHECKPOINT_BLOCKS blocks what there is is kept in a file: who begins again with the same rows
and versions goes on from there, to the same model.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from sklearn.pipeline import Pipeline as FittedPipeline

from models.arrays import Bools, Floats32, Floats64
from models.onnx.model_component import ComponentOpener
from models.onnx.probing import probe_of
from models.onnx.session import ModelSession
from models.registry import Continuation, ModelVersion, Registry, library_versions
from models.report.quality import ranking
from models.training.data import TrainingData, joined
from models.training.drift_references import component_references
from models.training.engines import one_thread
from models.training.export import export
from models.training.first_fits import Clock, utc_now
from models.training.fit import FittedModel
from models.training.stage_outputs import StageOutputs
from models.training.training_state import go_on, opened_state, state_of
from models.training.unseen_rows import rfc3339_of
from topics.pipeline import Pipeline, in_order

JUDGED_SHARE = 0.2
MOST_JUDGED = 1_000_000
RECENT_ROWS = 20_000
"""Of the newest rows, on which the model is tried, and which drift is measured against."""
CHECKPOINT_BLOCKS = 16

Blocks = Callable[[int], Iterator[TrainingData]]
"""The blocks of rows from that block on, always the same ones; some may be empty."""


class Base(NamedTuple):
    """What the fit of a component goes on from."""

    version: ModelVersion
    """The version in service, or the one that it is a variant of: with a state."""
    since_ms: int
    """Rows later than that are new to it, and to all that it reads (ms since 1970)."""


class Continued(NamedTuple):
    """What the fit of a component has come to."""

    model: FittedModel
    reference: bytes
    state: bytes
    average_precision: float | None
    """On the newest rows, before it was fitted on them; None where all outcomes were the same."""
    judged_rows: int


@dataclass(slots=True)
class _Fit:
    """One component's."""

    fitted: FittedPipeline
    hashed: str
    """Digest of all rows that it was fitted on, as far as that is known."""
    before: FittedPipeline | None = None
    """As it was before the rows that it is judged on."""
    rows: int = 0
    first_ms: int = 0
    last_ms: int = 0
    signals: list[Floats32] = field(default_factory=list)
    labels: list[Bools] = field(default_factory=list)
    weights: list[Floats64] = field(default_factory=list)

    def judge(self, x: Floats32, data: TrainingData) -> None:
        """Say what it would of rows that it is to be judged on."""
        if self.before is None:
            self.before = deepcopy(self.fitted)
        self.signals.append(self.before.predict_proba(x)[:, 1].astype(np.float32))
        self.labels.append(data.labels)
        self.weights.append(np.ones(data.rows) if data.weights is None else data.weights)

    def feed(self, x: Floats32, data: TrainingData, times_ms: Any) -> None:
        """Learn them."""
        go_on(self.fitted, x, data.labels, data.weights)
        self.first_ms = self.first_ms if self.rows else int(times_ms[0])
        self.rows, self.last_ms = self.rows + data.rows, int(times_ms[-1])
        both = f"{self.hashed}\n{data.digest()}".encode()
        self.hashed = f"sha256:{hashlib.sha256(both).hexdigest()}"

    def average_precision(self) -> float | None:
        """Of what it said; None where the outcomes were all the same, or there were none."""
        if not self.labels:
            return None
        labels = np.concatenate(self.labels)
        if labels.all() or not labels.any():
            return None
        signals, weights = np.concatenate(self.signals), np.concatenate(self.weights)
        return ranking(labels, signals, weights).average_precision

    def arrays(self) -> dict[str, Any]:
        """What is kept of it."""
        before = b"" if self.before is None else state_of(self.before)
        return {
            "state": np.frombuffer(state_of(self.fitted), np.uint8),
            "before": np.frombuffer(before, np.uint8),
            "told": np.array([self.rows, self.first_ms, self.last_ms], np.int64),
            "hashed": np.array(self.hashed),
            "signals": np.concatenate([np.zeros(0, np.float32), *self.signals]),
            "labels": np.concatenate([np.zeros(0, np.bool_), *self.labels]),
            "weights": np.concatenate([np.zeros(0), *self.weights]),
        }


class ContinuedFits:
    """The fits of some components of a pipeline that go on over the same rows."""

    def __init__(
        self, pipeline: Pipeline, folder: Path, registry: Registry, *,
        open_component: ComponentOpener, bases: Mapping[str, Base],
        in_service: Mapping[str, int], checkpoint: Path | None = None, key: str = "",
        clock: Clock = utc_now,
    ) -> None:  # fmt: skip
        """*in_service*: component → version, of what they read; *key* tells the rows apart."""
        self._pipeline, self._folder, self._registry = pipeline, folder, registry
        self._open, self._bases, self._in_service = open_component, bases, in_service
        self._checkpoint, self._clock = checkpoint, clock
        self._key = json.dumps([key, {name: of.version.digest for name, of in bases.items()}])

    def run(self, blocks: Blocks, rows: int, block_rows: int) -> dict[str, Continued]:
        """Feed *rows* rows in blocks of so many; without the components that no row was new to.

        Raises StateNotOpened, EstimatorError, ComponentFailed, NotExportable and ExportMismatch.
        """
        judged = min(int(np.ceil(rows * JUDGED_SHARE)), MOST_JUDGED)
        judged_from = -(-(rows - judged) // block_rows)  # whole blocks
        if judged_from * block_rows >= rows and judged_from:
            judged_from -= 1
        recent_from = max(judged_from, (rows - RECENT_ROWS) // block_rows)
        with one_thread():
            position, fits = self._taken_up() or (0, self._begun())
            upstream = self._upstream()
            recent: deque[TrainingData] = deque()
            start = min(position, recent_from)
            for place, data in enumerate(blocks(start), start):
                if place >= recent_from and data.rows:
                    recent.append(data)
                if place < position or not data.rows:
                    continue
                self._feed(fits, upstream, data, judged=place >= judged_from)
                if (place + 1) % CHECKPOINT_BLOCKS == 0:
                    self._keep(place + 1, fits)
            fed = {name: fit for name, fit in fits.items() if fit.rows}
            return self._finished(fed, upstream, joined([*recent])) if fed else {}

    def _feed(
        self, fits: Mapping[str, _Fit], upstream: Mapping[str, Any], data: TrainingData, *,
        judged: bool,
    ) -> None:  # fmt: skip
        stages = self._stages(upstream, data)
        times = np.asarray(data.columns[self._pipeline.event.time], np.int64)
        for name, fit in fits.items():
            new = times > self._bases[name].since_ms
            if not new.any():
                continue
            x, own = stages.model_input(name, slice(0, data.rows))[new], data.picked(new)
            if judged:
                fit.judge(x, own)
            fit.feed(x, own, times[new])

    def _stages(self, upstream: Mapping[str, Any], data: TrainingData) -> StageOutputs:
        stages = StageOutputs(self._pipeline, data)
        for name, component in upstream.items():
            stages.run(name, component, lambda _: None)
        return stages

    def _finished(
        self, fits: Mapping[str, _Fit], upstream: Mapping[str, Any], recent: TrainingData
    ) -> dict[str, Continued]:
        """What there is to register."""
        stages, continued = self._stages(upstream, recent), {}
        for name, fit in fits.items():
            base = self._bases[name].version
            x = stages.model_input(name, slice(0, recent.rows))
            onnx = export(fit.fitted, x)
            average_precision = fit.average_precision()
            card = base.card.model_copy(update={
                "rows": base.card.rows + fit.rows, "data_hash": fit.hashed,
                "created_at": self._clock().isoformat(), "libraries": library_versions(),
                "metrics": {} if average_precision is None else
                    {"average_precision": average_precision},
                "trained_until": rfc3339_of(fit.last_ms), "note": "", "variant": "fp32",
                "parent": None, "variants": [],
                "continues": Continuation(
                    version=base.version, since=rfc3339_of(fit.first_ms),
                    until=rfc3339_of(fit.last_ms), rows=fit.rows,
                ),
            })  # fmt: skip
            model = FittedModel(onnx, card, probe_of(ModelSession.of(onnx, name), x))
            reference = self._reference(name, export(fit.before or fit.fitted, x), card, stages)
            continued[name] = Continued(
                model, reference, state_of(fit.fitted), average_precision,
                sum(map(len, fit.labels)),
            )  # fmt: skip
        return continued

    def _reference(self, name: str, onnx: bytes, card: Any, stages: StageOutputs) -> bytes:
        """What drift is measured against: the newest rows, by the model that did not know them."""
        with TemporaryDirectory(prefix="anabranch-continue-") as aside:
            registry = Registry(Path(aside))
            version = registry.add(self._pipeline.name, name, onnx, card)
            opened = self._open(
                self._pipeline.with_version(name, version.version), name, registry, self._folder
            )
            stages.run(name, opened.component, lambda _: None)
        rows = slice(0, stages.data.rows)
        return component_references(self._pipeline, stages, rows, [name])[name]

    def _begun(self) -> dict[str, _Fit]:
        return {
            name: _Fit(self._opened(name, base.version.state() or b""), base.version.card.data_hash)
            for name, base in self._bases.items()
        }

    def _opened(self, name: str, state: bytes) -> FittedPipeline:
        model = self._pipeline.component(name).model
        if model is None:
            raise ValueError(f"component {name} has no model")
        return opened_state(state, model)

    def _upstream(self) -> dict[str, Any]:
        """What the components read, as it is in service, in the order of the flow."""
        needed = read_by(self._pipeline, [*self._bases])
        opened = {}
        for name in in_order(self._pipeline):
            if name in needed:
                pipeline = self._pipeline.with_version(name, self._in_service.get(name))
                opened[name] = self._open(pipeline, name, self._registry, self._folder).component
        return opened

    def _keep(self, position: int, fits: Mapping[str, _Fit]) -> None:
        if self._checkpoint is None:
            return
        arrays = {f"{name} {what}": value for name, fit in fits.items()
                  for what, value in fit.arrays().items()}  # fmt: skip
        unfinished = self._checkpoint.with_name(f".{self._checkpoint.name}.{os.getpid()}")
        with unfinished.open("wb") as file:
            np.savez(file, position=np.array(position), key=np.array(self._key), **arrays)
        unfinished.replace(self._checkpoint)

    def _taken_up(self) -> tuple[int, dict[str, _Fit]] | None:
        """How far an earlier run has come with the same rows and versions; None for no run."""
        if self._checkpoint is None or not self._checkpoint.exists():
            return None
        with np.load(self._checkpoint, allow_pickle=False) as kept:
            if str(kept["key"]) != self._key:
                return None
            return int(kept["position"]), {
                name: self._fit_of(name, {what: kept[f"{name} {what}"] for what in _KEPT})
                for name in self._bases
            }

    def _fit_of(self, name: str, kept: Mapping[str, Any]) -> _Fit:
        before = kept["before"].tobytes()
        rows, first_ms, last_ms = kept["told"].tolist()
        return _Fit(
            fitted=self._opened(name, kept["state"].tobytes()), hashed=str(kept["hashed"]),
            before=self._opened(name, before) if before else None, rows=rows, first_ms=first_ms,
            last_ms=last_ms, signals=[kept["signals"]], labels=[kept["labels"]],
            weights=[kept["weights"]],
        )  # fmt: skip


_KEPT = ("state", "before", "told", "hashed", "signals", "labels", "weights")


def read_by(pipeline: Pipeline, names: Sequence[str]) -> set[str]:
    """The components that any of *names* reads, by others too."""
    known = {spec.name: spec for spec in pipeline.components}
    needed, todo = set[str](), [*names]
    while todo:
        for source in known[todo.pop()].inputs:
            if source in known and source not in needed:
                needed.add(source)
                todo.append(source)
    return needed
