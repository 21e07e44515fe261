"""Turning rows into a component's stage batches: run its model, write what it makes."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from agents.inference import Inference
from agents.slot import Made, Slot, exchanged, in_share, made_by
from agents.tail import TailReader
from agents.transforming import Transformed, spread
from agents.worker import Wiring
from models.component import Batch
from topics.batches import Record
from topics.errors import BrokerError, LeaseLost
from topics.stage_batch import Failure, Ints, Rows, StageBatch
from topics.wire import Codec, decode, encode

log = logging.getLogger(__name__)

MAX_RECORD_BYTES = 900_000
"""A stage batch larger than this is split; brokers refuse records over 1 MB by default."""


class StageWriter:
    """Turns rows into stage batches on a component's topic."""

    def __init__(self, wiring: Wiring, name: str, slot: Slot) -> None:
        self._wiring = wiring
        self._name = name
        self._slot = slot
        self.topic = wiring.topology.stage(name)
        self._shadow_topic = wiring.topology.shadow(name)
        self._thresholds = np.array(list(wiring.pipeline.policy.thresholds.values()))
        self._events = wiring.topology.events
        self._inference = Inference(wiring.metrics)

    async def last_written(self, tail: TailReader, partition: int) -> int:
        """The highest source offset that the topic has an output for; -1 for none."""

        def source_offset(record: ConsumerRecord) -> int:
            return int(decode(record.value, dict(record.headers)).rows.offsets[-1])

        return max(await tail.last_read(self.topic, partition, source_offset), default=-1)

    async def transform(self, batch: Batch, rows: Ints, n: int) -> Made:
        """Run the component over *batch*, whose rows are *rows* of N."""
        champion, challenge = self._slot.champion, self._slot.challenge  # of this moment
        made = await self._inference.run(lambda: made_by(champion, challenge, batch), batch.rows)
        return made.changed(lambda done: spread(done, rows, n))

    def batch(
        self,
        partition: int,
        covers_from: int,
        rows: Rows,
        made: Made,
        failures: Mapping[int, Failure],
        *,
        covers_to: int = -1,
        lane: int | None = None,
    ) -> StageBatch:
        """The rows' outputs as a stage batch; with a challenger, as two."""

        def batch(done: Transformed) -> StageBatch:
            own = {
                row: Failure(row, self._name, error, reason)
                for row, (error, reason) in done.errors.items()
            }
            all_failures = {**own, **failures}
            return StageBatch(
                component=self._name, topic=self._events, partition=partition,
                covers_from=covers_from, rows=rows, present=done.present, output=done.output,
                signal=done.signal, model=made.model,
                failures=tuple(all_failures[row] for row in sorted(all_failures)),
                covers_to=covers_to, lane=lane,
            )  # fmt: skip

        if made.beside is None:
            return batch(made.done)
        chosen = in_share(self._name, rows.keys, made.beside.share)
        (used, by_them), (unused, not_by_them) = exchanged(made, chosen)
        self._compare(made)
        beside = made.beside.model
        shadow = replace(batch(unused), challenger=beside, challenged=not_by_them)
        if not by_them.any():
            return replace(batch(used), shadow=shadow)
        self._wiring.metrics.observe_canary(int(by_them.sum()), len(rows))
        return replace(batch(used), challenger=beside, challenged=by_them, shadow=shadow)

    def _compare(self, made: Made) -> None:
        """Note how far the challenger's signals are from the champion's."""
        if made.beside is None:
            return
        both = made.done.present & made.beside.done.present
        ours, theirs = made.done.signal[both], made.beside.done.signal[both]
        flips = np.searchsorted(self._thresholds, ours, "right") != np.searchsorted(
            self._thresholds, theirs, "right"
        )
        self._wiring.metrics.observe_shadow(
            made.beside.model.model, np.abs(ours.astype(np.float64) - theirs), int(flips.sum())
        )

    async def write(self, batches: Sequence[StageBatch]) -> None:
        """Write batches of one source partition; each is a record (several if it is large)."""
        codec = self._wiring.pipeline.codec
        partition = batches[0].partition
        records = [record for batch in batches for record in encoded_records(batch, codec)]
        await self._wiring.app.writer.write(self.topic, partition, records)
        for batch in batches:
            self._wiring.metrics.observe_rows(batch.present, batch.failures)
            if len(batch):
                self._slot.written(batch.model, partition, int(batch.rows.offsets[0]))
        await self._write_shadows(partition, [it.shadow for it in batches if it.shadow is not None])

    async def _write_shadows(self, partition: int, shadows: Sequence[StageBatch]) -> None:
        """Write what is for comparison only: when that fails the challenge ends, nothing else."""
        if not shadows:
            return
        codec = self._wiring.pipeline.codec
        records = [record for batch in shadows for record in encoded_records(batch, codec)]
        try:
            await self._wiring.app.writer.write(self._shadow_topic, partition, records)
        except LeaseLost:
            raise
        except (BrokerError, KafkaError) as exc:
            log.warning(
                "%s[%d] cannot be written, so the challenger of %s runs no longer here: %s",
                self._shadow_topic, partition, self._name, exc,
            )  # fmt: skip
            self._slot.challenge = None
            self._wiring.metrics.observe_swap("refused")


def encoded_records(batch: StageBatch, codec: Codec) -> list[Record]:
    """The batch as one record, or as several when it is large."""
    value, headers = encode(batch, codec)
    if len(value) <= MAX_RECORD_BYTES or len(batch) <= 1:
        return [Record(None, value, int(time.time() * 1000), headers)]
    half = len(batch) // 2
    return encoded_records(batch[:half], codec) + encoded_records(batch[half:], codec)
