"""What is done already: a worker keeps nothing, and asks topics at each assignment.

1. `source_continuity`: is the source the same topic, and does it go on where it was left?
2. `written_batches`, `dead_rows`: how far does each output topic answer? Up to there nothing is
   written again, and what stands is read. Redriven events: `agents.redrive.attempt_endings`.
3. `snapshots`, `log_rewind`: which past do windows have? The log is read again from a snapshot on.
4. `poison_rows`, `keyed_poison_rows`: at which rows did workers end? They are run one by one.

Output is on the broker before its source offset is committed, in the source's order: so a tail says
how far it goes. Windows are a function of their log: a snapshot and the rest give the same bits.
"""

from agents.recovery.dead_rows import DeadRows, last_decision
from agents.recovery.keyed_poison_rows import AttemptLog, KeyedPoisonRows, Portion
from agents.recovery.log_rewind import LogRewind, with_their_past
from agents.recovery.poison_rows import PoisonRows
from agents.recovery.snapshots import SnapshotStore
from agents.recovery.source_continuity import check_continues, covered_from
from agents.recovery.written_batches import WrittenBatches, last_answer

__all__ = [
    "AttemptLog", "DeadRows", "KeyedPoisonRows", "LogRewind", "PoisonRows", "Portion",
    "SnapshotStore", "WrittenBatches", "check_continues", "covered_from", "last_answer",
    "last_decision", "with_their_past",
]  # fmt: skip
