"""`anabranch score`: a file's rows, decided without a broker."""

from __future__ import annotations

from agents.commands.offline import (
    FileArgument,
    ForceOption,
    OutcomesOption,
    RowsOutputOption,
    write_file,
)
from agents.commands.options import JsonOption, PipelineArgument, open_registry, pipeline_file


def score(
    pipeline: PipelineArgument,
    file: FileArgument,
    output: RowsOutputOption,
    outcomes: OutcomesOption = True,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score a file: signals, score and decision of each row, as the pipeline would decide it.

    The code is that of serving, windows too, and so are the bits: what `anabranch publish FILE`
    makes a pipeline decide on topics that hold nothing yet. No broker is asked, so the models are
    the newest of the registry, or those that the pipeline file names, whatever was promoted.
    Windows by the events' key see the rows above; those by another key see all rows in the order
    of event time, as where the whole file stands on the topic: sort a large file by time for them.
    A row that is no valid event, or that no component can judge, is a dead letter in
    OUT.dead-letters.jsonl, with its number and why. Memory does not grow with the file, but
    for windows, which grow with their keys.

    Examples:
      anabranch score card-fraud june.parquet -o scores.parquet

      anabranch score card-fraud june.csv -o scores.csv --json | jq .dead

      zcat june.jsonl.gz | anabranch score card-fraud - -o scores.jsonl
    """
    from agents.offline import Scoring, check_output

    loaded = pipeline_file(pipeline)
    check_output(output, file, force=force)
    write_file(
        loaded, Scoring(loaded, open_registry()), file, output, outcomes=outcomes, bar="scored",
        as_json=as_json,
    )  # fmt: skip
