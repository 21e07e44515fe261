"""Redrive records: dead letters on their way through the pipeline again, and where each goes next.

This is the whole redrive protocol; the modules that play a part in it refer to here.

*What travels.* A dead letter of attempt n at an event is redriven as attempt n + 1. The command
writes records to `<pipeline>.redrive`, each of many events of a source partition (`RedriveBatch`):
their original records (key, value, headers), and all outputs that are known of them already. Known
is what the stage topics hold of the first attempt, or what travelled with the last one; nothing
where the value was edited. (`agents.redrive.preparation`, `.sender`)

*Who answers.* Every component reads the redrive topic beside its sources, and deals with what is
addressed to it (`next`): it adds its output, or says that it is absent, and writes the events on to
the first component that has no output yet, in the flow's order, and at last to the weighting agent.
They stand on the source's partition; on their way to a repartitioned component on that of its key.
Live events come first. What cannot be dealt with yet is put aside, and those behind it go on.
What was redriven is not remembered by windows. (`agents.redrive.component_redrive`)

*How an attempt ends.* The weighting agent writes a decision or another dead letter, both of which
name the attempt, and behind them an ending record: which attempts, with `end` instead of `next`.
Now and then a summary of them follows (`topics.redrive.endings`), which bounds what is read
at a start. (`agents.weigh.redrive_completion`, `agents.redrive.attempt_endings`)

Invariants:
- An attempt ends once. Every record may come twice, also of two operators: offsets are committed
  when all before them are dealt with. So the weighting agent ends an attempt only if it knows of no
  end of it, or of a later one, and no attempt at the event is decided: an event has one decision.
- The ending record is the last that is written. So an end without one is found, after a crash, on
  the decisions and dead-letters topics, which are read from a minute before the last of them on.
- Only what is dead is redriven: the dead letter at the offset that is named has to be about the
  event and the attempt before; one that retention has deleted is taken on trust.
- Nothing gets lost on the way: an event whose outputs have grown too large for the topic goes to
  the weighting agent without its payload, and ends in a dead letter (`RecordTooLarge`).

*When the pipeline has changed meanwhile* the record says what it lacks: a component that is new has
no output in it, so whoever passes it on next sends it there; one that has come to the weighting
agent ends with what it has. One to a component that is gone is sent on by the weighting agent,
which reads all records of its partitions. What is no redrive record, has another pipeline's source,
or stands on a partition where its component does not read it, is skipped, logged and counted.

*On the wire* a record has an `x-redrive` header (`RedriveHeader`), and as its value tensors of the
Open Inference Protocol, as stage batches are written: first those of the events, then each output's
batches (`topics.redrive.wire`). The version before wrote a record for each event; these are read
(`topics.redrive.single_event`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np

from topics.errors import WireError
from topics.pipeline import WEIGH
from topics.records import Ints, StageBatch
from topics.redrive.outputs import merged, picked

Ending = Literal["decision", "dead-letter"]
MOST_ATTEMPTS = 1000
"""At an event; a redrive record tells of no later one."""


class RedrivenEvent(NamedTuple):
    """A source record on its way again; it reads like a record of the events topic."""

    partition: int
    """The source partition."""
    offset: int
    """The source offset."""
    letter: int
    """Offset of the dead letter that is redriven, in the source's partition."""
    attempt: int
    timestamp: int
    """When the source record was published, in milliseconds."""
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    """Those of the source record."""


@dataclass(frozen=True, slots=True)
class RedriveBatch:
    """Source records of one partition on their way again, with the same outputs known of each."""

    topic: str
    """The source topic."""
    partition: int
    """The source partition."""
    next: str | None
    """The component that is to deal with them; None in an ending record."""
    events: Sequence[RedrivenEvent]
    """N of different source records, by ascending offset."""
    outputs: Mapping[str, Sequence[StageBatch]] = field(default_factory=dict)
    """By component the N rows of it, in a batch of each of its models."""
    end: Ending | None = None
    refused: str | None = None

    def __len__(self) -> int:
        return len(self.events)

    @property
    def offsets(self) -> Ints:
        """The source offsets (N,)."""
        return np.fromiter((event.offset for event in self.events), np.int64, len(self.events))

    @property
    def attempts(self) -> Ints:
        """Of each event which attempt it is (N,)."""
        return np.fromiter((event.attempt for event in self.events), np.int64, len(self.events))

    def picked(self, rows: Ints) -> RedriveBatch:
        """Some of the events (M,), ascending."""
        if len(rows) == len(self.events):
            return self
        events = [self.events[row] for row in rows.tolist()]
        offsets = self.offsets[rows]
        outputs = {name: picked(batches, offsets) for name, batches in self.outputs.items()}
        return replace(self, events=events, outputs=outputs)

    def split(self, rows: int) -> tuple[RedriveBatch, RedriveBatch | None]:
        """The first *rows* events, and the others, if there are any."""
        every = np.arange(len(self))
        if rows >= len(every):
            return self, None
        return self.picked(every[:rows]), self.picked(every[rows:])

    @property
    def widths(self) -> Mapping[str, frozenset[int]]:
        """By component the numbers of columns of its outputs, without those that are absent."""
        return {
            name: frozenset(part.output.shape[1] for part in parts if part.present.any())
            for name, parts in self.outputs.items()
        }

    def by_width(self) -> list[RedriveBatch]:
        """The events in as few parts as have outputs of one width each.

        Those of two versions of a component may differ in it: beside each other, the narrower ones
        would count as absent (`agents.join.aligned`), though of each event alone nothing is.
        """
        mixed = [self.outputs[name] for name, widths in self.widths.items() if len(widths) > 1]
        if not mixed:
            return [self]
        offsets = self.offsets
        width = np.zeros((len(self), len(mixed)), np.int64)
        for place, parts in enumerate(mixed):
            for part in parts:
                rows = offsets.searchsorted(part.rows.offsets)
                width[rows, place] = part.output.shape[1] if part.present.any() else 0
        _, kinds = np.unique(width, axis=0, return_inverse=True)
        kinds = kinds.ravel()
        return [self.picked(np.flatnonzero(kinds == kind)) for kind in np.unique(kinds)]

    def to(self, component: str) -> RedriveBatch:
        """The same, addressed to *component*."""
        return replace(self, next=component)

    def with_output(self, batch: StageBatch) -> RedriveBatch:
        """The same with one more output, of N rows."""
        batch = replace(batch, lane=None, covers_from=-1, covers_to=-1, shadow=None)
        return replace(self, outputs={**self.outputs, batch.component: [batch]})

    def refusal(self, reason: str) -> RedriveBatch:
        """They go to the weighting agent without all that may be large, to be ended there."""
        return replace(self._bare(), next=WEIGH, refused=reason)

    def ending(self, end: Ending) -> RedriveBatch:
        """What the ending record says: the attempts have ended so."""
        return replace(self._bare(), next=None, end=end)

    def _bare(self) -> RedriveBatch:
        events = [event._replace(key=None, value=None, headers=()) for event in self.events]
        return replace(self, events=events, outputs={}, refused=None)

    def check_outputs(self) -> None:
        """Raise WireError where an output is not of just these events."""
        for name, parts in self.outputs.items():
            rows = np.sort(np.concatenate([part.rows.offsets for part in parts]))
            sources = {(part.topic, part.partition) for part in parts}
            if sources != {(self.topic, self.partition)} or not np.array_equal(rows, self.offsets):
                raise WireError(f"not a redrive record: its output of {name} is of another event")

    @classmethod
    def concat(cls, batches: Sequence[RedriveBatch]) -> RedriveBatch:
        """The events of all *batches*, which are different ones with the same outputs known."""
        if len(batches) == 1:
            return batches[0]
        outputs = {
            name: merged([part for batch in batches for part in batch.outputs[name]])
            for name in batches[0].outputs
        }
        events = sorted((event for batch in batches for event in batch.events), key=_by_offset)
        return replace(batches[0], events=events, outputs=outputs)


def _by_offset(event: RedrivenEvent) -> int:
    return event.offset
