"""`anabranch evidence`: all that led to one decision, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async
from agents.commands.options import (
    BrokerOption,
    JsonOption,
    PipelineArgument,
    SinceOption,
    open_registry,
    pipeline_file,
)
from agents.commands.terminal import counting_bars, print_json, stderr
from agents.commands.verify import print_verification

if TYPE_CHECKING:
    from collections.abc import Mapping


def evidence(
    pipeline: PipelineArgument,
    event: Annotated[
        str,
        typer.Argument(
            metavar="EVENT_ID|TOPIC/PARTITION/OFFSET",
            help="An event's id, or where it, its decision or its dead letter stands.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The pack, a ZIP archive.")
    ],
    since: SinceOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pack all that led to the decision about one event: `anabranch verify` proves it anywhere.

    The raw event, what components said of it, models, weights, policy, pipeline file, background
    rows, explanation, dead letters and redrives, and the decision as it stands on its topic, each
    with its SHA-256. Other events that travelled in the same records are left out; fields that are
    marked sensitive are not. What is written
    is verified at once. Note the SHA-256 of the file in a place of its own: with it nobody can put
    another pack in its place.
    Exit code 1, and why, when there is no such event, or more than one, when it has not ended yet,
    or when something is gone: a record by retention, a version from the registry.

    Examples:
      anabranch evidence card-fraud tx-000000042 -o tx-000000042.zip

      anabranch evidence card-fraud card-fraud.decisions/2/17 -o case-17.zip --json | jq .sha256
    """
    from agents.broker import check_topics, needed_broker, wait_for_broker
    from agents.control import ControlTopic
    from agents.evidence import (
        EvidenceCollector,
        PackExists,
        PackUnreadable,
        verify_pack,
        write_archive,
    )
    from agents.trace import EventSearch
    from agents.workers import TailReader
    from topics.pipeline import Topology

    if output.exists() and not force:
        raise PackExists(output)
    settings, file, registry = needed_broker(broker), pipeline_file(pipeline), open_registry()
    topology = Topology.of(file.pipeline)

    async def main() -> Mapping[str, bytes]:
        await wait_for_broker(settings)
        await check_topics(settings, topology)
        async with ControlTopic(settings, topology) as control:
            state = control.state
        tail = TailReader(settings)
        await tail.start()
        try:
            since_ms = None if since is None else int(since.timestamp() * 1000)
            with counting_bars(disable=not stderr.is_terminal) as bars:
                bar = bars.add_task("events looked at", visible=False)
                source = await EventSearch(tail, file.pipeline).find(
                    event, since_ms,
                    lambda done, total: bars.update(
                        bar, completed=done, total=total, visible=True
                    ),
                )  # fmt: skip
            return await EvidenceCollector(tail, file, registry, state).collect(source)
        finally:
            await tail.stop()

    entries: Mapping[str, bytes] = run_async(main())
    try:
        write_archive(output, entries)
    except OSError as exc:
        raise PackUnreadable(output, exc) from exc
    result = verify_pack(output)
    if as_json:
        print_json(result.model_dump_json(by_alias=True))
    else:
        print_verification(output, result)
    if not result.holds:
        raise typer.Exit(1)
