"""Hot swap: running components take over what the control topic says, between two batches."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from aiokafka.errors import KafkaError
from pydantic import BaseModel

from agents.components import ActiveChallenger, ActiveComponent, OpenComponent, StartListener
from agents.control import WORKER, ControlTopic, FixedWeights, now
from agents.process.runner import PipelineRun
from agents.service.open_version import open_version, open_weights
from agents.weigh import ActiveDecisionRule, DecisionRule
from agents.workers import StageMetrics
from models.registry import Registry, RegistryError
from topics.errors import AnabranchError
from topics.pipeline import WEIGH, PipelineFile, Topology
from topics.records import (
    Challenger,
    Deployment,
    FirstOffset,
    ModelRef,
    VersionRef,
    WorkerReport,
    first_key,
    worker_key,
)
from topics.records.control import POLICY, WEIGHTS

log = logging.getLogger(__name__)

_AGAIN_S = 1.0


def _is(model: ModelRef, name: str, wanted: VersionRef) -> bool:
    """Whether *model* is the version that is wanted of component *name*, to the bit."""
    return (model.model, model.digest) == (f"{name}@{wanted.version}", wanted.digest)


class Swapper:
    """Gives the components of a process what they shall run, and says what has come of it.

    A version is loaded aside and tested, in a thread, while the old one goes on; then one
    assignment puts it in its place. What cannot be used is refused, and the old one stays.
    """

    def __init__(
        self, control: ControlTopic, file: PipelineFile, registry: Registry, run: PipelineRun
    ) -> None:
        self._control = control
        self._pipeline = file.pipeline
        self._topology = Topology.of(file.pipeline)
        self._folder = file.path.parent
        self._registry = registry
        self._metrics = run.stages
        self._components = run.active.components
        self._terms = run.active.decision_rule
        self._tried: dict[str, object] = {}
        """What was last asked for, by component: it is tried once."""
        self._notes: dict[str, BaseModel] = {}
        self._notes_from = 0.0
        """When notes are written next (monotonic seconds)."""
        self._failed: dict[str, str] = {}
        """What fails at the moment, by topic."""
        for name, slot in self._components.items():
            slot.starts.listener = self._noted(name)
        if self._terms is not None:
            self._terms.starts.listener = self._terms_noted
        for metrics in self._metrics.values():
            for result in ("swapped", "refused"):
                metrics.observe_swap(result, 0)  # a series that is there can be alerted on

    async def follow(self) -> None:
        """Do what the topic says, again and again, for ever."""
        while True:
            await self._do()
            # Events do not wait for what is told about models, and swaps not for what is told
            # of them: there may be no reports topic, or this worker may not write it.
            read = await self._unless_it_fails(self._control.topic, self._control.more)
            if not read:
                await asyncio.sleep(_AGAIN_S)
            if time.monotonic() >= self._notes_from:
                told = await self._unless_it_fails(self._control.reports_topic, self._write_notes)
                self._notes_from = time.monotonic() + (0 if told else _AGAIN_S)

    async def _unless_it_fails(self, topic: str, step: Callable[[], Awaitable[object]]) -> bool:
        """Whether *step* has succeeded; a failure is logged when it is another than before."""
        try:
            await step()
        except (AnabranchError, KafkaError) as exc:
            if self._failed.get(topic) != str(exc):
                self._failed[topic] = str(exc)
                log.warning("%s: %s", topic, exc)
            return False
        self._failed.pop(topic, None)
        return True

    async def _do(self) -> None:
        state = self._control.state
        for name, slot in self._components.items():
            deployment = state.deployment(name)
            await self._swap_champion(name, slot, deployment)
            await self._swap_challenger(name, slot, deployment.challenger)
        if self._terms is not None:
            await self._swap_terms(self._terms)

    async def _swap_champion(
        self, name: str, slot: ActiveComponent, deployment: Deployment
    ) -> None:
        wanted = deployment.champion
        if wanted is None or not self._is_new(name, wanted):
            return

        def put(opened: OpenComponent) -> None:
            slot.champion = opened
            self._metrics[name].observe_model(opened.model)

        if _is(slot.champion.model, name, wanted):
            self._report(name, wanted.version)
        else:
            await self._swap(name, wanted, put, lambda: f"{slot.champion.model.model} runs instead")

    async def _swap_challenger(
        self, name: str, slot: ActiveComponent, wanted: Challenger | None
    ) -> None:
        if wanted is None:
            slot.challenger = None
            self._tried.pop(f"{name} challenger", None)
            return
        if not self._is_new(f"{name} challenger", wanted):
            return
        runs = slot.challenger
        if runs is not None and _is(runs.opened.model, name, wanted):
            slot.challenger = runs._replace(share=wanted.share)
            self._report(name, wanted.version)
            return

        def put(opened: OpenComponent) -> None:
            slot.challenger = ActiveChallenger(opened, wanted.share)

        def alone() -> str:
            return f"{slot.champion.model.model} runs alone"

        if not await self._swap(name, wanted, put, alone, self._topology.shadow(name)):
            slot.challenger = None  # the one that runs is not asked for any more

    async def _swap(
        self, name: str, wanted: VersionRef, put: Callable[[OpenComponent], None],
        instead: Callable[[], str], needs_topic: str | None = None,
    ) -> bool:  # fmt: skip
        async def opened() -> None:
            if needs_topic is not None:
                await self._control.check_topic(needs_topic)
            version = VersionRef(version=wanted.version, digest=wanted.digest)
            found = await asyncio.to_thread(
                open_version, self._pipeline, name, version, self._registry, self._folder
            )
            put(found)

        return await self._attempt(name, name, wanted.version, opened, instead)

    async def _swap_terms(self, slot: ActiveDecisionRule) -> None:
        state = self._control.state
        if self._is_new("models that weights hold for", dict(state.deployments)):
            await self._renew_learned_for(slot)
        if state.weights is not None and self._is_new(WEIGHTS, state.weights):
            version = state.weights.version

            async def weighed() -> None:
                weights = await asyncio.to_thread(
                    open_weights, self._pipeline, self._registry, version
                )
                if weights.version != version:
                    raise FixedWeights(self._pipeline.name)
                self._put(slot, DecisionRule.of(self._pipeline, weights, slot.rule.policy))

            def other_weights() -> str:
                return f"{WEIGHTS}@{slot.rule.weights.version} weigh instead"

            await self._attempt(WEIGHTS, WEIGH, version, weighed, other_weights)
        if state.policy is not None and self._is_new(POLICY, state.policy):
            policy = state.policy.policy

            async def decided() -> None:
                self._put(slot, DecisionRule.of(self._pipeline, slot.rule.weights, policy))

            def other_policy() -> str:
                return f"{POLICY}@{slot.rule.policy.version} decides instead"

            await self._attempt(POLICY, WEIGH, policy.version, decided, other_policy)

    async def _renew_learned_for(self, slot: ActiveDecisionRule) -> None:
        """What is promoted may be a variant that was registered after the weights were opened."""
        version = slot.rule.weights.version
        try:
            weights = await asyncio.to_thread(
                open_weights, self._pipeline, self._registry, version or None
            )
        except RegistryError as exc:
            log.warning("%s@%d: %s", WEIGHTS, version, exc)
            return
        if weights.version == version:
            self._put(slot, DecisionRule.of(self._pipeline, weights, slot.rule.policy))

    def _put(self, slot: ActiveDecisionRule, terms: DecisionRule) -> None:
        if (terms.weights, terms.policy) != (slot.rule.weights, slot.rule.policy):
            slot.rule = terms
            self._metrics[WEIGH].observe_terms(terms.weights.values, terms.weights.version)

    async def _attempt(
        self, what: str, component: str, version: int, change: Callable[[], Awaitable[None]],
        instead: Callable[[], str],
    ) -> bool:  # fmt: skip
        """Make a change, or refuse it and go on as before; whether it was made. It is told."""
        metrics: StageMetrics = self._metrics[component]
        try:
            await change()
        except Exception as exc:  # whatever is wrong with a version, it must not end a worker
            metrics.observe_swap("refused")
            runs = instead()
            log.warning("%s@%d is refused, %s: %s", what, version, runs, exc)
            self._report(what, version, f"{runs}: {exc}")
            return False
        metrics.observe_swap("swapped")
        log.info("%s@%d runs", what, version)
        self._report(what, version)
        return True

    def _is_new(self, what: str, wanted: object) -> bool:
        """Whether that was not asked for last time."""
        if self._tried.get(what) == wanted:
            return False
        self._tried[what] = wanted
        return True

    def _report(self, what: str, version: int, refused: str = "") -> None:
        state = "refused" if refused else "running"
        self._notes[worker_key(what, WORKER)] = WorkerReport(
            version=version, state=state, reason=refused[:1000], at=now()
        )

    def _noted(self, name: str) -> StartListener[ModelRef]:
        def note(model: ModelRef, partition: int, offset: int, *, takes_over: bool) -> None:
            version = model.model.removeprefix(f"{name}@")
            if version.isdecimal():  # others have no versions
                self._note_first((name, int(version), partition), offset, takes_over)

        return note

    def _terms_noted(
        self, versions: tuple[int, int], partition: int, offset: int, *, takes_over: bool
    ) -> None:
        weights, policy = versions
        self._note_first((WEIGHTS, weights, partition), offset, takes_over)
        self._note_first((POLICY, policy, partition), offset, takes_over)

    def _note_first(self, at: tuple[str, int, int], offset: int, takes_over: bool) -> None:
        """Remember to say where a version has begun: again if it has come back."""
        if takes_over or at not in self._control.reports.firsts:
            self._notes[first_key(*at)] = FirstOffset(offset=offset, worker=WORKER, at=now())

    async def _write_notes(self) -> None:
        notes: Mapping[str, BaseModel] = dict(self._notes)
        if notes and await self._control.has_reports():  # the status writer says if not
            await self._control.report(notes)
            self._notes = {key: it for key, it in self._notes.items() if notes.get(key) is not it}
