"""Renewals without a person: who does them, what begins one, how it goes on and ends.

*Who.* Any number of trainers may run; one renews, the others stand by. Which one is decided by the
order of `<pipeline>.renewals` (`topics.records.renewal`): a trainer claims a term, and the first
claim of a term has it. The owner gives a sign every SIGN_S; who has seen none for a lease, by its
own clock, claims the next term. An owner that was frozen finds that out before it does anything
that others see, and what it writes to the log all the same is void.

*What begins one.* `triggers`: a schedule, drift, lost quality, a request. One runs at a time, and
between two there is the cool-down. Days are days of events (`event_clock`).

*How it goes.* Steps, one after the other: a data set of the newest days that have outcomes, new
versions trained on it, variants, a look at them on the newest of these days, the gate on what they
would have decided, shadows beside the versions in service, the contest by outcomes as they come,
and weights. Each writes that it begins, and what it has come to. So whoever owns the next term goes
on at the step at which the owner before has ended, and each step may be run again: what it has done
already is found and not done twice. A step that fails, or ends its trainer, is tried again
`retries` times, and then the renewal has failed.

*How it ends.* With a verdict, on the same topic. Challengers that have not won are closed, also
when a person stops the renewal; the control topic names renewal and reason of each change.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from uuid import uuid4

from aiokafka.errors import KafkaError

from agents.control import WORKER, now
from agents.renewal.challenge_steps import (
    close_challenges,
    contest,
    promote_weights,
    replay_versions,
    shadow_versions,
    verdict_of,
)
from agents.renewal.errors import Deposed
from agents.renewal.model_steps import (
    build_dataset,
    evaluate_versions,
    optimise_versions,
    train_versions,
)
from agents.renewal.monitor_reader import MonitorReader
from agents.renewal.renewal_ledger import Renewal
from agents.renewal.renewal_log import RenewalLog
from agents.renewal.renewal_metrics import RenewalMetrics
from agents.renewal.service_age import models_until_ms
from agents.renewal.step_result import RenewalContext, StepResult
from agents.renewal.triggers import due_renewal, overtaking
from topics.errors import AnabranchError
from topics.pipeline import duration_ms
from topics.records import (
    Contest,
    RenewalStep,
    RenewalTriggered,
    RenewalVerdict,
    StepName,
    TrainerClaim,
    TrainerSign,
    VerdictName,
)

log = logging.getLogger(__name__)

SIGN_S = 2.0
LEASE_SESSIONS = 2.0
"""A lease is so many session time-outs: who fits a model may be slower to give a sign than who
decides, and nobody waits for it."""
_LOOK_S = 1.0
_AGAIN_S = 5.0
"""The first pause before a step that failed is tried again; it doubles."""
_NEEDS_DATASET: tuple[StepName, ...] = ("train", "optimise", "evaluate")

Step = Callable[[RenewalContext, Renewal], Awaitable[StepResult]]


class Trainer:
    """Renews a pipeline's models, or stands by while another does."""

    def __init__(
        self, context: RenewalContext, renewals: RenewalLog, monitor: MonitorReader,
        metrics: RenewalMetrics, *, lease_s: float,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """*tell* is told, in words, what happens."""
        self.name = f"{WORKER}-{uuid4().hex[:6]}"
        self._context = replace(context, still_ours=self.still_ours)
        self._log, self._monitor = renewals, monitor
        self._metrics, self._lease_s, self._tell = metrics, lease_s, tell
        self._signed_at = 0.0
        self._seen = (-1, -1)
        self._seen_at = time.monotonic()
        self._term = 0
        """The term that we have had last."""

    @property
    def is_owner(self) -> bool:
        """Whether we are the one that renews, as far as the log is read."""
        return self._log.ledger.owner == self.name

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Renew, or stand by, until *is_over*; then the term is given up."""
        try:
            while not is_over():
                await self._log.more()
                self._metrics.observe_ledger(self._log.ledger, is_owner=self.is_owner)
                if not self.is_owner:
                    await self._stand_by()
                    continue
                try:
                    await self._renew(is_over)
                except Deposed as exc:
                    log.warning("%s", exc)
        finally:
            await self._resign()

    async def still_ours(self) -> None:
        """Raise Deposed unless we are the one that renews, as of now."""
        await self._log.catch_up()
        if not self.is_owner:
            raise Deposed(self._log.ledger.owner or "nobody")

    async def _stand_by(self) -> None:
        """Claim the next term once the owner of this one has resigned, or was silent too long."""
        ledger = self._log.ledger
        seen = (ledger.term, ledger.signs)
        if seen != self._seen:
            self._seen, self._seen_at = seen, time.monotonic()
        is_free = ledger.owner is None
        if not is_free and time.monotonic() - self._seen_at < self._lease_s:
            return
        claim = TrainerClaim(term=ledger.term + 1, trainer=self.name, at=now())
        await self._log.append(claim)
        self._seen_at = time.monotonic()
        if self.is_owner:
            self._term = claim.term
            self._tell(f"{self.name} renews from now on (term {claim.term})")

    async def _renew(self, is_over: Callable[[], bool]) -> None:
        """Whatever is next: a step of the renewal that runs, or the beginning of another."""
        ledger = self._log.ledger
        await self._sign()
        if (running := ledger.running) is not None:
            await self._go_on(running, is_over)
            return
        clock_ms = await self._context.clock.now_ms()
        until_ms = await models_until_ms(self._context)
        self._metrics.observe_models(clock_ms, until_ms)
        due = due_renewal(
            self._context.renew, ledger, clock_ms,
            delay_ms=duration_ms(self._context.pipeline.outcomes.delay),
            models_until_ms=max(until_ms.values(), default=None),
            findings=await self._monitor.findings(),
        )  # fmt: skip
        if due is None:
            await asyncio.sleep(_LOOK_S)
            return
        triggered = RenewalTriggered(
            renewal=len(ledger.renewals) + 1, term=self._term, trigger=due.trigger,
            reason=due.reason[:1000], request=due.request, event_ms=clock_ms or 0, at=now(),
        )  # fmt: skip
        await self._log.append(triggered)
        self._tell(f"renewal {triggered.renewal}, {due.trigger}: {due.reason}")

    async def _go_on(self, renewal: Renewal, is_over: Callable[[], bool]) -> None:
        """The next step of *renewal*, or its end."""
        if renewal.stop is not None:
            why = f"stopped by {renewal.stop.by}: {renewal.stop.reason}".rstrip(": ")
            await close_challenges(self._context, renewal, why)
            await self._end(renewal, "stopped", why)
            return
        if (last := renewal.ends) is not None and last.ends is not None:
            await self._end(renewal, last.ends, last.reason)
            return
        step = renewal.next_step
        if step is None:
            await self._end(renewal, verdict_of(renewal.contests), "all steps are done")
            return
        if step in _NEEDS_DATASET and not self._context.dataset(renewal).exists():
            step = "dataset"  # another trainer's disk has it
        attempts = renewal.attempts.get(step, 0)
        if attempts > self._context.renew.retries:
            last = renewal.steps[step]
            why = last.reason if last.state == "failed" else f"its trainer ended {attempts} times"
            await close_challenges(self._context, renewal, f"{step} failed: {why}")
            await self._end(renewal, "failed", f"{step}: {why}")
            return
        if attempts and renewal.steps[step].state == "failed":
            await self._pause(_AGAIN_S * 2 ** (attempts - 1), renewal, is_over)
            if renewal.stop is not None or is_over():
                return
        await self._do(renewal, step, is_over)

    async def _do(self, renewal: Renewal, step: StepName, is_over: Callable[[], bool]) -> None:
        """Run a step, while signs are given; it is given up when it is stopped, or we are."""
        await self._write(renewal, step, "begun", "")
        self._tell(f"renewal {renewal.number}: {step}")
        started = time.monotonic()
        task = asyncio.ensure_future(self._step(renewal, step)(self._context, renewal))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=SIGN_S / 2)
                await self._log.more()
                if not self.is_owner:
                    raise Deposed(self._log.ledger.owner or "nobody")
                await self._sign()
                self._metrics.observe_ledger(self._log.ledger, is_owner=True)
                if renewal.stop is not None or is_over():
                    return
            result = task.result()
        except (AnabranchError, KafkaError, OSError, ValueError) as exc:
            if isinstance(exc, Deposed):
                raise
            log.warning("renewal %d, %s: %s", renewal.number, step, exc)
            await self._write(renewal, step, "failed", str(exc)[:1000])
            self._tell(f"renewal {renewal.number}: {step} failed: {exc}")
            return
        finally:
            task.cancel()
            await asyncio.wait({task})  # what it computes has ended when we say that it has
        await self.still_ours()
        await self._write(renewal, step, "done", result.reason, result)
        self._metrics.observe_step(step, time.monotonic() - started)
        self._tell(f"renewal {renewal.number}: {step}: {result.reason}")

    def _step(self, renewal: Renewal, step: StepName) -> Step:
        async def note(contests: Mapping[str, Contest]) -> None:
            await self.still_ours()
            await self._write(renewal, "compare", "noted", "", StepResult("", contests=contests))

        async def overtaken(clock_ms: int) -> str | None:
            newer = overtaking(
                self._context.renew, renewal, clock_ms,
                delay_ms=duration_ms(self._context.pipeline.outcomes.delay),
                findings=await self._monitor.findings(),
            )  # fmt: skip
            return None if newer is None else f"it knows nothing of a later drift ({newer.text})"

        async def follow(context: RenewalContext, renewal: Renewal) -> StepResult:
            return await contest(context, renewal, note, overtaken)

        steps: dict[StepName, Step] = {
            "dataset": build_dataset, "train": train_versions, "optimise": optimise_versions,
            "evaluate": evaluate_versions, "replay": replay_versions, "shadow": shadow_versions,
            "compare": follow, "weights": promote_weights,
        }  # fmt: skip
        return steps[step]

    async def _write(
        self, renewal: Renewal, step: StepName, state: str, reason: str,
        result: StepResult | None = None,
    ) -> None:  # fmt: skip
        said = result or StepResult("")
        await self._log.append(
            RenewalStep.model_validate({
                "renewal": renewal.number, "term": self._term, "number": renewal.records + 1,
                "step": step, "state": state, "reason": reason[:1000], "ends": said.ends,
                "offsets": said.offsets, "digest": said.digest, "versions": said.versions,
                "weights": said.weights, "contests": said.contests, "figures": said.figures,
                "event_ms": await self._context.clock.now_ms() or 0, "at": now(),
            })
        )  # fmt: skip

    async def _end(self, renewal: Renewal, verdict: VerdictName, reason: str) -> None:
        await self._log.append(
            RenewalVerdict(
                renewal=renewal.number,
                term=self._term,
                verdict=verdict,
                reason=reason[:1000],
                event_ms=await self._context.clock.now_ms() or 0,
                at=now(),
            )
        )
        folder = self._context.dataset(renewal).parent
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        self._metrics.observe_verdict(verdict)
        self._tell(f"renewal {renewal.number} has ended: {verdict}: {reason}")

    async def _pause(self, seconds: float, renewal: Renewal, is_over: Callable[[], bool]) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and renewal.stop is None and not is_over():
            await self._log.more()
            if not self.is_owner:
                raise Deposed(self._log.ledger.owner or "nobody")
            await self._sign()

    async def _sign(self) -> None:
        if time.monotonic() - self._signed_at >= SIGN_S:
            self._signed_at = time.monotonic()
            await self._log.append(TrainerSign(term=self._term, trainer=self.name, at=now()))

    async def _resign(self) -> None:
        """Leave the term to whoever stands by; nobody has to wait for the lease."""
        if not self.is_owner:
            return
        try:
            async with asyncio.timeout(_AGAIN_S):
                sign = TrainerSign(term=self._term, trainer=self.name, resigned=True, at=now())
                await self._log.append(sign)
        except (AnabranchError, KafkaError, TimeoutError) as exc:
            log.info("the term is not given up: %s", exc)
