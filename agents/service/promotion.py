"""Putting versions into service: what operators write to the control topic, and what comes of it.

The protocol is in `agents.service.hot_swap`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from pydantic import BaseModel

from agents.control import (
    ControlTopic,
    FixedWeights,
    IsChampion,
    NoChallenger,
    NothingToRollBack,
    SamePolicy,
    now,
    user,
)
from agents.service.decided_by import keep_decided_by
from agents.service.open_version import (
    check_swappable,
    models_not_learned_for,
    open_deployed_weights,
    open_version,
    open_weights,
)
from models.onnx.weighed_models import OtherModel
from models.registry import Registry, RegistryError
from topics.pipeline import PipelineFile, Policy
from topics.records import (
    POLICY,
    WEIGHTS,
    Action,
    AuditEntry,
    Challenger,
    Deployment,
    Evidence,
    PolicyDeployment,
    VersionRef,
    WeightsDeployment,
    WorkerReport,
    deploy_key,
)

_OTHERS_S = 1.5
"""For so long another worker's report is waited for."""

Reports = Mapping[tuple[str, str], WorkerReport]
"""By component and worker."""


class Promoter:
    """Decides what the workers of one pipeline shall run; *evidence* is by what it may."""

    def __init__(
        self, control: ControlTopic, file: PipelineFile, registry: Registry,
        evidence: Evidence | None = None, by: str | None = None,
    ) -> None:  # fmt: skip
        """*by* is who the audit trail names; without it the user of this process."""
        self._control = control
        self._evidence = evidence
        self._by = by
        control.listen()
        self._file = file
        self._pipeline = file.pipeline
        self._registry = registry

    async def promote(self, name: str, version: int | None, reason: str = "") -> VersionRef:
        """Make a version (None: the newest) the champion of component *name*.

        It is opened and tested here first. Raises RegistryError.
        """
        wanted = await self._tested(name, version)
        before = self._champion(name)
        if before == wanted:
            before = self._control.state.deployment(name).previous
        await self._put_champion("promote", name, wanted, before, reason)
        return wanted

    async def rollback(self, name: str, reason: str = "") -> VersionRef:
        """Make the version before the champion the champion again. Raises NothingToRollBack."""
        deployment = self._control.state.deployment(name)
        if deployment.champion is None or deployment.previous is None:
            raise NothingToRollBack(name)
        wanted = await self._tested(name, deployment.previous.version)
        await self._put_champion("rollback", name, wanted, deployment.champion, reason)
        return wanted

    async def _put_champion(
        self, action: Action, name: str, champion: VersionRef, previous: VersionRef | None,
        reason: str,
    ) -> None:  # fmt: skip
        """Change the champion; a challenger stays, unless it is the one that has won."""
        challenger = self._control.state.deployment(name).challenger
        if challenger is not None and challenger.version == champion.version:
            challenger = None
        wanted = Deployment(champion=champion, previous=previous, challenger=challenger)
        await self._deploy(action, name, wanted, reason)

    async def challenge(
        self, name: str, version: int | None, share: float = 0.0, reason: str = ""
    ) -> Challenger:
        """Run a version beside the champion; with a *share*, it decides for that many keys.

        Raises IsChampion, RegistryError.
        """
        tested = await self._tested(name, version)
        if tested == self._champion(name):
            raise IsChampion(name, tested.version)
        wanted = Challenger(version=tested.version, digest=tested.digest, share=share)
        deployment = self._control.state.deployment(name)
        action: Action = "canary" if share else "shadow"
        await self._deploy(
            action, name, deployment.model_copy(update={"challenger": wanted}), reason
        )
        return wanted

    async def end_challenge(self, name: str, reason: str = "") -> None:
        """Let the champion run alone. Raises NoChallenger."""
        deployment = self._control.state.deployment(name)
        if deployment.challenger is None:
            raise NoChallenger(name)
        await self._deploy(
            "end-challenge", name, deployment.model_copy(update={"challenger": None}), reason
        )

    def contestants(self, name: str) -> tuple[int, int]:
        """The versions of champion and challenger. Raises NoChallenger."""
        challenger, champion = (
            self._control.state.deployment(name).challenger, self._champion(name),
        )  # fmt: skip
        if challenger is None or champion is None:
            raise NoChallenger(name)
        return champion.version, challenger.version

    def in_service(self, name: str) -> VersionRef | None:
        """The version that decides now; None for weights and the policy, or where none has run."""
        return None if name in (WEIGHTS, POLICY) else self._champion(name)

    def begun(self, what: str) -> int | None:
        """The version of a component, of weights or policy that a worker has last begun with."""
        return self._newest_begun(what)

    def same_model(self, name: str, version: int, before: VersionRef | None) -> bool:
        """*version* of a component is another one than *before*, and the same model to the byte.

        A training on the same rows comes to that: decisions stay as they are.
        """
        if before is None or version in (0, before.version):
            return False
        return self._registry.get(self._pipeline.name, name, version).digest == before.digest

    async def promote_weights(
        self, version: int | None, reason: str = "", *, action: Action = "promote",
        policy: PolicyDeployment | None = None,
    ) -> int:  # fmt: skip
        """Put a version of the learned weights into service, and with them a *policy* if given.

        None for the newest that was trained: what a monitor makes of it comes and goes by itself.
        """
        wanted = open_weights(self._pipeline, self._registry, version).version
        if wanted == 0:
            raise FixedWeights(self._pipeline.name)
        state = self._control.state.weights
        before = state.version if state else self._newest_begun(WEIGHTS)
        if before == wanted:
            before = state.previous if state else None
        deployment = WeightsDeployment(version=wanted, previous=before)
        entry = self._entry(action, WEIGHTS, wanted, before, reason)
        records: dict[str, BaseModel] = {WEIGHTS: deployment}
        if policy is not None:
            records[POLICY] = policy
        await self._change(records, entry, None if policy is None else policy.policy)
        return wanted

    async def rollback_weights(self, reason: str = "") -> int:
        """Put the weights before those in service back; of a monitor's, those that were trained.

        Thresholds that have moved with them go back, too. Raises NothingToRollBack.
        """
        state = self._control.state.weights
        if state is None or state.previous is None:
            raise NothingToRollBack(WEIGHTS)
        return await self.promote_weights(
            state.previous, reason, action="rollback", policy=self._policy_before(state.version)
        )

    def _policy_before(self, version: int) -> PolicyDeployment | None:
        """The policy that was there before thresholds moved with the weights of *version*."""
        state = self._control.state.policy
        if state is None or state.previous is None:
            return None
        try:
            moved = self._registry.weights(self._pipeline.name, version).card.thresholds
        except RegistryError:  # what is gone has to be led back from all the same
            return None
        if not moved or moved != state.policy.thresholds:
            return None
        return PolicyDeployment(policy=state.previous, previous=state.policy)

    def models_not_learned_for(self) -> tuple[int, list[OtherModel]]:
        """The version of the weights in service, and what they were not learned for of models."""
        deployed = self._control.state.weights
        try:
            weights = open_deployed_weights(self._pipeline, self._registry, deployed)
        except RegistryError:  # there are none, or none that fit: workers say so
            return 0, []
        others = models_not_learned_for(
            self._pipeline, self._registry, self._file.path.parent, self._control.state,
            weights.version,
        )  # fmt: skip
        return weights.version, others

    async def promote_policy(self, reason: str = "") -> int:
        """Put the pipeline file's policy into service. Raises SamePolicy."""
        policy, state = self._pipeline.policy, self._control.state.policy
        if state and state.policy.version == policy.version and state.policy != policy:
            raise SamePolicy(policy.version)
        previous = state.policy if state and state.policy != policy else None
        before = previous.version if previous else self._newest_begun(POLICY)
        entry = self._entry("promote", POLICY, policy.version, before, reason)
        await self._change({POLICY: PolicyDeployment(policy=policy, previous=previous)}, entry)
        return policy.version

    async def rollback_policy(self, reason: str = "") -> int:
        """Put the policy before the one in service back. Raises NothingToRollBack."""
        state = self._control.state.policy
        if state is None or state.previous is None:
            raise NothingToRollBack(POLICY)
        wanted = PolicyDeployment(policy=state.previous, previous=state.policy)
        version = wanted.policy.version
        entry = self._entry("rollback", POLICY, version, state.policy.version, reason)
        await self._change({POLICY: wanted}, entry, wanted.policy)
        return version

    async def reports(
        self, what: str, version: int, before: Reports, wait_s: float
    ) -> Mapping[str, WorkerReport]:
        """What workers say of a version, unless they had said it *before*; by worker.

        Waits for the first, at most *wait_s*, and then until no other follows soon.
        """
        until, reports = time.monotonic() + wait_s, dict[str, WorkerReport]()
        while time.monotonic() < until:
            await self._control.more()
            new = {
                worker: report
                for (component, worker), report in self._control.reports.workers.items()
                if (component, report.version) == (what, version)
                and before.get((component, worker)) != report
            }
            if len(new) > len(reports):
                reports, until = new, min(until, time.monotonic() + _OTHERS_S)
        return reports

    async def _tested(self, name: str, version: int | None) -> VersionRef:
        """The version, once it was opened and said of its probe rows what it should."""
        check_swappable(self._pipeline.component(name))
        stored = self._registry.get(self._pipeline.name, name, version)
        wanted = VersionRef(version=stored.version, digest=stored.digest)
        folder = self._file.path.parent
        await asyncio.to_thread(open_version, self._pipeline, name, wanted, self._registry, folder)
        return wanted

    def _champion(self, name: str) -> VersionRef | None:
        """What is in service: as was promoted, or as workers have last begun with."""
        deployment = self._control.state.deployment(name)
        if deployment.champion is not None:
            return deployment.champion
        begun = self._newest_begun(name)
        if begun is None or begun not in self._registry.versions(self._pipeline.name, name):
            return None
        stored = self._registry.get(self._pipeline.name, name, begun)
        return VersionRef(version=stored.version, digest=stored.digest)

    def _newest_begun(self, what: str) -> int | None:
        """The version with which a worker has begun last."""
        begun = [
            (first.at, version)
            for (component, version, _), first in self._control.reports.firsts.items()
            if component == what and version > 0
        ]
        return max(begun)[1] if begun else None

    async def _deploy(self, action: Action, name: str, wanted: Deployment, reason: str) -> None:
        before = self._champion(name)
        about = wanted.challenger if action in ("shadow", "canary") else wanted.champion
        entry = self._entry(
            action, name, about.version if about else None, before.version if before else None,
            reason,
        )  # fmt: skip
        await self._change({deploy_key(name): wanted}, entry)

    async def _change(
        self, records: Mapping[str, BaseModel], entry: AuditEntry, policy: Policy | None = None
    ) -> None:
        """Write what is in service from now on; what decides by it is kept before."""
        await asyncio.to_thread(keep_decided_by, self._registry, self._file, policy)
        await self._control.change(records, entry)

    def _entry(
        self, action: Action, what: str, version: int | None, before: int | None, reason: str
    ) -> AuditEntry:
        return AuditEntry(
            action=action, what=what, version=version, before=before, by=self._by or user(),
            reason=reason, at=now(), evidence=self._evidence,
        )  # fmt: skip
