"""Why a renewal does not go on.

RenewalError
├── NothingRenewable    the pipeline has nothing that is trained here
├── NothingInService    a component has no version that a new one could challenge
├── NothingToGoOnFrom   an incremental fit has no state of the version in service
├── NoMaturedEvents     no event has an outcome yet
├── NothingDecided      no event is decided that a gate could be tried on
├── OtherChallenger     somebody else's challenger runs
├── DatasetChanged      the data set is another than the one that the log names
├── NothingToStop       no renewal runs
├── StepFailed          what a step's process has raised (`step_process`)
├── StepEnded           a step's process has ended without a result (`step_process`)
└── Deposed             another trainer has taken over
"""

from __future__ import annotations

from pathlib import Path

from topics.errors import AnabranchError


class RenewalError(AnabranchError):
    """A renewal does not go on."""


class NothingRenewable(RenewalError):
    """The pipeline has nothing that is trained here."""

    def __init__(self, pipeline: str) -> None:
        super().__init__(
            f"{pipeline} has no component to renew: one needs a supervised estimator, and no "
            "version: that keeps it on one; or name some, renew: components:"
        )


class NothingInService(RenewalError):
    """A component has no version that a new one could challenge."""

    def __init__(self, pipeline: str, component: str) -> None:
        super().__init__(
            f"no version of {pipeline}/{component} is in service: train one with `anabranch train "
            f"{pipeline}`, and start the workers, before it is renewed"
        )


class NothingToGoOnFrom(RenewalError):
    """An incremental fit has no state of the version in service."""

    def __init__(self, pipeline: str, version: str, why: str) -> None:
        super().__init__(
            f"{pipeline}: a fit cannot go on from {version}: {why}; fit it anew once, with "
            f"`anabranch train {pipeline}`, and promote that"
        )


class NoMaturedEvents(RenewalError):
    """No event has an outcome yet."""

    def __init__(self, pipeline: str, delay: str) -> None:
        super().__init__(
            f"no event of {pipeline} has an outcome: they take {delay} of event time (outcomes: "
            "delay), and stand on its outcomes topic"
        )


class NothingDecided(RenewalError):
    """No event is decided that a gate could be tried on."""

    def __init__(self, pipeline: str) -> None:
        super().__init__(f"no event of {pipeline} is decided: start its workers, and try again")


class OtherChallenger(RenewalError):
    """Somebody else's challenger runs."""

    def __init__(self, component: str, version: int) -> None:
        super().__init__(
            f"{component}@{version} challenges already, and this renewal has not begun that: end "
            "it, or wait for it (`anabranch models compare --decide`)"
        )


class DatasetChanged(RenewalError):
    """The data set is another than the one that the log names."""

    def __init__(self, path: Path, digest: str, named: str) -> None:
        super().__init__(f"{path} is {digest}, and {named} was built: somebody has changed it")


class NothingToStop(RenewalError):
    """No renewal runs."""

    def __init__(self, pipeline: str) -> None:
        super().__init__(f"no renewal of {pipeline} runs: there is nothing to stop")


class Deposed(RenewalError):
    """Another trainer has taken over."""

    def __init__(self, trainer: str) -> None:
        super().__init__(f"{trainer} renews now: we were not heard of for too long")
