"""`--if` of `anabranch models promote`: what a version would have decided, before it may decide."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Self

import typer

from agents.commands.terminal import stderr

if TYPE_CHECKING:
    from agents.commands.models.model_names import ModelName
    from agents.replay.gate import Gate
    from agents.replay.what_if import Alteration
    from models.registry import Registry
    from topics.pipeline import PipelineFile
    from topics.records import ControlState, Evidence
    from topics.settings import BrokerSettings

_DURATION = re.compile(r"[1-9][0-9]{0,6}(ms|s|m|h|d)", re.ASCII)
_LONGEST_DAYS = 36_525
"""A century: times before the year 1 are none."""

ConditionOption = Annotated[
    str | None,
    typer.Option(
        "--if",
        metavar="CONDITION",
        help="Only if that is true of what the version would have decided, such as "
        '"changed <= 0.5% and cost <= 0"; see deploy/what_if.md.',
    ),
]
OverOption = Annotated[
    str,
    typer.Option(
        "--over",
        metavar="DURATION",
        help="With --if: of the decisions of the last 7d, 12h or whatever is said, by event time.",
    ),
]


@dataclass(slots=True)
class PromotionGate:
    """What has to be true of a version before it is promoted."""

    gate: Gate
    over_ms: int
    wanted: ModelName
    version: int | None = None
    """What was judged: where no version is named the newest then, whatever is trained since."""

    @classmethod
    def of(cls, condition: str | None, over: str, wanted: ModelName) -> Self | None:
        """The gate that is asked for. Raises BadCondition, BadParameter."""
        from agents.replay.gate import Gate
        from topics.pipeline import duration_ms

        if not _DURATION.fullmatch(over):
            raise typer.BadParameter(
                f"{over!r} is no length of time, such as 7d, 12h or 30m", param_hint="--over"
            )
        if duration_ms(over) > _LONGEST_DAYS * 86_400_000:
            raise typer.BadParameter(f"{over} is more than a century", param_hint="--over")
        return None if condition is None else cls(Gate(condition), duration_ms(over), wanted)

    async def evidence(
        self, settings: BrokerSettings, file: PipelineFile, registry: Registry, state: ControlState
    ) -> Evidence:
        """What the version may be promoted by; the report is kept beside the registry's home.

        Raises GateRefused, and what `agents.replay` raises.
        """
        from agents.renewal.errors import NothingDecided
        from agents.renewal.event_clock import EventClock
        from agents.replay.promotion_gate import passed_gate
        from agents.replay.what_if import WhatIf
        from agents.workers import TailReader
        from topics.settings import HomeSettings

        alteration = self._alteration(file, registry)
        tail = TailReader(settings)
        await tail.start()
        try:
            ranges, since_ms = await EventClock(file.pipeline, tail).last_decided(self.over_ms)
            if not ranges:
                raise NothingDecided(file.pipeline.name)
            since = datetime.fromtimestamp(max(since_ms, 0) / 1000, UTC)
            what_if = WhatIf(settings, file, registry, tail, state, alteration)
            passed = await passed_gate(self.gate, str(self.wanted), what_if, ranges, since)
        finally:
            await tail.stop()
        folder = HomeSettings().home / "reports"
        page = folder / f"what-if-{passed.evidence.report.removeprefix('sha256:')[:12]}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            page.write_bytes(passed.report.document())
            stderr.print(f"{page}: what it was judged by", soft_wrap=True, highlight=False)
        except OSError as exc:
            stderr.print(
                f"{page}: what it was judged by is not kept: {exc.strerror}", soft_wrap=True,
                highlight=False,
            )  # fmt: skip
        return passed.evidence

    def _alteration(self, file: PipelineFile, registry: Registry) -> Alteration:
        """What promoting does, with the newest version where none is named."""
        from agents.replay.what_if import Alteration
        from topics.records import POLICY, WEIGHTS

        name, component, version = file.pipeline.name, self.wanted.component, self.wanted.version
        if component == POLICY:
            return Alteration(policy=file.pipeline.policy)
        if component == WEIGHTS:
            self.version = version or registry.weights(name).version
            return Alteration(weights=self.version)
        self.version = version or registry.latest(name, component).version
        return Alteration(models={component: self.version})
