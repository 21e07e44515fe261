"""What a month has to show, each a line: reached, not reached, or not there yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score

from tests.benchmarks.month.stream import Stream
from tests.benchmarks.month.witness import Witness
from tests.benchmarks.month.world import DAY_S, World
from topics.pipeline import duration_ms

State = Literal["reached", "not reached", "not there yet"]
_FEWEST_FRAUDS = 10
RECOVERED = 0.8
"""Average precision at the end, as a share of that before the change."""


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
    report: str | None
    """The page of `anabranch report`; None where there is no such command."""

    def claims(self) -> Iterator[Claim]:
        """All of them, in order."""
        yield self._audit()
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
        days: dict[int, list[tuple[float, bool]]] = {}
        for name, (day, is_fraud) in self.stream.truth.items():
            decision = self.witness.decided.get(name)
            if decision is not None and decision.score is not None:
                days.setdefault(int(day), []).append((decision.score, is_fraud))
        return {
            day: float(average_precision_score([y for _, y in rows], [s for s, _ in rows]))
            for day, rows in sorted(days.items())
            if sum(y for _, y in rows) >= _FEWEST_FRAUDS
        }

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
        fine = first is not None and (then is None or first < then)
        return Claim(name, "reached" if fine else "not reached", said)

    def _weights(self) -> Claim:
        name = "weights move"
        moves = [
            said
            for key, said in self.witness.control
            if key.startswith("audit/") and said.get("what") == "weights"
            and not str(said.get("by", "")).startswith(("trainer (", "renewal "))
        ]  # fmt: skip
        if not moves:
            return Claim(name, "not there yet", "nobody but renewals has changed weights")
        return Claim(name, "reached", f"{len(moves)} versions")

    def _promoted(self) -> Claim:
        name = "a challenger is trained, shadowed and promoted without a person"
        change = float(self.world.change_day or 0)
        after = [each for each in self.promotions() if each[0] >= change]
        if not after:
            return Claim(name, "not reached", self._renewals())
        day, said = after[0]
        return Claim(name, "reached", f"day {day:.1f}: {said}")

    def _recovered(self) -> Claim:
        name = f"quality recovers to {RECOVERED:.0%} of what it was"
        change, daily = float(self.world.change_day or 0), self.daily_precision()
        after = [day for day, _ in self.promotions() if day >= change]
        before = _mean(value for day, value in daily.items() if day < change)
        if not after:
            hurt = _mean(value for day, value in daily.items() if day >= change)
            return Claim(
                name, "not reached", f"nothing was promoted: {before:.2f}, then {hurt:.2f}"
            )
        last = max(after)
        hurt = _mean(value for day, value in daily.items() if change <= day < min(after))
        now = _mean(value for day, value in daily.items() if day >= np.ceil(last))
        state: State = "reached" if now >= RECOVERED * before else "not reached"
        said = f"average precision {before:.2f}, {hurt:.2f} after the change, {now:.2f} at the end"
        return Claim(name, state, said)

    def _no_promotion(self) -> Claim:
        found = self.promotions()
        said = self._renewals() if not found else f"day {found[0][0]:.1f}: {found[0][1]}"
        return Claim("nothing is promoted", "not reached" if found else "reached", said)

    def _few_alarms(self) -> Claim:
        name = f"at most {self.alarms} alarms of drift"
        if not self.witness.monitor:
            return Claim(name, "not there yet", "nothing stands on the monitor's topic")
        count = len(self._of_kind("drift"))
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


def _mean(values: Iterator[float]) -> float:
    known = [*values]
    return float(np.mean(known)) if known else float("nan")


def _shown(day: float | None) -> str:
    return "never" if day is None else f"{day:.1f}"
