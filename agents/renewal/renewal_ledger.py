"""What the topic of renewals amounts to, by the order of its records alone: all find the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from topics.records import (
    STEPS,
    Contest,
    RenewalRecord,
    RenewalRequest,
    RenewalStep,
    RenewalTriggered,
    RenewalVerdict,
    StepName,
    TrainerClaim,
    TrainerSign,
)

_REQUESTS_KEPT = 1000


@dataclass(slots=True)
class Renewal:
    """A renewal, and how far it has come."""

    begun: RenewalTriggered
    steps: dict[StepName, RenewalStep] = field(default_factory=dict)
    """Step → the newest record of it."""
    attempts: dict[StepName, int] = field(default_factory=dict)
    """Step → how often it has begun."""
    contests: dict[str, Contest] = field(default_factory=dict)
    """Component → how its challenger has fared, as far as that is known."""
    records: int = 0
    """Of its steps."""
    stop: RenewalRequest | None = None
    verdict: RenewalVerdict | None = None

    @property
    def number(self) -> int:
        """What it is called."""
        return self.begun.renewal

    @property
    def ends(self) -> RenewalStep | None:
        """The step that is done and has ended it, whose verdict may not be on the log yet."""
        return next((step for step in self.steps.values() if step.ends is not None), None)

    @property
    def versions(self) -> dict[str, int]:
        """Component → the version that is to challenge, by the last step that says so."""
        named = [self.steps[name].versions for name in STEPS if self.is_done(name)]
        return next((versions for versions in reversed(named) if versions), {})

    @property
    def next_step(self) -> StepName | None:
        """The first that is not done; None where all are."""
        return next((name for name in STEPS if not self.is_done(name)), None)

    def is_done(self, step: StepName) -> bool:
        """Whether that step is behind it."""
        return step in self.steps and self.steps[step].state == "done"

    def done(self, step: StepName) -> RenewalStep:
        """What a step that is done has said. Raises KeyError."""
        if not self.is_done(step):
            raise KeyError(step)
        return self.steps[step]


class RenewalLedger:
    """The renewals of a pipeline, and who does them now.

    >>> ledger = RenewalLedger()
    >>> ledger.take(TrainerClaim(term=1, trainer="a", at=""))
    >>> ledger.take(TrainerClaim(term=1, trainer="b", at=""))
    >>> ledger.owner
    'a'
    """

    def __init__(self) -> None:
        self.term = 0
        self.owner: str | None = None
        """The trainer of the term; None where it has resigned, or there was none."""
        self.signs = 0
        """Records of the owner so far: while these become more, it lives."""
        self.renewals: dict[int, Renewal] = {}
        self.void = 0
        """Records of trainers whose term was over: they count for nothing."""
        self._requests: dict[str, RenewalRequest] = {}
        """Those for a renewal that nobody has begun yet."""
        self._answered: dict[str, int] = {}

    def __iter__(self) -> Iterator[Renewal]:
        return iter(self.renewals.values())

    @property
    def running(self) -> Renewal | None:
        """The renewal that has not ended; there is one at most."""
        newest = self.newest
        return newest if newest is not None and newest.verdict is None else None

    @property
    def newest(self) -> Renewal | None:
        """The last that has begun."""
        return next(reversed(self.renewals.values()), None)

    @property
    def wanted(self) -> RenewalRequest | None:
        """The first request for a renewal that none has answered."""
        return next(iter(self._requests.values()), None)

    def answered(self, name: str) -> int | None:
        """The renewal that a request has come to; None as long as there is none."""
        return self._answered.get(name)

    def take(self, record: RenewalRecord) -> None:
        """The next record of the log."""
        match record:
            case TrainerClaim():
                if record.term == self.term + 1:
                    self.term, self.owner = record.term, record.trainer
                    self.signs += 1
            case RenewalRequest():
                self._request(record)
            case TrainerSign():
                if record.term == self.term and record.trainer == self.owner:
                    self.signs += 1
                    if record.resigned:
                        self.owner = None
            case _:
                if record.term == self.term:
                    self.signs += 1
                    self._renewal(record)
                else:
                    self.void += 1

    def _request(self, record: RenewalRequest) -> None:
        if record.action == "stop":
            if (running := self.running) is not None:
                running.stop = running.stop or record
        elif record.name not in self._answered and len(self._requests) < _REQUESTS_KEPT:
            self._requests.setdefault(record.name, record)

    def _renewal(self, record: RenewalTriggered | RenewalStep | RenewalVerdict) -> None:
        if isinstance(record, RenewalTriggered):
            if self.running is None and record.renewal == len(self.renewals) + 1:
                self.renewals[record.renewal] = Renewal(record)
                if record.request:
                    self._requests.pop(record.request, None)
                    self._answered[record.request] = record.renewal
            return
        renewal = self.renewals.get(record.renewal)
        if renewal is None or renewal.verdict is not None:
            return
        if isinstance(record, RenewalVerdict):
            renewal.verdict = record
            return
        renewal.records += 1
        if record.state == "begun":
            renewal.attempts[record.step] = renewal.attempts.get(record.step, 0) + 1
        renewal.contests |= record.contests
        renewal.steps[record.step] = record
