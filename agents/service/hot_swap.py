"""Hot swap: running workers take over what the control topic says, between two batches.

This is the protocol of what is in service; the modules that play a part in it refer to here.

*What is written.* `<pipeline>.control` says by key what shall run: of each component its champion,
the version before it and at times a challenger with its share of the keys (`deploy/<component>`),
the `weights`, and the `policy` (`topics.records.control`). Only operators write it, by
`agents.service.promotion`, which opens and tests a version first: one at a time, with an entry in
the audit trail, and not if somebody has changed the same since it was looked at
(`agents.control.exclusive_writer`).

*Who takes it over, and when.* A process opens at its start what the topic says
(`agents.service.open_pipeline`); where that cannot be opened, the version before runs instead, or
the newest that is good (`agents.service.open_version`). From then on `HotSwap` of each
process follows the topic. A version is opened aside and tested on its probe rows, in a thread,
while the old one goes on; then one assignment to the `ActiveComponent`, or to the
`ActiveDecisionRule`, puts it in its place. Who runs rows reads these once before a batch, so a
batch is of one version, and every output and decision names it. Each process swaps at its own time.
Weights and a policy that came with them take one assignment: thresholds move with weights.

*What refuses.* A version that the registry does not have, that has another digest there, or that
answers its probe rows otherwise; one of a component that the file pins; a challenger without a
shadow topic; weights where the file fixes them, or of other stages. The old one stays, and the
refusal is logged, counted, and reported with its reason. So is the end of a challenger whose shadow
topic cannot be written any more: in that process alone (`agents.stages.stage_writer`).

*What is told.* On `<pipeline>.reports`: of each process which version runs or is refused, and the
first offset of each partition that a version has dealt with (`topics.records.reports`).

Invariants:
- What a key says is tried once by a process; what it said before, and was not read, never.
- A swap never ends a worker, and never waits for reports, nor do events wait for a swap.
- What has run once is found again: champion and previous are protected from removal
  (`agents.service.gc_protection`).
"""

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
from agents.service.decided_by import keep_decided_by
from agents.service.open_version import open_version, open_weights
from agents.weigh import ActiveDecisionRule, DecisionRule, check_fields_sent
from agents.workers import StageMetrics
from models.registry import Registry, RegistryError
from topics.errors import AnabranchError
from topics.pipeline import WEIGH, PipelineFile, Topology
from topics.records import (
    POLICY,
    WEIGHTS,
    Challenger,
    Deployment,
    FirstOffset,
    ModelRef,
    VersionRef,
    WorkerReport,
    first_key,
    worker_key,
)

log = logging.getLogger(__name__)

_AGAIN_S = 1.0


def _is(model: ModelRef, name: str, wanted: VersionRef) -> bool:
    """Whether *model* is the version that is wanted of component *name*, to the bit."""
    return (model.model, model.digest) == (f"{name}@{wanted.version}", wanted.digest)


class HotSwap:
    """Gives the components of a process what they shall run, and reports what has come of it."""

    def __init__(
        self, control: ControlTopic, file: PipelineFile, registry: Registry, run: PipelineRun
    ) -> None:
        self._control = control
        self._file, self._pipeline = file, file.pipeline
        self._topology = Topology.of(file.pipeline)
        self._folder = file.path.parent
        self._registry = registry
        self._metrics = run.stages
        self._components = run.active.components
        self._rule = run.active.decision_rule
        self._asked: dict[str, object] = {}
        """What was last asked for, by component: it is tried once."""
        self._reports: dict[str, BaseModel] = {}
        self._report_at = 0.0
        """When reports are written next (monotonic seconds)."""
        self._failed: dict[str, str] = {}
        """What fails at the moment, by topic."""
        for name, active in self._components.items():
            active.starts.listener = self._component_listener(name)
        if self._rule is not None:
            self._rule.starts.listener = self._report_rule_start
        for metrics in self._metrics.values():
            for result in ("swapped", "refused"):
                metrics.observe_swap(result, 0)  # a series that is there can be alerted on

    async def follow(self) -> None:
        """Do what the topic says, again and again, for ever."""
        while True:
            await self._take_over()
            # Events do not wait for what is told about models, and swaps not for what is told
            # of them: there may be no reports topic, or this worker may not write it.
            read = await self._unless_it_fails(self._control.topic, self._control.more)
            if not read:
                await asyncio.sleep(_AGAIN_S)
            if time.monotonic() >= self._report_at:
                topic = self._control.reports_topic
                has_reported = await self._unless_it_fails(topic, self._write_reports)
                self._report_at = time.monotonic() + (0 if has_reported else _AGAIN_S)

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

    async def _take_over(self) -> None:
        state = self._control.state
        for name, active in self._components.items():
            deployment = state.deployment(name)
            await self._swap_champion(name, active, deployment)
            await self._swap_challenger(name, active, deployment.challenger)
        if self._rule is not None:
            await self._swap_rule(self._rule)

    async def _swap_champion(
        self, name: str, active: ActiveComponent, deployment: Deployment
    ) -> None:
        wanted = deployment.champion
        if wanted is None or not self._is_new(name, wanted):
            return

        def put(opened: OpenComponent) -> None:
            active.champion = opened
            self._metrics[name].observe_model(opened.model)

        if _is(active.champion.model, name, wanted):
            self._report(name, wanted.version)
        else:
            runs = active.champion.model.model
            await self._swap(name, wanted, put, lambda: f"{runs} runs instead")

    async def _swap_challenger(
        self, name: str, active: ActiveComponent, wanted: Challenger | None
    ) -> None:
        if wanted is None:
            active.challenger = None
            self._asked.pop(f"{name} challenger", None)
            return
        if not self._is_new(f"{name} challenger", wanted):
            if active.challenge_failure:  # it was told to run
                runs = f"{active.champion.model.model} runs alone"
                self._report(name, wanted.version, f"{runs}: {active.challenge_failure}")
                active.challenge_failure = ""
            return
        active.challenge_failure = ""
        challenger = active.challenger
        if challenger is not None and _is(challenger.opened.model, name, wanted):
            active.challenger = challenger._replace(share=wanted.share)
            self._report(name, wanted.version)
            return

        def put(opened: OpenComponent) -> None:
            active.challenger = ActiveChallenger(opened, wanted.share)

        def alone() -> str:
            return f"{active.champion.model.model} runs alone"

        if not await self._swap(name, wanted, put, alone, self._topology.shadow(name)):
            active.challenger = None  # the one that runs is not asked for any more

    async def _swap(
        self, name: str, wanted: VersionRef, put: Callable[[OpenComponent], None],
        instead: Callable[[], str], needs_topic: str | None = None,
    ) -> bool:  # fmt: skip
        async def swap() -> None:
            if needs_topic is not None:
                await self._control.check_topic(needs_topic)
            version = VersionRef(version=wanted.version, digest=wanted.digest)
            opened = await asyncio.to_thread(
                open_version, self._pipeline, name, version, self._registry, self._folder
            )
            put(opened)

        return await self._attempt(name, name, wanted.version, swap, instead)

    async def _swap_rule(self, active: ActiveDecisionRule) -> None:
        state = self._control.state
        if self._is_new("models that weights hold for", dict(state.deployments)):
            await self._renew_learned_for(active)
        if state.weights is not None and self._is_new(WEIGHTS, state.weights):
            version, deployed = state.weights.version, state.policy

            async def take_weights() -> None:
                weights = await asyncio.to_thread(
                    open_weights, self._pipeline, self._registry, version
                )
                if weights.version != version:
                    raise FixedWeights(self._pipeline.name)
                policy = active.rule.policy
                if deployed is not None and self._asked.get(POLICY) != deployed:
                    # Thresholds may have moved with the weights: no batch is decided by half of it.
                    policy = deployed.policy
                    check_fields_sent(self._pipeline, policy)
                    await asyncio.to_thread(keep_decided_by, self._registry, self._file, policy)
                self._put_rule(active, DecisionRule.of(self._file, weights, policy))

            def other_weights() -> str:
                return f"{WEIGHTS}@{active.rule.weights.version} weigh instead"

            await self._attempt(WEIGHTS, WEIGH, version, take_weights, other_weights)
        if state.policy is not None and self._is_new(POLICY, state.policy):
            policy = state.policy.policy

            async def take_policy() -> None:
                check_fields_sent(self._pipeline, policy)
                await asyncio.to_thread(keep_decided_by, self._registry, self._file, policy)
                self._put_rule(active, DecisionRule.of(self._file, active.rule.weights, policy))

            def other_policy() -> str:
                return f"{POLICY}@{active.rule.policy.version} decides instead"

            await self._attempt(POLICY, WEIGH, policy.version, take_policy, other_policy)

    async def _renew_learned_for(self, active: ActiveDecisionRule) -> None:
        """What is promoted may be a variant that was registered after the weights were opened."""
        version = active.rule.weights.version
        try:
            weights = await asyncio.to_thread(
                open_weights, self._pipeline, self._registry, version or None
            )
        except RegistryError as exc:
            log.warning("%s@%d: %s", WEIGHTS, version, exc)
            return
        if weights.version == version:
            self._put_rule(active, DecisionRule.of(self._file, weights, active.rule.policy))

    def _put_rule(self, active: ActiveDecisionRule, rule: DecisionRule) -> None:
        if (rule.weights, rule.policy) != (active.rule.weights, active.rule.policy):
            active.rule = rule
            self._metrics[WEIGH].observe_rule(rule.weights.values, *rule.versions)

    async def _attempt(
        self, what: str, component: str, version: int, change: Callable[[], Awaitable[None]],
        instead: Callable[[], str],
    ) -> bool:  # fmt: skip
        """Make a change, or refuse it and go on as before; whether it was made. It is reported."""
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
        if self._asked.get(what) == wanted:
            return False
        self._asked[what] = wanted
        return True

    def _report(self, what: str, version: int, refused: str = "") -> None:
        state = "refused" if refused else "running"
        self._reports[worker_key(what, WORKER)] = WorkerReport(
            version=version, state=state, reason=refused[:1000], at=now()
        )

    def _component_listener(self, name: str) -> StartListener[ModelRef]:
        def report(model: ModelRef, partition: int, offset: int, *, takes_over: bool) -> None:
            version = model.model.removeprefix(f"{name}@")
            if version.isdecimal():  # others have no versions
                self._report_start((name, int(version), partition), offset, takes_over)

        return report

    def _report_rule_start(
        self, versions: tuple[int, int], partition: int, offset: int, *, takes_over: bool
    ) -> None:
        weights, policy = versions
        self._report_start((WEIGHTS, weights, partition), offset, takes_over)
        self._report_start((POLICY, policy, partition), offset, takes_over)

    def _report_start(self, at: tuple[str, int, int], offset: int, takes_over: bool) -> None:
        """Remember to say where a version has begun: again if it has come back."""
        if takes_over or at not in self._control.reports.firsts:
            self._reports[first_key(*at)] = FirstOffset(offset=offset, worker=WORKER, at=now())

    async def _write_reports(self) -> None:
        written: Mapping[str, BaseModel] = dict(self._reports)
        if written and await self._control.has_reports():  # the status writer says if not
            await self._control.report(written)
            self._reports = {
                key: report
                for key, report in self._reports.items()
                if written.get(key) is not report
            }
