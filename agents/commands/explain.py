"""`anabranch explain`: why an event got its score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from agents.commands.event_loop import run_async
from agents.commands.options import (
    BrokerOption,
    JsonOption,
    PipelineArgument,
    SinceOption,
    open_registry,
    pipeline_file,
)
from agents.commands.terminal import print_json, stdout

if TYPE_CHECKING:
    from agents.explanations import Explanation

_GROUP_WIDTH = 40


def explain(
    pipeline: PipelineArgument,
    event: Annotated[
        str,
        typer.Argument(
            metavar="EVENT_ID|TOPIC/PARTITION/OFFSET",
            help="An event's id, or where it or its decision stands.",
        ),
    ],
    each_column: Annotated[
        bool,
        typer.Option(
            "--each-column",
            help="What each column of features adds, instead of each group; estimated, with a "
            "standard error, where there are more than ten.",
        ),
    ] = False,
    method: Annotated[
        Literal["shapley", "shap", "lime"],
        typer.Option(
            "--method",
            help="shapley: built in. To compare: shap's own explainers on the same function, or "
            "LIME, whose weights do not sum to the score (extra explain).",
        ),
    ] = "shapley",
    language: Annotated[
        str | None,
        typer.Option(
            metavar="LANGUAGE",
            help="In which the reason is said: one of those of the pipeline file (explain: "
            "reasons:). [default: the first]",
        ),
    ] = None,
    since: SinceOption = None,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what each group of features added to the score of an event that was decided.

    The score of a usual event, and what the groups add to it or take away, sum to the event's
    score: exact Shapley values of the whole score, computed again from what the topics hold by the
    models, weights and stages that decided. Groups are in the pipeline file (explain: groups:).
    Exit code 1, and why, when there is no such decision or more than one, or when something that
    it was made by is gone.

    Examples:
      anabranch explain card-fraud tx-000000042

      anabranch explain card-fraud card-fraud.events/2/17

      anabranch explain card-fraud card-fraud.decisions/2/17 --json | jq .groups

      anabranch explain card-fraud tx-000000042 --method lime

      anabranch explain card-fraud tx-000000042 --language de
    """
    from agents.broker import check_topics, needed_broker, wait_for_broker
    from agents.explanations import (
        DecisionArchive,
        DecisionExplainer,
        EventFields,
        RecordedEvent,
        RegistryVersions,
    )
    from agents.workers import TailReader
    from topics.pipeline import ENGLISH, Topology

    settings, file, registry = needed_broker(broker), pipeline_file(pipeline), open_registry()
    topology = Topology.of(file.pipeline)
    known = [*file.pipeline.explain.reasons] or [ENGLISH]
    if language is not None and language not in known:
        cause = f"the file of {file.pipeline.name} has reasons in {', '.join(known)}"
        raise typer.BadParameter(cause, param_hint="--language")

    async def main() -> Explanation:
        await wait_for_broker(settings)
        await check_topics(settings, topology)
        tail = TailReader(settings)
        await tail.start()
        try:
            archive = DecisionArchive(tail, topology)
            since_ms = None if since is None else int(since.timestamp() * 1000)
            recorded = await archive.find(event, since_ms=since_ms)
            library = None if method == "shapley" else method
            versions = RegistryVersions(file, registry)
            explainer = DecisionExplainer(
                file.pipeline, versions, each_column=each_column, library=library
            )
            wanted = explainer.wanted(recorded.decision)
            outputs = await archive.outputs(recorded, wanted)
            fields = await EventFields(tail, file.pipeline).of([recorded.source])
            return explainer.explained(
                RecordedEvent(recorded.decision, outputs, fields.get(recorded.source, {}))
            )
        finally:
            await tail.stop()

    result: Explanation = run_async(main())
    if as_json:
        print_json(result.model_dump_json(by_alias=True))
    else:
        _print(result, language or known[0])


def _print(result: Explanation, language: str) -> None:
    source = result.source
    stdout.print(
        f"{result.event_id}  {source.topic}/{source.partition}/{source.offset}", soft_wrap=True
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("", overflow="ellipsis", no_wrap=True, max_width=_GROUP_WIDTH)
    table.add_column("score", justify="right")
    table.add_column("share", justify="right")
    estimated = result.method == "sampled"
    if estimated:
        table.add_column("± error", justify="right")
    table.add_row("a usual event", f"{result.base:.4f}")
    for each in result.groups:
        error = [f"{each.standard_error:.4f}"] if each.standard_error is not None else []
        table.add_row(each.group, f"{each.value:+.4f}", f"{each.share:.0%}", *error)
    table.add_row(result.decision, f"{result.score:.4f}", style="bold")
    stdout.print(table)
    if result.missing:
        stdout.print(f"without {', '.join(result.missing)}, as it was decided", soft_wrap=True)
    if result.method == "lime":
        stdout.print("LIME's weights rank groups; they do not sum to the score")
    stdout.print(result.reasons[language], soft_wrap=True)
