"""Faust's transport with the micro-batch as its unit: one Faust event is one fetch.

In reading order: `fetch` (what an agent gets), `faust_transport`, `consumer` with its parts
`lease` (who may write, and for how long), `group_membership`, `fetch_reader` and `backlog` (what is
left, and since when); `assignor` (who owns which partition) and `leased_writer` (writes only while
the lease lasts). Every reach into private parts of Faust is in `faust_fixes`.
"""

from topics.transport.backlog import PartitionBacklog
from topics.transport.consumer import MicroBatchConsumer
from topics.transport.faust_fixes import on_crash
from topics.transport.faust_transport import BatchProducer, MicroBatchTransport
from topics.transport.fetch import Fetch, FetchSchema

__all__ = [
    "BatchProducer", "Fetch", "FetchSchema", "MicroBatchConsumer", "MicroBatchTransport",
    "PartitionBacklog", "on_crash",
]  # fmt: skip
