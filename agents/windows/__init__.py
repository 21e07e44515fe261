"""What a worker knows of the past of its keys, in event time.

`entity_past` is the past of one partition: windows, and how far they have come. `event_time_order`
puts rows of several source partitions into the order in which it takes them in. After a restart
`agents.recovery` brings it back.
"""

from agents.windows.entity_past import EntityPast, SourceProgress, orders_of
from agents.windows.event_time_order import BEGINNING, MAX_BYTES, DueRows, EventTimeOrder

__all__ = [
    "BEGINNING", "MAX_BYTES", "DueRows", "EntityPast", "EventTimeOrder", "SourceProgress",
    "orders_of",
]  # fmt: skip
