"""`anabranch features`: the features of a file's rows, as they are served."""

from __future__ import annotations

from agents.commands.offline import (
    FileArgument,
    ForceOption,
    OutcomesOption,
    RowsOutputOption,
    write_file,
)
from agents.commands.options import JsonOption, PipelineArgument, open_registry, pipeline_file


def features(
    pipeline: PipelineArgument,
    file: FileArgument,
    output: RowsOutputOption,
    outcomes: OutcomesOption = True,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the features of a file's rows, to the bit as they are served; windows too.

    Columns are the event's fields, then COMPONENT.FEATURE of each component that extracts
    features. Windows see what `anabranch score` says of them. A row that lacks any is a dead
    letter in OUT.dead-letters.jsonl, with its number and why. Nothing has to be trained, unless
    a component that extracts features has a model of its own.

    Examples:
      anabranch features card-fraud june.parquet -o features.parquet

      anabranch features card-fraud june.csv -o features.csv --no-outcomes
    """
    from agents.offline import Extraction, check_output

    loaded = pipeline_file(pipeline)
    check_output(output, file, force=force)
    write_file(
        loaded, Extraction(loaded, open_registry()), file, output, outcomes=outcomes,
        bar="features", as_json=as_json,
    )  # fmt: skip
