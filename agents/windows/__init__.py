"""What a worker knows of the past of its keys: windows, in event time, restored after a restart.

`entity_past` is one partition's past, `snapshots` keeps it on a compacted topic, `log_rewind` goes
back to where a snapshot was taken. Where a component's key is not the partition key:
`event_time_order` and `key_partition`, with `keyed_poison_rows`. `redriven_past` is what a redriven
event sees.
"""

from agents.windows.entity_past import Past, orders_of
from agents.windows.event_time_order import MAX_BYTES, EventTimeOrder, Released
from agents.windows.key_partition import Shard
from agents.windows.keyed_poison_rows import KeyedTrial, Portion, tried_record
from agents.windows.log_rewind import Resumption
from agents.windows.redriven_past import caught_up, glimpsed
from agents.windows.snapshots import SnapshotStore

__all__ = [
    "MAX_BYTES", "EventTimeOrder", "KeyedTrial", "Past", "Portion", "Released", "Resumption",
    "Shard", "SnapshotStore", "caught_up", "glimpsed", "orders_of", "tried_record",
]  # fmt: skip
