"""A client of a pipeline, with aiokafka; deploy/clients.md says what it does and why.

python aiokafka_client.py --pipeline card-fraud ask --key customer_id < events.jsonl
python aiokafka_client.py --pipeline card-fraud follow --journal decisions.jsonl
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.helpers import create_ssl_context
from pipeline_records import Journal, arguments, asked, end_of, told


def connection(broker: str) -> dict[str, Any]:
    """How to reach the broker: TLS where KAFKA_CA is set, a login where KAFKA_USERNAME is."""
    authority, user = os.environ.get("KAFKA_CA"), os.environ.get("KAFKA_USERNAME")
    options: dict[str, Any] = {"bootstrap_servers": broker}
    if authority:
        options |= {"security_protocol": "SSL", "ssl_context": create_ssl_context(cafile=authority)}
    if user:
        options |= {
            "security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": user, "sasl_plain_password": os.environ["KAFKA_PASSWORD"],
        }  # fmt: skip
    return options


async def ask(options: argparse.Namespace) -> int:
    """Publish events, wait for how each ends, print that in order."""
    name, events = options.pipeline, asked(sys.stdin, options.key)
    reach = connection(options.broker)
    consumer = AIOKafkaConsumer(
        f"{name}.decisions", f"{name}.dead-letters", isolation_level="read_committed", **reach
    )  # in no group: it has all partitions
    producer = AIOKafkaProducer(acks="all", enable_idempotence=True, **reach)
    async with consumer, producer:
        # Positioned at the ends before anything is published, it can miss no answer.
        for partition, end in (await consumer.end_offsets(consumer.assignment())).items():
            consumer.seek(partition, end)
        sent = [await producer.send(f"{name}.events", value, key) for key, value in events]
        placed = await asyncio.gather(*sent, return_exceptions=True)
        sources = [
            None if isinstance(place, BaseException)
            else f"{place.topic}/{place.partition}/{place.offset}"
            for place in placed
        ]  # fmt: skip
        ends: dict[str, Any] = {}
        waiting = {source for source in sources if source is not None}
        deadline = time.monotonic() + options.deadline_s
        while waiting and time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    end = end_of(record.topic, record.headers, record.value)
                    if end is not None and end[0] in waiting:
                        waiting.remove(end[0])
                        ends[end[0]] = end[1]
    return told(sources, ends)


async def follow(options: argparse.Namespace) -> int:
    """Write the decision about each event into the journal, once; go on where it ends."""
    journal = Journal(options.journal)
    consumer = AIOKafkaConsumer(
        f"{options.pipeline}.decisions",
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        **connection(options.broker),
    )
    async with consumer:
        for partition in consumer.assignment():
            if partition.partition in journal.next:
                consumer.seek(partition, journal.next[partition.partition])
        last = time.monotonic()
        while options.idle_s is None or time.monotonic() < last + options.idle_s:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                last = time.monotonic()
                for record in records:
                    end = end_of(record.topic, record.headers, record.value)
                    if end is not None:
                        journal.add(record.partition, record.offset, end[1])
            journal.flush()
    return 0


if __name__ == "__main__":
    options = arguments()
    sys.exit(asyncio.run(ask(options) if options.command == "ask" else follow(options)))
