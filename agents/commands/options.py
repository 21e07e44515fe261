"""Options that several commands have, and what they stand for."""

from __future__ import annotations

from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from models.registry import Registry
    from models.simulators import Scenario
    from topics.pipeline import PipelineFile

PipelineArgument = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE", help="Path of a .yaml or .yml file, or name of one in deploy/pipelines."
    ),
]


def pipeline_file(name_or_path: str) -> PipelineFile:
    """The pipeline that a command is given. Raises PipelineNotFound, PipelineFileError."""
    from topics.pipeline import find_pipeline, load_pipeline

    return load_pipeline(find_pipeline(name_or_path))


def open_registry() -> Registry:
    """The registry that the environment names."""
    from models.registry import Registry
    from topics.settings import HomeSettings

    return Registry(HomeSettings().registry)


def _checked_broker(broker: str | None) -> str | None:
    """The broker as it was given. Raises InvalidAddress, before a command has done anything."""
    from topics.broker_address import checked_addresses

    if broker is not None:
        checked_addresses(broker)
    return broker


BrokerOption = Annotated[
    str | None,
    typer.Option(
        "--broker",
        metavar="HOST:PORT",
        callback=_checked_broker,
        help="Kafka broker; without it ANABRANCH_BROKER, or the embedded broker.",
    ),
]
CreateTopicsOption = Annotated[
    bool,
    typer.Option(
        "--create-topics",
        envvar="ANABRANCH_CREATE_TOPICS",
        help="Make the topics that are missing, as `anabranch topics --create` does; without it "
        "a missing one is an error. The embedded broker makes them by itself.",
    ),
]
MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=0,
        max=65535,
        metavar="PORT",
        help="Serve /metrics, /healthz and /readyz here; 0 for any free port.",
    ),
]
MetricsHostOption = Annotated[
    str, typer.Option("--metrics-host", metavar="HOST", help="Where the metrics port listens.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, no more.")]


def _instant(text: str) -> datetime:
    from topics.pipeline import instant

    try:
        return instant(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is no time, such as 2026-01-31T12:00:00Z") from exc


SinceOption = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        metavar="TIME",
        parser=_instant,
        help="Look for an id among what was written since then alone.",
    ),
]

_EDGE = "TIME|PARTITION/OFFSET"
FromOption = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        "--since",
        metavar=_EDGE,
        help="The first event: by its offset (may be given for several partitions), or when "
        "events were published. By default all that the topics hold.",
    ),
]
ToOption = Annotated[
    list[str] | None,
    typer.Option("--to", metavar=_EDGE, help="The first event behind the range."),
]

MaturedOption = Annotated[
    float | None,
    typer.Option(
        "--matured", metavar="DAYS", min=0,
        help="Only events that are at least so old, by event time. [default: `outcomes: delay`]",
    ),
]  # fmt: skip

# Of what publishes: a file's rows, simulated events.

SpeedOption = Annotated[
    float | None,
    typer.Option(
        "--speed",
        min=0.1,
        metavar="FACTOR",
        help="Publish at the pace of the event times, so many times faster: 3600 is an hour of "
        "them a second. Gaps are waited for.",
    ),
]
MaxInFlightOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Wait while N events have no decision yet; exit code 1 when they will get none. "
        "[default: 8000 on the embedded broker, and no more bytes than it keeps; otherwise "
        "no limit]",
    ),
]
SimulatorSeedOption = Annotated[int, typer.Option(min=0, help="Seed of the simulator.")]
DriftOption = Annotated[
    float, typer.Option(help="How far the inputs drift in the first simulated day.")
]
IncidentOption = Annotated[
    bool, typer.Option("--incident", help="An incident at 08:00 of the first simulated day.")
]


def check_pace(rate: float | None, speed: float | None) -> None:
    """Raise BadParameter when both --rate and --speed are given, or one is not finite."""
    for option, value in (("--rate", rate), ("--speed", speed)):
        if value is not None and not isfinite(value):
            raise typer.BadParameter(f"{value} is no finite number", param_hint=option)
    if rate is not None and speed is not None:
        raise typer.BadParameter(
            "--rate and --speed exclude each other: events are published either so many a "
            "second, or at the pace of their own times",
            param_hint="--speed",
        )


def scenario_of(drift: float, *, incident: bool) -> Scenario:
    """What --drift and --incident make of the first simulated day."""
    from models.simulators import Incident, Scenario

    return Scenario(drift=drift, incidents=(Incident(),) if incident else ())


# Of what changes what is in service: promote, rollback, shadow and canary.

_LONGEST_REASON = 1000


def _checked_reason(reason: str) -> str:
    if len(reason) > _LONGEST_REASON:
        raise typer.BadParameter(f"{len(reason)} characters, at most {_LONGEST_REASON} are kept")
    return reason


ChangeReasonOption = Annotated[
    str,
    typer.Option(
        "--reason",
        metavar="TEXT",
        callback=_checked_reason,
        help="For the audit trail on the control topic.",
    ),
]
WorkersAnswerOption = Annotated[
    float,
    typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait for a worker's word."),
]
EndChallengeOption = Annotated[
    bool, typer.Option("--stop", help="End it: the champion runs alone.")
]

# Of what fits models: train, tune and optimise.

SIMULATED_ROWS = 150_000
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="FILE",
        help="Parquet, CSV or JSONL; without it, simulated events.",
    ),
]
RowsOption = Annotated[int, typer.Option("--rows", min=1, help="Simulated events.")]
EngineName = Literal["local", "ray"]
EngineOption = Annotated[
    EngineName,
    typer.Option(
        "--engine",
        help="Where models are fitted: on all cores here, or on Ray (extra ray). The models are "
        "the same, to the bit.",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="Ray cluster: auto, HOST:PORT or ray://HOST:PORT; without it RAY_ADDRESS, or a Ray "
        "of its own here.",
    ),
]


def check_engine(engine: EngineName, address: str | None) -> None:
    """Raise BadParameter for an --address without --engine ray."""
    if address is not None and engine != "ray":
        raise typer.BadParameter("is a Ray cluster's: add --engine ray", param_hint="--address")
