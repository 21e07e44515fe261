"""`anabranch export`: a topic as Parquet files by hour, for a lake."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async
from agents.commands.options import BrokerOption, JsonOption, pipeline_file
from agents.commands.terminal import bar_of, counting_bars, print_json, stderr, stdout

if TYPE_CHECKING:
    from agents.dataset import ExportSummary


def export(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Such as card-fraud.decisions.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder of the lake.")
    ],
    pipeline: Annotated[
        str | None,
        typer.Option(
            "--pipeline", metavar="PIPELINE",
            help="Whose topic it is, by name or file. [default: what stands before the first dot]",
        ),
    ] = None,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Write what a topic has gained since the last export to Parquet, partitioned by date and hour.

    DIR/date=2026-01-31/hour=13/….parquet, by the records' timestamps in UTC, as lakes read them. A
    row has its record's coordinates, key and headers, and columns of what it says: the fields of
    events and outcomes, decisions, the rows of stage batches; JSON as text of other topics. What is
    not what stands on its topic is kept as raw bytes, and says why.

    It ends where the topic ends now, and goes on from there the next time: also after a kill each
    record is in one file. One folder holds one topic.

    Examples:
      anabranch export card-fraud.decisions -o lake/decisions

      anabranch export card-fraud.features -o lake/features --pipeline my/card-fraud.yaml
    """
    from agents.broker import LogReader, needed_broker, wait_for_broker
    from agents.dataset import NotATopic, TopicExport, check_folder, reader_of

    own = pipeline_file(pipeline or topic.split(".")[0]).pipeline
    read = reader_of(own, topic)
    if read is None:
        raise NotATopic(topic, own.name)
    check_folder(output)
    settings = needed_broker(broker)

    async def main() -> ExportSummary:
        await wait_for_broker(settings)
        async with LogReader.of(settings) as reader:
            with counting_bars(name_width=len(topic), disable=not stderr.is_terminal) as bars:
                return await TopicExport(topic, output, read).run(reader, bar_of(bars, topic))

    summary: ExportSummary = run_async(main())
    if as_json:
        print_json(summary.model_dump_json())
        return
    stdout.print(
        f"{summary.records:,} records of {topic} in {summary.files:,} files of {output}",
        style="bold", soft_wrap=True, highlight=False,
    )  # fmt: skip
    if summary.undecoded:
        stdout.print(f"{summary.undecoded:,} rows are raw bytes: undecoded_because says why")
    for partition, count in summary.gone.items():
        stdout.print(
            f"{count:,} records of partition {partition} were deleted before they were exported",
            style="bold red", soft_wrap=True,
        )  # fmt: skip
