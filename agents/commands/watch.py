"""`anabranch watch`: what flows on a topic, readable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agents.commands.event_loop import run_async, until_signalled
from agents.commands.options import BrokerOption, JsonOption
from agents.commands.terminal import print_json, stdout

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from topics.settings import BrokerSettings


def watch(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Such as card-fraud.decisions.")],
    from_start: Annotated[
        bool, typer.Option("--from-start", help="From the oldest record; without it, from now on.")
    ] = False,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Stop after so many records.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows shown of a stage batch.")] = 3,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the records of a topic as they come: events, decisions, and stage batches too.

    Examples:
      anabranch watch card-fraud.decisions

      anabranch watch card-fraud.features --from-start -n 2

      anabranch watch card-fraud.dead-letters --json | jq .headers
    """
    from agents.broker import needed_broker

    settings = needed_broker(broker)
    run_async(_watch(topic, settings, from_start, count, rows, as_json=as_json))


async def _watch(
    topic: str, settings: BrokerSettings, from_start: bool, count: int | None, rows: int,
    *, as_json: bool,
) -> None:  # fmt: skip
    from agents.broker import follower, topic_partitions, wait_for_broker
    from agents.process.tasks import first_of

    stopping = asyncio.Event()
    # Until then there is nothing to end well: a signal ends the process, as it does any other.
    await wait_for_broker(settings)
    until_signalled(stopping)
    partitions = await topic_partitions(settings, topic)

    async def show() -> None:
        shown = 0
        async with follower(settings, (topic,), partitions, from_start=from_start) as consumer:
            async for record in consumer:
                _print(record, rows, as_json=as_json)
                shown += 1
                if shown == count:
                    return

    await first_of(show, stopping.wait)


def _print(record: ConsumerRecord, rows: int, *, as_json: bool) -> None:
    import orjson

    described = _described(record, rows)
    if as_json:
        print_json(orjson.dumps(described))
        return
    at = f"{record.topic}[{record.partition}]@{record.offset}"
    body = described.get("batch") or described.get("value")
    text = body if isinstance(body, str) else orjson.dumps(body).decode()
    telling = any(name.startswith(("x-error-", "x-redrive")) for name, _ in record.headers)
    headers = described["headers"] if telling else ""
    line = " ".join(str(part) for part in (at, described["key"] or "-", text, headers) if part)
    stdout.print(line, highlight=False, soft_wrap=True)


def _described(record: ConsumerRecord, rows: int) -> dict[str, Any]:
    from topics.errors import WireError
    from topics.printable import readable
    from topics.records import decode

    headers = {
        name: None if value is None else value.decode(errors="replace")
        for name, value in record.headers
    }
    about: dict[str, Any] = {
        "topic": record.topic, "partition": record.partition, "offset": record.offset,
        "key": None if record.key is None else record.key.decode(errors="replace"),
        "headers": headers,
    }  # fmt: skip
    try:
        about["batch"] = _batch(decode(record.value, dict(record.headers)), rows)
    except WireError:
        about["value"] = readable(record.value)
    return about


def _batch(batch: Any, rows: int) -> dict[str, Any]:
    first = batch[:rows]
    return {
        "component": batch.component,
        "model": batch.model.model,
        "source": f"{batch.topic}[{batch.partition}]",
        "rows": len(batch),
        "absent": int((~batch.present).sum()),
        "first": [
            {
                "offset": offset,
                "event_id": event_id.decode(errors="replace"),
                "signal": signal if present else None,
                "output": output if present else None,
            }
            for offset, event_id, present, signal, output in zip(
                first.rows.offsets.tolist(),
                first.rows.ids.items(),
                first.present.tolist(),
                first.signal.tolist(),
                first.output.tolist(),
                strict=True,
            )
        ],
        "failures": [failure._asdict() for failure in first.failures],
    }
