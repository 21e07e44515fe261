"""A client of a pipeline, with confluent-kafka; deploy/clients.md says what it does and why.

python confluent_client.py --pipeline card-fraud ask --key customer_id < events.jsonl
python confluent_client.py --pipeline card-fraud follow --journal decisions.jsonl
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from pipeline_records import Headers, Journal, arguments, asked, end_of, told


def connection(broker: str) -> dict[str, Any]:
    """How to reach the broker: TLS where KAFKA_CA is set, a login where KAFKA_USERNAME is."""
    authority, user = os.environ.get("KAFKA_CA"), os.environ.get("KAFKA_USERNAME")
    options: dict[str, Any] = {"bootstrap.servers": broker}
    if authority:
        options |= {"security.protocol": "ssl", "ssl.ca.location": authority}
    if user:
        options |= {
            "security.protocol": "sasl_ssl", "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user, "sasl.password": os.environ["KAFKA_PASSWORD"],
        }  # fmt: skip
    return options


def consumer_of(options: argparse.Namespace) -> Consumer:
    """A consumer that is in no group: partitions are assigned by hand, and nothing is committed."""
    return Consumer({
        **connection(options.broker), "group.id": f"{options.pipeline}.consumer.unused",
        "isolation.level": "read_committed", "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    })  # fmt: skip


def partitions_of(consumer: Consumer, *topics: str) -> list[TopicPartition]:
    """All partitions of topics; their number never changes."""
    return [
        TopicPartition(topic, partition)
        for topic in topics
        for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions
    ]


def polled(consumer: Consumer) -> list[Message]:
    """The records that have come within 0.2 s. Raises KafkaException."""
    messages = consumer.consume(500, timeout=0.2)
    for message in messages:
        if (error := message.error()) is not None:
            raise KafkaException(error)
    return messages


def end_in(message: Message) -> tuple[str, Any] | None:
    """See `end_of`."""
    headers = cast("Headers | None", message.headers())
    return end_of(str(message.topic()), headers, message.value())


def ask(options: argparse.Namespace) -> int:
    """Publish events, wait for how each ends, print that in order."""
    name, events = options.pipeline, asked(sys.stdin, options.key)
    consumer = consumer_of(options)
    # Positioned at the ends before anything is published, it can miss no answer.
    partitions = partitions_of(consumer, f"{name}.decisions", f"{name}.dead-letters")
    for partition in partitions:
        _, partition.offset = consumer.get_watermark_offsets(partition, timeout=10)
    consumer.assign(partitions)
    sources: list[str | None] = [None] * len(events)
    # librdkafka's own partitioner is another than Kafka's, which all others use.
    producer = Producer({
        **connection(options.broker), "enable.idempotence": True, "partitioner": "murmur2_random",
    })  # fmt: skip
    for number, (key, value) in enumerate(events):

        def placed(error: KafkaError | None, message: Message, number: int = number) -> None:
            if error is None:
                place = (message.topic(), message.partition(), message.offset())
                sources[number] = "/".join(map(str, place))

        producer.produce(f"{name}.events", value, key, on_delivery=placed)
        producer.poll(0)
    producer.flush()
    ends: dict[str, Any] = {}
    waiting = {source for source in sources if source is not None}
    deadline = time.monotonic() + options.deadline_s
    while waiting and time.monotonic() < deadline:
        for message in polled(consumer):
            end = end_in(message)
            if end is not None and end[0] in waiting:
                waiting.remove(end[0])
                ends[end[0]] = end[1]
    consumer.close()
    return told(sources, ends)


def follow(options: argparse.Namespace) -> int:
    """Write the decision about each event into the journal, once; go on where it ends."""
    journal, consumer = Journal(options.journal), consumer_of(options)
    partitions = partitions_of(consumer, f"{options.pipeline}.decisions")
    for partition in partitions:
        partition.offset = journal.next.get(partition.partition, OFFSET_BEGINNING)
    consumer.assign(partitions)
    last = time.monotonic()
    while options.idle_s is None or time.monotonic() < last + options.idle_s:
        for message in polled(consumer):
            last = time.monotonic()
            if (end := end_in(message)) is not None:
                journal.add(message.partition() or 0, message.offset() or 0, end[1])
        journal.flush()
    consumer.close()
    return 0


if __name__ == "__main__":
    options = arguments()
    sys.exit(ask(options) if options.command == "ask" else follow(options))
