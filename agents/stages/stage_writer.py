"""Turning rows into a component's stage batches: run its model, write its outputs."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from agents.components import (
    ActiveComponent,
    ComponentOutputs,
    Inference,
    ModelOutputs,
    in_share,
    run_models,
    split_outputs,
    spread,
)
from agents.recovery import last_answer
from agents.redrive import write_while_they_fit
from agents.workers import StageApp, StagePulse, TailReader, Wiring
from models.component import Batch
from topics.errors import BrokerError, LeaseLost
from topics.kafka import MAX_RECORD_BYTES, Record
from topics.records import BytesColumn, Codec, Failure, Ints, Rows, StageBatch, encode

log = logging.getLogger(__name__)

OUTPUT_TOO_LARGE = "OutputTooLarge"
_SHORT = 1024
"""So many bytes are kept of an id or key that goes with an output that is too large."""


class StageWriter:
    """Turns rows into stage batches on a component's topic."""

    def __init__(self, wiring: Wiring, name: str, active: ActiveComponent) -> None:
        self._wiring = wiring
        self._name = name
        self._active = active
        self.topic = wiring.topology.stage(name)
        self._shadow_topic = wiring.topology.shadow(name)
        self._thresholds = np.array(list(wiring.pipeline.policy.thresholds.values()))
        self._events = wiring.topology.events
        codec = wiring.pipeline.codec
        self._records = BatchWriter(wiring.app, self.topic, codec)
        self._shadow_records = BatchWriter(wiring.app, self._shadow_topic, codec)
        is_own_code = wiring.pipeline.component(name).import_path is not None
        self._inference = Inference(wiring.metrics, always_in_thread=is_own_code)
        self.pulse = StagePulse(wiring.app, name, self.topic)

    async def last_written(self, tail: TailReader, partition: int) -> int:
        """The highest source offset that the topic has an output for; -1 for none."""
        last = await last_answer(tail, self.topic, partition, self._name)
        self.pulse.opened(partition, last)
        return last

    async def transform(self, batch: Batch, rows: Ints, n: int) -> ModelOutputs:
        """Run the component over *batch*, whose rows are *rows* of N."""
        champion, challenger = self._active.champion, self._active.challenger  # of this moment
        result = await self._inference.run(
            lambda: run_models(champion, challenger, batch), batch.rows
        )
        return result.changed(lambda outputs: spread(outputs, rows, n))

    def batch(
        self,
        partition: int,
        covers_from: int,
        rows: Rows,
        result: ModelOutputs,
        failures: Mapping[int, Failure],
        *,
        covers_to: int = -1,
        lane: int | None = None,
    ) -> StageBatch:
        """The rows' outputs as a stage batch; with a challenger, as two."""

        def batch(outputs: ComponentOutputs) -> StageBatch:
            own = {
                row: Failure(row, self._name, error, reason)
                for row, (error, reason) in outputs.errors.items()
            }
            all_failures = {**own, **failures}
            return StageBatch(
                component=self._name, topic=self._events, partition=partition,
                covers_from=covers_from, rows=rows, present=outputs.present, output=outputs.output,
                signal=outputs.signal, model=result.model,
                failures=tuple(all_failures[row] for row in sorted(all_failures)),
                covers_to=covers_to, lane=lane,
            )  # fmt: skip

        if result.challenger is None:
            return batch(result.outputs)
        chosen = in_share(self._name, rows.keys, result.challenger.share)
        (used, by_them), (unused, not_by_them) = split_outputs(result, chosen)
        self._compare(result)
        challenger = result.challenger.model
        shadow = replace(batch(unused), challenger=challenger, challenged=not_by_them)
        if not by_them.any():
            return replace(batch(used), shadow=shadow)
        self._wiring.metrics.observe_canary(int(by_them.sum()), len(rows))
        return replace(batch(used), challenger=challenger, challenged=by_them, shadow=shadow)

    def _compare(self, result: ModelOutputs) -> None:
        """Note how far the challenger's signals are from the champion's."""
        if result.challenger is None:
            return
        champion, challenger = result.outputs, result.challenger.outputs
        both = champion.present & challenger.present
        ours, theirs = champion.signal[both], challenger.signal[both]
        flips = np.searchsorted(self._thresholds, ours, "right") != np.searchsorted(
            self._thresholds, theirs, "right"
        )
        self._wiring.metrics.observe_shadow(
            result.challenger.model.model,
            np.abs(ours.astype(np.float64) - theirs),
            int(flips.sum()),
        )

    async def write(self, batches: Sequence[StageBatch]) -> None:
        """Write batches of one source partition; each is a record (several if it is large)."""
        partition, began_ns = batches[0].partition, time.time_ns()
        for part in await self._records.write(partition, batches):
            self._wiring.metrics.observe_rows(part.present, part.failures)
        for batch in batches:
            self._wiring.spans.sent(self.topic, batch, began_ns)
            self.pulse.wrote(partition, batch.lane, batch.covers_to)
            if len(batch):
                self._active.starts.written(batch.model, partition, int(batch.rows.offsets[0]))
        await self._write_shadows(
            partition, [batch.shadow for batch in batches if batch.shadow is not None]
        )

    async def _write_shadows(self, partition: int, shadows: Sequence[StageBatch]) -> None:
        """Write what is for comparison only: when that fails the challenge ends, nothing else."""
        if not shadows:
            return
        try:
            await self._shadow_records.write(partition, shadows)
        except LeaseLost:
            raise
        except (BrokerError, KafkaError) as exc:
            log.warning(
                "%s[%d] cannot be written, so the challenger of %s runs no longer here: %s",
                self._shadow_topic, partition, self._name, exc,
            )  # fmt: skip
            self._active.end_challenge(f"{self._shadow_topic} cannot be written: {exc}")
            self._wiring.metrics.observe_swap("refused")


class BatchRecord(NamedTuple):
    """A batch, or a part of one, and the record that it is."""

    batch: StageBatch
    record: Record


class BatchWriter:
    """Writes stage batches on one topic, in as many records as it takes them in.

    A row that is too large for a record of its own is absent, whether that is more than we write
    or more than the topic takes (`max.message.bytes`): it stops nothing.
    """

    def __init__(self, app: StageApp, topic: str, codec: Codec) -> None:
        self._app = app
        self._topic = topic
        self._codec = codec
        self._most = MAX_RECORD_BYTES
        """The size that batches are split to; less once the topic has refused that."""

    async def write(self, partition: int, batches: Sequence[StageBatch]) -> list[StageBatch]:
        """Append *batches* in order; the parts that they were written in.

        Returns when the broker has them. Raises MessageSizeTooLargeError when the topic does not
        even take a row without its output.
        """

        async def write(records: Sequence[Record]) -> None:
            await self._app.writer.write(self._topic, partition, records)

        parts = [
            part for batch in batches for part in encoded_parts(batch, self._codec, self._most)
        ]
        written = 0
        while True:
            records = [part.record for part in parts[written:]]
            written += await write_while_they_fit(write, records, self._most)
            if written == len(parts):
                return [part.batch for part in parts]
            parts[written : written + 1] = self._smaller(parts[written])

    def _smaller(self, part: BatchRecord) -> list[BatchRecord]:
        """The same rows in smaller records than one that the topic has refused."""
        batch, size = part.batch, len(part.record.value or b"")
        if len(batch) > 1:
            self._most = min(self._most, size // 2)
            half = len(batch) // 2
            halves = (batch[:half], batch[half:])
            return [
                smaller
                for some in halves
                for smaller in encoded_parts(some, self._codec, self._most)
            ]
        if not batch.present.any():
            raise MessageSizeTooLargeError(
                f"{self._topic} takes no record of {size:,} bytes, which is a row without any "
                "output: raise the topic's max.message.bytes"
            )
        why = f"its output takes {size:,} bytes, more than {self._topic} takes a record"
        return [_alone(_without_output(batch, why), self._codec)]


def encoded_records(batch: StageBatch, codec: Codec) -> list[Record]:
    """The batch as one record, or as several when it is large, see `encoded_parts`."""
    return [part.record for part in encoded_parts(batch, codec)]


def encoded_parts(
    batch: StageBatch, codec: Codec, most: int = MAX_RECORD_BYTES
) -> list[BatchRecord]:
    """The batch as one record, or as several where it would take more than *most* bytes.

    A row that takes more by itself is absent.
    """
    half = len(batch) // 2
    if not half or codec == "json" or batch.output.nbytes <= most:  # or it is not worth a try
        part = _alone(batch, codec)
        size = len(part.record.value or b"")
        if size <= most or not len(batch):
            return [part]
        if not half:
            if size <= MAX_RECORD_BYTES:
                return [part]  # a smaller *most* is of a batch that was refused: this may fit
            why = f"its output takes {size:,} bytes, and a record {MAX_RECORD_BYTES:,} at most"
            return [_alone(_without_output(batch, why), codec)]
    return [*encoded_parts(batch[:half], codec, most), *encoded_parts(batch[half:], codec, most)]


def _alone(batch: StageBatch, codec: Codec) -> BatchRecord:
    value, headers = encode(batch, codec)
    return BatchRecord(batch, Record(None, value, int(time.time() * 1000), headers))


def _without_output(batch: StageBatch, reason: str) -> StageBatch:
    """A batch of one row without what makes it large."""
    rows = batch.rows
    short = replace(
        rows,
        ids=BytesColumn.of([rows.ids.items()[0][:_SHORT]]),
        keys=BytesColumn.of([rows.keys.items()[0][:_SHORT]]),
    )
    return replace(
        batch, rows=short, present=np.zeros(1, np.bool_), output=np.zeros((1, 1), np.float32),
        signal=np.zeros(1, np.float32), shadow=None,
        entities=None if batch.entities is None else BytesColumn.of([b""]),
        failures=(Failure(0, batch.component, OUTPUT_TOO_LARGE, reason),),
    )  # fmt: skip
