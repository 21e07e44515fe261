"""Faust's transport with the micro-batch as its unit: one Faust event is one fetch.

In reading order: `fetch` (what an agent gets), `faust_transport`, `consumer` (commits what was
done) on `fetch_reader` (reads) on `group_member` (joins), `assignor` (who owns which partition),
and `leased_writer` (writes only while that lasts). `group_errors` are what a broker says to a
member that it does not know.
"""

from topics.transport.consumer import MicroBatchConsumer
from topics.transport.faust_transport import BatchProducer, MicroBatchTransport
from topics.transport.fetch import Fetch, FetchSchema

__all__ = ["BatchProducer", "Fetch", "FetchSchema", "MicroBatchConsumer", "MicroBatchTransport"]
