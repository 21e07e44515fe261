"""The steps of a renewal from new versions to their promotion: gate, shadow, contest, weights.

What a challenger has come to is noted on the log first and done then, on the control topic; whoever
takes the renewal up does what is noted and not done yet. What is done already, by us or by a person
meanwhile, is left as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from agents.broker import ensure_shadow_topic
from agents.control import ControlTopic
from agents.renewal.errors import NothingDecided, OtherChallenger
from agents.renewal.renewal_ledger import Renewal
from agents.renewal.step_result import RenewalContext, StepResult, name_of
from agents.replay.errors import GateRefused
from agents.replay.gate import Gate
from agents.replay.promotion_gate import passed_gate
from agents.replay.what_if import Alteration, WhatIf
from agents.service.challenger_comparison import Comparer, Judged
from agents.service.challenger_follower import follow_challenger
from agents.service.promotion import Promoter
from topics.pipeline import Topology, duration_ms, kind_of
from topics.records import Contest, ControlState, Evidence, VerdictName

_LOOK_S = 1.0
Note = Callable[[Mapping[str, Contest]], Awaitable[None]]
"""Has contests written to the log."""
Overtaken = Callable[[int], Awaitable[str | None]]
"""Why a renewal is to give way at an event time, in ms since 1970; None where it is not."""


async def replay_versions(context: RenewalContext, renewal: Renewal) -> StepResult:
    """Which of the new versions may run beside the old ones, by what they would have decided."""
    allowed, contests = dict(renewal.versions), dict[str, Contest]()
    figures: dict[str, float] = {}
    async with context.control() as control:
        for name, version in renewal.versions.items():
            try:
                evidence = await gate_evidence(context, control.state, {name: version})
            except GateRefused as exc:
                del allowed[name]
                why = _cut(" ".join(exc.lines))
                contests[name] = Contest(challenger=version, verdict="refused", reason=why)
            else:
                figures |= {f"{name}.{figure}": each for figure, each in evidence.figures.items()}
    words = "; ".join(each.reason for each in contests.values()) or f"{context.renew.gate}: true"
    if not allowed:
        return StepResult(_cut(words), contests=contests, figures=figures, ends="lost")
    return StepResult(_cut(words), versions=allowed, contests=contests, figures=figures)


async def gate_evidence(
    context: RenewalContext, state: ControlState, models: Mapping[str, int],
    weights: int | None = None,
) -> Evidence:  # fmt: skip
    """What the gate was passed by, on the last days of events. Raises GateRefused."""
    ranges, since_ms = await context.clock.last_decided(duration_ms(context.renew.gate_over))
    if not ranges:
        raise NothingDecided(context.pipeline.name)
    alteration = Alteration(models=dict(models), weights=weights)
    what_if = WhatIf(
        context.settings, context.file, context.registry, context.tail, state, alteration
    )
    what = ", ".join(f"{name}@{version}" for name, version in models.items())
    gate = Gate(context.renew.gate)
    passed = await passed_gate(
        gate, what or f"weights@{weights}", what_if, ranges, _instant(since_ms)
    )
    return passed.evidence


async def shadow_versions(context: RenewalContext, renewal: Renewal) -> StepResult:
    """Have them run beside the old ones. Raises OtherChallenger."""
    topology, reason = Topology.of(context.pipeline), f"{name_of(renewal)}: {renewal.begun.reason}"
    versions, contests = dict(renewal.versions), dict[str, Contest]()
    async with context.control() as control:
        promoter = _promoter(context, control, renewal)
        await control.catch_up()
        for name, version in renewal.versions.items():
            runs = promoter.in_service(name)
            if promoter.same_model(name, version, runs) or (runs and runs.version == version):
                del versions[name]
                same = "the same model as the one in service, to the byte"
                contests[name] = Contest(challenger=version, verdict="undecided", reason=same)
                continue
            challenger = control.state.deployment(name).challenger
            if challenger is not None and challenger.version != version:
                raise OtherChallenger(name, challenger.version)
            if challenger is None:
                await context.still_ours()
                await ensure_shadow_topic(context.settings, topology, name)
                await promoter.challenge(name, version, reason=_cut(reason))
    if not versions:
        return StepResult("there is nothing new to run", contests=contests, ends="undecided")
    words = ", ".join(f"{name}@{version}" for name, version in versions.items())
    return StepResult(f"{words} run beside", versions=versions, contests=contests)


async def contest(
    context: RenewalContext, renewal: Renewal, note: Note, overtaken: Overtaken
) -> StepResult:
    """Follow what they say, until each is found better, or worse, or has had its time.

    What is not decided when the renewal is *overtaken* is closed.
    """
    since_ms = renewal.done("shadow").event_ms
    until_ms = since_ms + duration_ms(context.renew.challenge)
    versions = renewal.versions
    async with AsyncExitStack() as open_, context.control() as control:
        promoter = _promoter(context, control, renewal)
        await control.catch_up()
        decided = {
            name: each for name, each in renewal.contests.items()
            if name in versions
        }  # fmt: skip
        for name, each in [*decided.items()]:
            decided[name] = await conclude(context, control, renewal, name, each)
        followers = {}
        for name, version in versions.items():
            if name in decided:
                continue
            if (gone := _ended_by_others(control.state, name, version)) is not None:
                decided[name] = gone
                continue
            champion = promoter.in_service(name)
            comparer = Comparer(
                name, f"{name}@{champion.version if champion else 0}", f"{name}@{version}",
                control.state.policy.policy if control.state.policy else context.pipeline.policy,
                context.renew.alpha, judged(context, name),
            )  # fmt: skip
            follower = await open_.enter_async_context(
                follow_challenger(context.settings, context.pipeline, comparer)
            )
            await follower.catch_up()
            followers[name] = (comparer, follower)
        while followers:
            clock_ms = await context.clock.now_ms() or since_ms
            await control.more()
            newer = await overtaken(clock_ms)
            for name, (comparer, follower) in [*followers.items()]:
                await follower.more()
                ended = _ended_by_others(control.state, name, versions[name])
                ended = ended or _found(
                    context, comparer, versions[name], is_over=clock_ms >= until_ms, newer=newer
                )
                if ended is not None:
                    await note({name: ended})
                    decided[name] = await conclude(context, control, renewal, name, ended)
                    del followers[name]
            await asyncio.sleep(_LOOK_S if followers else 0)
    words = "; ".join(each.reason for each in decided.values())
    verdict = verdict_of({**renewal.contests, **decided})
    won = {name: versions[name] for name, each in decided.items() if each.verdict == "better"}
    ends = None if won else verdict
    return StepResult(_cut(words), versions=won, contests=decided, ends=ends)


def _found(
    context: RenewalContext, comparer: Comparer, version: int, *, is_over: bool,
    newer: str | None,
) -> Contest | None:  # fmt: skip
    """What a challenger has come to; None while nobody knows, and it may go on."""
    verdict, reason = comparer.verdict()
    if verdict == "undecided":
        if newer is None and not is_over:
            return None
        late = f"not found better within {context.renew.challenge} of events"
        reason = f"{late if newer is None else newer}: {reason}"
    champion = int(comparer.champion.rpartition("@")[2]) or None
    return Contest(
        champion=champion, challenger=version, verdict=verdict, reason=_cut(reason),
        rows=comparer.rows, labelled=comparer.labelled,
    )  # fmt: skip


async def conclude(
    context: RenewalContext, control: ControlTopic, renewal: Renewal, name: str, ended: Contest
) -> Contest:
    """Promote a challenger that has won if the gate lets it, else close it; how it has ended.

    Nothing is done where that is done already.
    """
    await control.catch_up()
    challenger = control.state.deployment(name).challenger
    if challenger is None or challenger.version != ended.challenger:
        return ended
    evidence = None
    if ended.verdict == "better":
        try:
            evidence = await gate_evidence(context, control.state, {name: ended.challenger})
        except GateRefused as exc:
            refused = {"verdict": "refused", "reason": _cut(" ".join(exc.lines))}
            ended = ended.model_copy(update=refused)
    await context.still_ours()
    promoter = _promoter(context, control, renewal, evidence)
    reason = _cut(f"{name_of(renewal)}: {ended.reason}")
    if ended.verdict == "better":
        await promoter.promote(name, ended.challenger, reason)
    else:
        await promoter.end_challenge(name, reason)
    return ended


async def promote_weights(context: RenewalContext, renewal: Renewal) -> StepResult:
    """Weights learned for the new models, once all models that they were learned for run."""
    contests = renewal.contests
    verdict, weights = verdict_of(contests), renewal.done("train").weights
    if context.pipeline.weighting.fixed_weights is not None:
        return StepResult("weights are fixed in the pipeline file", ends=verdict)
    if weights is None:
        return StepResult("what goes on learning keeps the weights that weigh", ends=verdict)
    async with context.control() as control:
        await control.catch_up()
        state = control.state.weights
        if state is not None and state.version == weights:
            return StepResult(f"weights@{weights} weigh", weights=weights, ends=verdict)
        learned_for = context.registry.weights(context.pipeline.name, weights).card.models
        promoter = _promoter(context, control, renewal)
        others = [
            name
            for name, digest in learned_for.items()
            if (runs := promoter.in_service(name)) is not None and runs.digest != digest
        ]
        if others:
            why = f"weights@{weights} were learned for other models of {', '.join(others)}"
            return StepResult(f"{why}: those that weigh stay", ends=verdict)
        try:
            evidence = await gate_evidence(context, control.state, {}, weights)
        except GateRefused as exc:
            return StepResult(_cut(f"those that weigh stay: {exc}"), ends=verdict)
        await context.still_ours()
        reason = f"{name_of(renewal)}: learned for the models that it has promoted"
        await _promoter(context, control, renewal, evidence).promote_weights(weights, reason)
    return StepResult(f"weights@{weights} weigh", weights=weights, ends=verdict)


async def close_challenges(context: RenewalContext, renewal: Renewal, why: str) -> None:
    """End what this renewal has running beside the versions in service."""
    async with context.control() as control:
        await control.catch_up()
        for name, version in renewal.versions.items():
            challenger = control.state.deployment(name).challenger
            if challenger is not None and challenger.version == version:
                await context.still_ours()
                reason = _cut(f"{name_of(renewal)}: {why}")
                await _promoter(context, control, renewal).end_challenge(name, reason)


def verdict_of(contests: Mapping[str, Contest]) -> VerdictName:
    """What a renewal has come to, by how its challengers have fared."""
    verdicts = [each.verdict for each in contests.values()]
    if "better" in verdicts:
        return "promoted" if set(verdicts) == {"better"} else "partly"
    return "lost" if {"worse", "refused"} & {*verdicts} else "undecided"


def judged(context: RenewalContext, name: str) -> Judged:
    """Signals of a novelty are no probabilities: of those the decisions' scores are judged."""
    return "score" if kind_of(context.pipeline.component(name)).is_novelty else "signal"


def _ended_by_others(state: ControlState, name: str, version: int) -> Contest | None:
    """What has become of a challenger that runs no more, whoever has ended it."""
    deployment = state.deployment(name)
    if deployment.challenger is not None and deployment.challenger.version == version:
        return None
    last = state.last_change(name)
    who = "" if last is None else f" by {last.by}: {last.reason}"
    if deployment.champion is not None and deployment.champion.version == version:
        return Contest(challenger=version, verdict="better", reason=_cut(f"promoted{who}"))
    return Contest(challenger=version, verdict="undecided", reason=_cut(f"ended{who}"))


def _promoter(
    context: RenewalContext, control: ControlTopic, renewal: Renewal,
    evidence: Evidence | None = None,
) -> Promoter:  # fmt: skip
    by = f"trainer ({name_of(renewal)})"
    return Promoter(control, context.file, context.registry, evidence, by)


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _cut(text: object) -> str:
    """As much as a record takes."""
    return str(text)[:1000]
