"""`anabranch simulate`: simulated events for a pipeline that runs elsewhere."""

from __future__ import annotations

import time
from itertools import islice
from typing import Annotated

import typer

from agents.commands.event_loop import run_async
from agents.commands.options import (
    BrokerOption,
    CreateTopicsOption,
    DriftOption,
    IncidentOption,
    JsonOption,
    MaxInFlightOption,
    PipelineArgument,
    SimulatorSeedOption,
    SpeedOption,
    check_pace,
    pipeline_file,
    scenario_of,
)
from agents.commands.publish import publish_events, report

_RATE = 200.0


def simulate(
    pipeline: PipelineArgument,
    events: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after N. [default: never]")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="N", help="Events a second, at most. [default: 200]"),
    ] = None,
    speed: SpeedOption = None,
    seed: SimulatorSeedOption = 1,
    drift: DriftOption = 0.0,
    incident: IncidentOption = False,
    outcomes: Annotated[
        bool,
        typer.Option(
            "--outcomes",
            help="Publish outcomes as `anabranch monitor` reads them, also where no feature uses "
            "them: `delay` after their events, each with its source and the time it became known.",
        ),
    ] = False,
    source: Annotated[
        str, typer.Option(metavar="TEXT", help="With --outcomes, who says so.")
    ] = "system",
    max_in_flight: MaxInFlightOption = None,
    broker: BrokerOption = None,
    create_topics: CreateTopicsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Publish simulated events, and their outcomes when they are known, until Ctrl-C.

    It only produces: the components run elsewhere. Each start begins with the simulator's first
    day again. A demo with everything in it is `anabranch demo`.

    Examples:
      anabranch simulate card-fraud --broker kafka:9092

      anabranch simulate card-fraud --events 20000 --rate 500

      anabranch simulate card-fraud --outcomes --speed 7200

      anabranch simulate machine-maintenance --speed 3600 --drift 2 --incident
    """  # fmt: skip
    from agents.broker import needed_broker
    from agents.demo.demo_stream import simulator_of

    check_pace(rate, speed)
    spec = pipeline_file(pipeline).pipeline
    simulator = simulator_of(spec)
    settings = needed_broker(broker)
    scenario = scenario_of(drift, incident=incident)
    labelled = ((each.event, each.label) for each in simulator(seed, scenario=scenario))
    if rate is None and speed is None:
        rate = _RATE
    began = time.monotonic()
    count = run_async(
        publish_events(
            spec,
            settings,
            islice(labelled, events),
            events,
            rate,
            speed,
            max_in_flight,
            create_topics=create_topics,
            outcomes=outcomes,
            source=source if outcomes else "",
        )
    )
    report(count, time.monotonic() - began, as_json=as_json)
