"""`anabranch models promote | rollback | shadow | canary`: versions in service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agents.commands.event_loop import run_async
from agents.commands.models.model_names import (
    ComponentArgument,
    ModelName,
    check_component,
    component_in_service,
    name_in_service,
)
from agents.commands.models.promotion_gate import ConditionOption, OverOption, PromotionGate
from agents.commands.options import (
    BrokerOption,
    ChangeReasonOption,
    EndChallengeOption,
    JsonOption,
    WorkersAnswerOption,
    open_registry,
    pipeline_file,
)
from agents.commands.terminal import stderr, stdout

if TYPE_CHECKING:
    from agents.control import ControlTopic
    from agents.service.promotion import Promoter
    from topics.pipeline import PipelineFile
    from topics.settings import BrokerSettings

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE/COMPONENT[@VERSION]",
        help="Also PIPELINE/weights and PIPELINE/policy; without a version, the newest.",
    ),
]


def promote(
    target: TargetArgument,
    condition: ConditionOption = None,
    over: OverOption = "7d",
    reason: ChangeReasonOption = "",
    wait: WorkersAnswerOption = 10.0,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a version into service: running workers take it over between two micro-batches.

    It is loaded and tested on its probe rows here first, and again by every worker, before it
    takes the old one's place; a worker that cannot use it refuses it and goes on as before.
    PIPELINE/weights puts learned weights into service, PIPELINE/policy the thresholds that are
    in the pipeline file now. A version that is the same model as the one before, as of a training
    on the same rows, is said to be so. Exit code 1 when a worker refuses.
    With --if the version is tried on recorded events first, as by `anabranch replay`; where the
    condition is not true, or a figure in it cannot be known, nothing is promoted: exit code 1. The
    audit trail keeps what it was judged by.

    Examples:
      anabranch models promote card-fraud/risk-forest@4 --reason "retrained on July"

      anabranch models promote card-fraud/weights --if "changed <= 0.5% and cost <= 0" --over 7d

      anabranch models promote card-fraud/weights

      anabranch models promote card-fraud/policy
    """
    from topics.records import POLICY, WEIGHTS

    wanted = name_in_service(target)

    gate = PromotionGate.of(condition, over, wanted)

    async def do(promoter: Promoter) -> int:
        version = wanted.version if gate is None else gate.version
        if wanted.component == WEIGHTS:
            return await promoter.promote_weights(version, reason)
        if wanted.component == POLICY:
            return await promoter.promote_policy(reason)
        return (await promoter.promote(wanted.component, version, reason)).version

    _change(wanted, broker, do, wait, as_json=as_json, gate=gate)


def rollback(
    target: TargetArgument,
    reason: ChangeReasonOption = "",
    wait: WorkersAnswerOption = 10.0,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put back what was in service before the last promote.

    Example:
      anabranch models rollback card-fraud/risk-forest --reason "precision fell"
    """
    from topics.records import POLICY, WEIGHTS

    wanted = name_in_service(target)

    async def do(promoter: Promoter) -> int:
        if wanted.component == WEIGHTS:
            return await promoter.rollback_weights(reason)
        if wanted.component == POLICY:
            return await promoter.rollback_policy(reason)
        return (await promoter.rollback(wanted.component, reason)).version

    _change(wanted, broker, do, wait, as_json=as_json)


def shadow(
    target: ComponentArgument,
    stop: EndChallengeOption = False,
    reason: ChangeReasonOption = "",
    wait: WorkersAnswerOption = 10.0,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a version beside the champion on the same records; it decides nothing.

    Its outputs are on <pipeline>.shadow.<component>; `anabranch models compare` follows them.

    Examples:
      anabranch models shadow card-fraud/risk-forest@4

      anabranch models shadow card-fraud/risk-forest --stop
    """
    _challenge(component_in_service(target), 0.0, reason, wait, broker, stop=stop, as_json=as_json)


def canary(
    target: ComponentArgument,
    share: Annotated[
        str, typer.Option("--share", metavar="PERCENT", help="Of the keys: always the same ones.")
    ] = "5%",
    stop: EndChallengeOption = False,
    reason: ChangeReasonOption = "",
    wait: WorkersAnswerOption = 10.0,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a version decide for a share of the keys; both run on all records meanwhile.

    Examples:
      anabranch models canary card-fraud/risk-forest@4 --share 5%

      anabranch models canary card-fraud/risk-forest --stop
    """
    wanted = component_in_service(target)
    _challenge(wanted, _share(share), reason, wait, broker, stop=stop, as_json=as_json)


def _challenge(
    wanted: ModelName, share: float, reason: str, wait: float, broker: str | None,
    *, stop: bool, as_json: bool,
) -> None:  # fmt: skip
    async def do(promoter: Promoter) -> int:
        if stop:
            await promoter.end_challenge(wanted.component, reason)
            return 0
        return (await promoter.challenge(wanted.component, wanted.version, share, reason)).version

    _change(wanted, broker, do, 0 if stop else wait, shadows=not stop, as_json=as_json)


def _change(
    wanted: ModelName, broker: str | None, do: Callable[[Promoter], Awaitable[int]], wait_s: float,
    *, shadows: bool = False, as_json: bool, gate: PromotionGate | None = None,
) -> None:  # fmt: skip
    """Make a change, wait for what the workers say of it, and print that."""
    import json

    async def changed() -> dict[str, object]:
        from agents.broker import ensure_shadow_topic
        from agents.service.promotion import Promoter
        from topics.pipeline import Topology

        async with open_control(wanted.pipeline, broker, wanted) as (file, settings, control):
            registry = open_registry()
            evidence = None
            if gate is not None:
                evidence = await gate.evidence(settings, file, registry, control.state)
            promoter = Promoter(control, file, registry, evidence)
            if shadows:
                await ensure_shadow_topic(settings, Topology.of(file.pipeline), wanted.component)
            await control.tidy()
            said, before = dict(control.reports.workers), promoter.in_service(wanted.component)
            version = await do(promoter)
            reports = await promoter.reports(wanted.component, version, said, wait_s)
            same = before if promoter.same_model(wanted.component, version, before) else None
            weights, others = promoter.models_not_learned_for()
            if others:
                stderr.print(
                    f"weights@{weights} in service were learned for other models: "
                    f"{', '.join(map(str, others))}",
                    soft_wrap=True, markup=False, highlight=False,
                )  # fmt: skip
                if file.pipeline.weighting.weights == "strict":
                    stderr.print(
                        "weights: strict refuses the next start unless those that belong to them "
                        "are in service by then", soft_wrap=True,
                    )  # fmt: skip
            return {
                "pipeline": file.pipeline.name, "what": wanted.component, "version": version,
                "same_model_as": same.version if same else None,
                "workers": {name: report.model_dump() for name, report in reports.items()},
                "evidence": None if evidence is None else evidence.model_dump(),
            }  # fmt: skip

    outcome: dict[str, Any] = run_async(changed())
    if as_json:
        typer.echo(json.dumps(outcome))
    else:
        _print_change(outcome, wait_s)
    if any(report["state"] == "refused" for report in outcome["workers"].values()):
        raise typer.Exit(1)


def _print_change(outcome: Mapping[str, Any], wait_s: float) -> None:
    """What was changed, by what it was allowed, and what workers say of it."""
    what = f"{outcome['pipeline']}/{outcome['what']}"
    stdout.print(f"{what}@{outcome['version']}" if outcome["version"] else f"{what}: ended")
    if outcome["same_model_as"]:
        stdout.print(
            f"  the same model as @{outcome['same_model_as']}, to the byte: "
            "what it decides does not change", soft_wrap=True,
        )  # fmt: skip
    if evidence := outcome["evidence"]:
        stdout.print(
            f"  {evidence['condition']}: true of {evidence['decided']:,} decisions",
            soft_wrap=True, highlight=False,
        )  # fmt: skip
    workers: Mapping[str, Mapping[str, str]] = outcome["workers"]
    for name, report in workers.items():
        stdout.print(f"  {name}: {report['state']} {report['reason']}".rstrip())
    if wait_s and not workers:
        stderr.print("no worker has answered yet: it is taken over when one runs")


@asynccontextmanager
async def open_control(
    pipeline: str, broker: str | None, wanted: ModelName | None = None
) -> AsyncIterator[tuple[PipelineFile, BrokerSettings, ControlTopic]]:
    """A pipeline's file, the broker that it runs on, and its control topic.

    Raises BadParameter first if the pipeline has not what is *wanted*.
    """
    from agents.broker import needed_broker, wait_for_broker
    from agents.control import ControlTopic
    from topics.pipeline import Topology

    file, settings = pipeline_file(pipeline), needed_broker(broker)
    if wanted is not None:
        check_component(wanted, file)
    await wait_for_broker(settings)
    async with ControlTopic(settings, Topology.of(file.pipeline)) as control:
        yield file, settings, control


def _share(text: str) -> float:
    """A share in (0, 1] of a text such as "5%"."""
    number, sign, rest = text.strip().partition("%")
    try:
        share = float(number) / (100 if sign else 1)
    except ValueError:
        share = -1.0
    if rest or not 0 < share <= 1:
        raise typer.BadParameter(
            f"{text!r} is no share: give one such as 5%, above 0 and up to 100%",
            param_hint="--share",
        )
    return share
