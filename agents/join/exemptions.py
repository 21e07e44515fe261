"""Which lanes a join does not wait for, though they have answers to give.

A lane is exempt while it is down: silent, ending again and again, or waiting for an input that is
down. Two rules keep that safe for a lane that lives:

- it is waited for, however far it is behind, unless rows that it has not answered have ended
  already: then it counts again from the row where it has caught up;
- a silence counts only while this worker listens (`agents.workers.attended_clock`), and has read
  all that the stage has written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from agents.join.lane import Lane, LaneKey
from agents.join.stage_rows import Reason

_CATCH_UP_S = 1.0
"""A lane that lacks no more than what has ended within this time is waited for."""
_MOST_ENDED = 50
"""So many times are remembered at which rows ended without all answers."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a join has to know of the time."""

    now: float
    """Monotonic seconds."""
    attended: float
    """Seconds of an `AttendedClock`."""
    unread: Callable[[str], bool]
    """Whether an input's partition holds records that were not read yet."""


class Exemption(NamedTuple):
    """Why a lane is not waited for."""

    reason: Reason
    up_to: int
    """Rows up to this source offset need not wait for it."""


class Exemptions:
    """Those among the *lanes* of one join; `done` is the highest source offset that has left it."""

    def __init__(self, lanes: Mapping[LaneKey, Lane], stall_timeout_s: float) -> None:
        self._lanes = lanes
        self._stall_timeout_s = stall_timeout_s
        self._heard_at: dict[LaneKey, dict[LaneKey, int]] = {}
        """How far every lane had come when one of them last gave a heartbeat."""
        self._ended_without: deque[tuple[int, float]] = deque()
        """Rows that have ended without all answers: up to which offset, and when (monotonic)."""

    def note_heartbeat(self, lane: Lane) -> None:
        """A lane has given a heartbeat now: what it claims is of how far all have come."""
        self._heard_at[lane.key] = {key: each.frontier for key, each in self._lanes.items()}

    def note_ended(self, done: int, reasons: Mapping[str, Reason], now: float) -> None:
        """Rows up to *done* have left, without those answers of the stages in *reasons* that miss.

        *now* in monotonic seconds.
        """
        for lane in self._lanes.values():
            if lane.frontier >= done:
                lane.left_as = None
            elif lane.stage in reasons:
                lane.left_as = reasons[lane.stage]
        if reasons:
            if self._ended_without and now - self._ended_without[-1][1] < _CATCH_UP_S / 10:
                self._ended_without[-1] = (done, self._ended_without[-1][1])
            else:
                self._ended_without.append((done, now))
        caught_up_to = min(lane.frontier for lane in self._lanes.values())
        while self._ended_without and self._ended_without[0][0] <= caught_up_to:
            self._ended_without.popleft()
        while len(self._ended_without) > _MOST_ENDED:  # the oldest one stands for those behind it
            del self._ended_without[1]

    def of(self, covered: int, done: int, at: Moment) -> dict[LaneKey, Exemption]:
        """Those of lanes that have not answered all rows up to source offset *covered*."""
        exemptions: dict[LaneKey, Exemption] = {}
        for key, lane in self._lanes.items():
            if lane.frontier >= covered:
                continue
            if at.unread(lane.stage):
                continue  # its answers may be among what was not read yet
            if lane.down(at.attended, self._stall_timeout_s):
                exemptions[key] = Exemption("down", covered)
            elif self._is_behind(lane, done, at.now):
                exemptions[key] = Exemption(lane.left_as or "down", covered)
            elif lane.claim():
                exemptions[key] = Exemption("down", self._claims_to(key, covered))
        return exemptions

    def why_down(self, lane: Lane, done: int, at: Moment) -> str:
        """Why a lane is down, for people; empty while it is not."""
        down = ""
        if not at.unread(lane.stage):
            down = lane.down(at.attended, self._stall_timeout_s) or lane.claim()
        if not down and self._is_behind(lane, done, at.now):
            down = f"it was down, and has come to offset {lane.frontier} of {done}"
        return down

    def _claims_to(self, key: LaneKey, covered: int) -> int:
        """The last row about which there is no news since a lane said that its input is down.

        What has come since may be of that input, which lives again: then the lane will answer too.
        """
        then = self._heard_at[key]
        return min(
            (then[other] for other, lane in self._lanes.items()
             if other != key and lane.frontier > then[other]),
            default=covered,
        )  # fmt: skip

    def _is_behind(self, lane: Lane, done: int, now: float) -> bool:
        """Rows have ended without its answer, and it has not caught up with them.

        What has ended within the last moment it may be about to answer: were that not waited for, a
        stream that never pauses would never wait for it again.
        """
        if lane.frontier >= done or not (lane.heard or lane.left_as is not None):
            return False
        since = next((at for ended, at in self._ended_without if ended > lane.frontier), None)
        return since is None or now - since > _CATCH_UP_S
