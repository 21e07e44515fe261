"""What a month has to show, each a line: reached, not reached, or not there yet."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from models.arrays import Bools, Floats64
from tests.benchmarks.month.stream import Stream
from tests.benchmarks.month.witness import Witness
from tests.benchmarks.month.world import DAY_S, World
from topics.pipeline import duration_ms

State = Literal["reached", "not reached", "not there yet"]
_FEWEST_FRAUDS = 10
_DRAWS = 400
RECOVERED = 0.8
"""Of what the AUC has lost by the change, so much must be there again: by the interval's low end.

Average precision would rise by the wave alone, which makes fraud more frequent.
"""


class Claim(NamedTuple):
    """A line of the verdict."""

    name: str
    state: State
    said: str


@dataclass(frozen=True, slots=True)
class Month:
    """All that a month is judged by."""

    world: World
    stream: Stream
    witness: Witness
    detection_days: float
    """Within so many days of events drift has to be flagged."""
    alarms: int
    """So many drift alarms a month without change may have."""
    report: str | None = None
    """The page of `anabranch report`; None where there is no such command."""
    killed: Mapping[str, int] = field(default_factory=dict)
    """Process → how often it was killed."""

    @property
    def is_counted(self) -> bool:
        """The monitor has come to what was published; it revises a day once a minute."""
        return self._counted_once().state == "reached"

    def claims(self) -> Iterator[Claim]:
        """All of them, in order."""
        yield self._audit()
        yield self._killed()
        yield self._counted_once()
        yield self._said_once()
        changed = self.world.change_day is not None
        of_month: tuple[Callable[[], Claim], ...] = (
            self._drift, self._estimate, self._weights, self._promoted, self._recovered,
        )  # fmt: skip
        for claim in of_month if changed else (self._no_promotion, self._few_alarms):
            yield claim()
        yield self._explored()
        yield self._story()

    def daily_precision(self) -> dict[int, float]:
        """Day → average precision of the scores by what is true, also of what nobody was told."""
        return self._daily(average_precision_score)

    def daily_auc(self) -> dict[int, float]:
        """Day → area under the ROC curve; how frequent fraud is has no part in it."""
        return self._daily(roc_auc_score)

    def _daily(self, figure: Callable[[Bools, Floats64], float]) -> dict[int, float]:
        days = range(self.world.days)
        rows = ((day, self._scored(day, day + 1)) for day in days)
        return {
            day: float(figure(labels, scores))
            for day, (scores, labels) in rows if labels.sum() >= _FEWEST_FRAUDS
        }  # fmt: skip

    def _scored(self, start: float, end: float) -> tuple[Floats64, Bools]:
        """Scores of the events of [start, end), and what is true of them, known or not."""
        rows = [
            (decision.score, is_fraud)
            for name, (day, is_fraud) in self.stream.truth.items()
            if start <= day < end and (decision := self.witness.decided.get(name)) is not None
            and decision.score is not None
        ]  # fmt: skip
        return np.array([score for score, _ in rows]), np.array([y for _, y in rows], np.bool_)

    def promotions(self) -> list[tuple[float, str]]:
        """Day and words of each promotion on the audit trail that a renewal has made."""
        begun = {
            each["renewal"]: each["event_ms"]
            for each in self.witness.renewals
            if each.get("kind") == "trigger"
        }
        found = []
        for key, said in self.witness.control:
            by = str(said.get("by", ""))
            if not key.startswith("audit/") or said.get("action") != "promote":
                continue
            if not by.startswith("trainer (renewal "):
                continue
            number = int(by.removeprefix("trainer (renewal ").removesuffix(")"))
            at_ms = self._ended_ms(number) or begun.get(number, 0)
            found.append((self._day(at_ms), f"{said['what']}@{said['version']}: {said['reason']}"))
        return found

    def _ended_ms(self, renewal: int) -> int | None:
        noted = [
            each["event_ms"]
            for each in self.witness.renewals
            if each.get("renewal") == renewal and each.get("step") == "compare"
            and each.get("state") in ("noted", "done") and each.get("contests")
        ]  # fmt: skip
        return min(noted, default=None)

    def _day(self, event_ms: float) -> float:
        return (event_ms / 1000 - self.world.time_of(0).timestamp()) / DAY_S

    def _audit(self) -> Claim:
        witness = self.witness
        lost = len(self.stream.truth) - len(witness.decided) - witness.dead_letters
        twice = sum(count > 1 for count in witness.times_decided.values())
        said = (
            f"{len(self.stream.truth):,} events: {lost} lost, {twice} decided twice, "
            f"{witness.dead_letters} dead letters"
        )
        fine = (lost, twice, witness.dead_letters) == (0, 0, 0)
        return Claim("every event has one decision", "reached" if fine else "not reached", said)

    def _killed(self) -> Claim:
        name = "workers, trainer and monitor were killed meanwhile"
        said = ", ".join(f"{process} {times}" for process, times in self.killed.items())
        fine = bool(self.killed) and all(self.killed.values())
        return Claim(name, "reached" if fine else "not reached", said)

    def _counted_once(self) -> Claim:
        """By what was published about each day whose outcomes are all there."""
        name = "the monitor has counted each decision and outcome once"
        published, told = Counter[int](), Counter[int]()
        for event, (day, _) in self.stream.truth.items():
            published[int(np.floor(day))] += 1
            told[int(np.floor(day))] += event in self.stream.told
        newest = {
            int(self._at(each["since"])): each
            for each in self._of_kind("quality") if each["state"] == "matured"
        }  # fmt: skip
        wrong = [
            f"day {day}: {each['decisions']:,} decisions and {each['known']:,} outcomes instead of "
            f"{published[day]:,} and {told[day]:,}"
            for day, each in sorted(newest.items())
            if (each["decisions"], each["known"]) != (published[day], told[day])
        ]  # fmt: skip
        if not newest:
            return Claim(name, "not reached", "it has judged no day")
        said = f"{len(newest)} days, {sum(each['known'] for each in newest.values()):,} outcomes"
        return Claim(name, "not reached" if wrong else "reached", "; ".join(wrong[:3]) or said)

    def _said_once(self) -> Claim:
        name = "the monitor has said nothing twice"
        said = Counter(json.dumps(each, sort_keys=True) for each in self.witness.monitor)
        revisions = Counter((each["since"], each["revision"]) for each in self._of_kind("quality"))
        twice = sum(count > 1 for counts in (said, revisions) for count in counts.values())
        state: State = "reached" if said and not twice else "not reached"
        return Claim(name, state, f"{said.total():,} findings, {twice} said twice")

    def _of_kind(self, kind: str) -> list[Mapping[str, Any]]:
        return [each for each in self.witness.monitor if each.get("kind") == kind]

    def _drift(self) -> Claim:
        name = f"drift is flagged within {self.detection_days:g} days"
        if not self.witness.monitor:
            return Claim(name, "not there yet", "nothing stands on the monitor's topic")
        change = float(self.world.change_day or 0)
        alarms = [
            day for each in self._of_kind("drift") if (day := self._at(each["seen"])) >= change
        ]
        if not alarms:
            return Claim(name, "not reached", "no drift was flagged")
        late = min(alarms) - change
        state: State = "reached" if late <= self.detection_days else "not reached"
        return Claim(name, state, f"{late:.1f} days after the change")

    def _estimate(self) -> Claim:
        name = "estimated quality falls before labels show it"
        delay = duration_ms(self.stream.pipeline.outcomes.delay) / 1000 / DAY_S
        first = min(self._fallen("estimated"), default=None)
        then = min((day + delay for day in self._fallen("matured")), default=None)
        if not self._of_kind("quality"):
            return Claim(name, "not there yet", "no quality stands on the monitor's topic")
        said = f"estimate on day {_shown(first)}, by labels on day {_shown(then)}"
        fine = first is not None and then is not None and first < then
        return Claim(name, "reached" if fine else "not reached", said)

    def _weights(self) -> Claim:
        name = "weights move"
        moves = [
            said
            for key, said in self.witness.control
            if key.startswith("audit/") and said.get("what") == "weights"
            and str(said.get("by", "")).startswith("monitor of ")
            and str(said.get("at", ""))[:19] >= self.stream.begun_at[:19]
        ]  # fmt: skip
        if not moves:
            return Claim(name, "not reached", "the monitor has not changed them")
        reasons = "; ".join(str(said.get("reason", "")) for said in moves[:2])
        return Claim(name, "reached", f"{len(moves)} versions: {reasons[:200]}")

    def _promoted(self) -> Claim:
        name = "a challenger is trained, shadowed and promoted without a person"
        change = float(self.world.change_day or 0)
        after = [each for each in self.promotions() if each[0] >= change]
        if not after:
            return Claim(name, "not reached", self._renewals())
        day, said = after[0]
        return Claim(name, "reached", f"day {day:.1f}: {said}")

    def _recovered(self) -> Claim:
        """By all that is true, told or not: three spans of days, and an interval by bootstrap."""
        name = f"at least {RECOVERED:.0%} of the quality that was lost is regained"
        change = float(self.world.change_day or 0)
        after = [day for day, _ in self.promotions() if day >= change]
        promoted = [*after, float(self.world.days)]
        spans = [
            self._scored(0, change), self._scored(change, promoted[0]),
            self._scored(max(after, default=self.world.days), self.world.days),
        ]  # fmt: skip
        if not after or min(labels.sum() for _, labels in spans) < _FEWEST_FRAUDS:
            return Claim(name, "not reached", "nothing was promoted in time")
        rng = np.random.default_rng(self.world.seed)
        values = np.array([_auc(scores, labels) for scores, labels in spans])
        draws = np.array([
            [_auc(scores[rows], labels[rows])
             for scores, labels in spans for rows in [rng.integers(0, len(labels), len(labels))]]
            for _ in range(_DRAWS)
        ])  # fmt: skip
        lost = draws[:, 0] - draws[:, 1]
        said = "AUC {:.3f}, {:.3f} after the change, {:.3f} at the end".format(*values)
        if np.quantile(lost, 0.025) <= 0:
            return Claim(name, "not reached", f"nothing was lost: {said}")
        low, high = np.quantile((draws[:, 2] - draws[:, 1]) / lost, [0.025, 0.975])
        share = (values[2] - values[1]) / (values[0] - values[1])
        state: State = "reached" if low >= RECOVERED else "not reached"
        return Claim(name, state, f"{share:.0%} ({low:.0%} to {high:.0%} at 95 %): {said}")

    def _no_promotion(self) -> Claim:
        found = self.promotions()
        said = self._renewals() if not found else f"day {found[0][0]:.1f}: {found[0][1]}"
        return Claim("nothing is promoted", "not reached" if found else "reached", said)

    def _few_alarms(self) -> Claim:
        name = f"at most {self.alarms} alarms of drift"
        if not self.witness.monitor:
            return Claim(name, "not there yet", "nothing stands on the monitor's topic")
        count = sum(self._at(each["seen"]) >= 0 for each in self._of_kind("drift"))
        return Claim(name, "reached" if count <= self.alarms else "not reached", f"{count}")

    def _explored(self) -> Claim:
        name = "some of what is declined is explored"
        if not self.witness.explored:
            return Claim(name, "not there yet", f"{self.stream.unknown:,} events without outcome")
        return Claim(name, "reached", f"{self.witness.explored:,} explored")

    def _story(self) -> Claim:
        name = "the story is in the report"
        if self.report is None:
            return Claim(name, "not there yet", "there is no `anabranch report`")
        missing = [word for word in ("drift", "renewal", "promote") if word not in self.report]
        state: State = "not reached" if missing else "reached"
        return Claim(name, state, f"missing: {', '.join(missing)}" if missing else "all of it")

    def _renewals(self) -> str:
        verdicts = [
            f"{each['renewal']} {each['verdict']} ({each['reason'][:160]})"
            for each in self.witness.renewals
            if each.get("kind") == "verdict"
        ]
        return "renewals: " + ("; ".join(verdicts) or "none has ended")

    def _fallen(self, state: str) -> list[float]:
        """Ends of the windows whose quality, estimated or matured, is worse than was promised."""
        change = float(self.world.change_day or 0)
        return [
            self._at(each["until"])
            for each in self._of_kind("quality")
            if each["state"] == state and self._at(each["since"]) >= change
            if any(of["subject"] == "composed" and of.get("outside") for of in each["subjects"])
        ]

    def _at(self, time: str) -> float:
        """The day of a time."""
        return self.world.day_of(time)


def _auc(scores: Floats64, labels: Bools) -> float:
    return float(roc_auc_score(labels, scores))


def _shown(day: float | None) -> str:
    return "never" if day is None else f"{day:.1f}"
