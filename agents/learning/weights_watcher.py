"""The watcher of weights: what outcomes and failures say that stages should weigh.

It learns from matched outcomes (`models.live_weights.fixed_share`) and watches for stages that fail
or say one thing only (`models.live_weights.quarantine`). In `shadow` it says what it would do; in
`active` it puts it into service as a step (`agents.learning.weights_step`). What holds:

- A step starts from the weights that people trained and promoted: learned ones go on from these,
  and a stage in quarantine is taken out of whatever would weigh without it. So learning, quarantine
  and promotions do not overwrite each other: another promotion is another start.
- Whoever rolls the weights back has the last word: nothing is put into service until somebody
  promotes weights again. What would be is still said.
- At most one step a minute; learned weights only where one differs by `step:`, and where 1,000
  decisions show what becomes of the shares of decisions; a quarantine at once.
- A period of outcomes is learned once one of the period after the next has come: by the outcomes'
  own times, not by when they are read. So a monitor that is behind, or restarts, learns the same.
- A stage that is down or late is no matter of weights: the join deals with it.

While a stage is in quarantine its signals say nothing of how frequent decisions should be. So the
shares that are kept then are those of an earlier window.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson
from aiokafka.errors import KafkaError

from agents.control import ControlTopic, now_ms
from agents.learning.metrics import LearningMetrics
from agents.learning.weights_in_service import WeightsInService, alpha_of
from agents.learning.weights_step import LEAST_APART_MS, WeightsStep, described, put_into_service
from agents.monitor import (
    DecisionBatch,
    EventBatch,
    Finding,
    MatchedOutcomes,
    MonitorContext,
    MonitorTime,
)
from models.arrays import Floats64
from models.live_weights import (
    FixedShare,
    LabelledRows,
    LearningRate,
    LossSums,
    Quarantine,
    QuarantineRule,
    ScoreWindow,
    StageRows,
    StageVerdict,
    decision_shares,
    guarded_thresholds,
    without_quarantined,
)
from models.registry import RegistryError
from models.report.selective_labels import outcome_weights
from topics.errors import AnabranchError
from topics.pipeline import Topology, duration_ms

log = logging.getLogger(__name__)

KIND = "weights"
LEAST_WINDOW = 1000
"""Decisions without which nobody knows what becomes of the shares of decisions."""


class WeightsWatcher:
    """Watches one pipeline; a `agents.monitor.Watcher`."""

    name = KIND
    reads_events = False

    def __init__(self, context: MonitorContext) -> None:
        self._context = context
        self._pipeline = context.file.pipeline
        weighting = self._pipeline.weighting
        self._stages = weighting.inputs
        self._labelled = np.array([self._pipeline.component(at).is_labelled for at in self._stages])
        self._learning, self._settings = weighting.learning, weighting.quarantine
        learning = self._learning
        self._speed = LearningRate(
            learning.rate, learning.share, learning.floor, learning.cap,
            duration_ms(learning.period),
        )  # fmt: skip
        of = self._settings
        self._rule = QuarantineRule(of.rows, of.failed, of.restore_blocks)
        self._quarantine = Quarantine(self._stages, self._rule)
        self._window = ScoreWindow(learning.window, len(self._stages))
        self._rows_in_window = 0
        """Since its shares were last remembered."""
        self._usual: list[Floats64] = []
        """Shares of decisions of the last two windows in which no stage was taken."""
        self._learner: FixedShare | None = None
        self._newest_known_ms = self._decided_by = 0
        self._verdicts: list[StageVerdict] = []
        self._said: bytes = b""
        self._wanted: WeightsStep | None = None
        self._metrics = LearningMetrics(self._pipeline.name, self._stages, context.metrics)

    # -- what comes

    def decisions(self, batch: DecisionBatch) -> None:
        """Take in decisions."""
        self._decided_by = int(batch.weights[-1])
        present = ~np.isnan(batch.signals)
        signals = np.where(present, batch.signals, 0).astype(np.float32)
        some = present.any(axis=1)
        self._window.add(signals[some], present[some])
        self._rows_in_window += int(some.sum())
        if self._settings.mode != "off":
            answered = present | batch.failed
            self._verdicts += self._quarantine.observe({
                stage: StageRows(signals[answered[:, at], at], batch.failed[answered[:, at], at])
                for at, stage in enumerate(self._stages)
            })  # fmt: skip

    def events(self, batch: EventBatch) -> None:
        """None are asked for."""

    def outcomes(self, matched: MatchedOutcomes) -> None:
        """Take in what came true; a reversal takes back what was true before."""
        if self._learning.mode == "off" or not len(matched):
            return
        if self._learner is None:
            self._decided_by = self._decided_by or int(matched.decisions.weights[-1])
            self._look()
        if self._learner is None:  # fixed weights, or ones that cannot be read
            return
        self._newest_known_ms = max(self._newest_known_ms, int(matched.known_ms.max()))
        reversed_rows = matched.take(matched.before >= 0)
        for rows, labels, sign in (
            (reversed_rows, reversed_rows.before > 0, -1), (matched, matched.positive, 1),
        ):  # fmt: skip
            of = rows.decisions
            present = ~np.isnan(of.signals)
            self._learner.observe(LabelledRows(
                np.where(present, of.signals, 0).astype(np.float32), present,
                np.where(present, of.alphas, 0), labels,
                outcome_weights(of.explored, of.propensity), of.event_ms, rows.known_ms,
                np.full(len(labels), sign),
            ))  # fmt: skip

    # -- what there is to say, and to do

    def tick(self, now: MonitorTime) -> Sequence[Finding]:
        """What weights would be; said when it has changed."""
        start = self._look()
        if start is None:
            return []
        if self._learner is not None:
            until_ms = min(self._newest_known_ms, now.wall_ms) - self._speed.period_ms
            self._learner.close(until_ms)
        self._remember_shares(start)
        step = self._step(start)
        self._wanted = step if self._is_due(step) else None
        self._observe(start)
        verdicts, self._verdicts = self._verdicts, []
        for verdict in verdicts:
            log.warning("%s: %s", self._pipeline.name, verdict.words)
        content = self._content(start, step)
        said = orjson.dumps(content)
        if said == self._said and not verdicts:
            return []
        self._said = said
        value = {
            "kind": KIND, "at_ms": now.wall_ms, **content,
            "verdicts": [asdict(verdict) for verdict in verdicts],
        }  # fmt: skip
        return [Finding(KIND, KIND, orjson.dumps(value))]

    def _look(self) -> WeightsInService | None:
        """What is in service; a learner goes on as long as it is of the same trained weights."""
        try:
            start = WeightsInService.of(
                self._pipeline, self._context.registry, self._context.control(), self._decided_by
            )
        except RegistryError as exc:
            log.warning("weights of %s stay as they are: %s", self._pipeline.name, exc)
            return None
        if start is None or set(start.trained.card.values) != set(self._stages):
            return None
        trained = alpha_of(start.trained, self._stages)
        is_same = self._learner is not None and np.array_equal(self._learner.trained, trained)
        if self._learning.mode != "off" and not is_same:
            log.info("learning goes on from %s", start.trained.name)
            self._learner, self._usual, self._rows_in_window = (
                FixedShare(trained, self._speed), [], 0,
            )  # fmt: skip
        return start

    def _remember_shares(self, start: WeightsInService) -> None:
        if self._quarantine.taken:
            self._rows_in_window = 0  # what came meanwhile is in no window of its own
        elif self._rows_in_window >= self._learning.window or (
            not self._usual and self._window.rows >= LEAST_WINDOW
        ):
            self._usual = [*self._usual[-1:], self._shares(start)]
            self._rows_in_window = 0

    def _shares(self, start: WeightsInService) -> Floats64:
        """Of decisions by the trained weights and their policy, on the window."""
        scores = self._window.scores(alpha_of(start.trained, self._stages))
        return decision_shares(scores, _thresholds(start))

    def _step(self, start: WeightsInService) -> WeightsStep:
        """What would decide now if both were active, or as far as they are."""
        trained = alpha_of(start.trained, self._stages)
        learns = self._learning.mode == "active" and self._learner is not None
        base = self._learner.weights if learns and self._learner is not None else trained
        taken = self._quarantine.taken if self._settings.mode == "active" else {}
        alpha, out = without_quarantined(base, self._stages, self._labelled, taken)
        shares = self._usual[0] if taken and self._usual else self._shares(start)
        move = guarded_thresholds(
            shares, self._window.scores(alpha), _thresholds(start), self._learning.band
        )
        before = alpha_of(start.current, self._stages)
        why = [f"{stage} {self._quarantine.taken[stage]}" for stage in out]
        back = [stage for stage in start.current.card.quarantined if stage not in out]
        reason = "; ".join(filter(None, (
            f"in quarantine: {', '.join(why)}" if why else "",
            f"restored: {', '.join(back)}" if back else "",
            described(self._stages, before, alpha),
        )))  # fmt: skip
        sums = LossSums() if self._learner is None else self._learner.sums
        return WeightsStep(start, self._stages, alpha, out, move, reason, sums)

    def _is_due(self, step: WeightsStep) -> bool:
        """It is different enough from what is in service, and may be put there."""
        start = step.start
        if start.held:
            return False
        if [*step.quarantined] != start.current.card.quarantined:
            return True
        if self._learning.mode != "active" or self._window.rows < LEAST_WINDOW:
            return False
        apart = np.abs(step.alpha - alpha_of(start.current, self._stages)).max()
        return bool(apart > 0 and apart >= self._learning.step)

    def _observe(self, start: WeightsInService) -> None:
        metrics = self._metrics
        metrics.observe_weights("in_service", alpha_of(start.current, self._stages))
        metrics.observe_weights("trained", alpha_of(start.trained, self._stages))
        metrics.observe_quarantine(self._quarantine.taken, held=start.held)
        if self._learner is not None:
            metrics.observe_weights("learned", self._learner.weights)
            metrics.observe_losses(self._learner.sums)

    def _content(self, start: WeightsInService, step: WeightsStep) -> dict[str, Any]:
        learner, policy = self._learner, start.trained_policy
        sums = LossSums() if learner is None else learner.sums
        of_outcomes = None if sums.weight <= 0 else {
            of: getattr(sums, of) / sums.weight for of in ("decided", "learned", "trained")
        }  # fmt: skip
        learned = None if learner is None else _by_stage(self._stages, learner.weights)
        return {
            "learning": self._learning.mode, "quarantine": self._settings.mode,
            "version": start.current.version, "trained_version": start.trained.version,
            "in_service": _by_stage(self._stages, alpha_of(start.current, self._stages)),
            "trained": _by_stage(self._stages, alpha_of(start.trained, self._stages)),
            "learned": learned, "outcomes": sums.rows, "log_loss": of_outcomes,
            "quarantined": self._quarantine.taken, "held": start.held,
            "thresholds": dict(zip(policy.thresholds, step.move.thresholds.tolist(), strict=True)),
            "shares": dict(zip(
                [policy.otherwise, *policy.thresholds], step.move.shares.round(4).tolist(),
                strict=True,
            )),
        }  # fmt: skip

    async def act(self) -> None:
        """Put the step that is due into service, unless somebody has changed weights just now."""
        wanted, self._wanted = self._wanted, None
        if wanted is None:
            return
        topology = Topology.of(self._pipeline)
        try:
            async with ControlTopic(self._context.settings, topology) as control:
                start = WeightsInService.of(
                    self._pipeline, self._context.registry, control.state, self._decided_by
                )
                if start != wanted.start or now_ms() - start.changed_ms < LEAST_APART_MS:
                    return  # the next tick looks at what there is then
                version = await put_into_service(
                    wanted, control, self._context.registry, self._pipeline.name
                )
        except (AnabranchError, KafkaError) as exc:
            self._metrics.observe_step_failure()
            log.warning("weights of %s stay as they are: %s", self._pipeline.name, exc)
            return
        self._metrics.observe_step("quarantine" if wanted.quarantined else "outcomes")
        log.info("weights@%d of %s: %s", version, self._pipeline.name, wanted.reason)

    # -- what is remembered

    def snapshot(self) -> bytes:
        """The learner, the quarantine, and usual shares; the window fills again by itself."""
        learner = None if self._learner is None else self._learner.to_bytes()
        return orjson.dumps({
            "learner": None if learner is None else base64.b85encode(learner).decode(),
            "quarantine": self._quarantine.to_bytes().decode(),
            "usual": [shares.tolist() for shares in self._usual],
            "newest_known_ms": self._newest_known_ms, "decided_by": self._decided_by,
        })  # fmt: skip

    def restore(self, state: bytes) -> None:
        """Go on from a snapshot; ValueError for what is none."""
        try:
            known = orjson.loads(state)
            learner, quarantine = known["learner"], known["quarantine"].encode()
            usual = [np.array(shares, np.float64) for shares in known["usual"]]
            newest, decided_by = int(known["newest_known_ms"]), int(known["decided_by"])
            content = None if learner is None else base64.b85decode(learner)
        except (KeyError, TypeError, AttributeError) as exc:
            raise ValueError(f"no state of {self.name}: {exc}") from exc
        self._quarantine = Quarantine.from_bytes(quarantine, self._stages, self._rule)
        if content is not None and self._learning.mode != "off":
            self._learner = FixedShare.from_bytes(content, self._speed)
        decisions = len(self._pipeline.policy.thresholds) + 1
        self._usual = [shares for shares in usual if shares.shape == (decisions,)]
        self._newest_known_ms, self._decided_by = newest, decided_by


def weights_watcher(context: MonitorContext) -> WeightsWatcher | None:
    """The watcher of a pipeline's weights; None where its file fixes them, or wants none."""
    weighting = context.file.pipeline.weighting
    wants = {weighting.learning.mode, weighting.quarantine.mode} - {"off"}
    return WeightsWatcher(context) if wants and weighting.fixed_weights is None else None


def _thresholds(start: WeightsInService) -> Floats64:
    return np.array([*start.trained_policy.thresholds.values()])


def _by_stage(stages: Sequence[str], alpha: Floats64) -> dict[str, float]:
    return dict(zip(stages, alpha.round(4).tolist(), strict=True))
