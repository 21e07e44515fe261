"""Why a rollout cannot go on."""

from __future__ import annotations

from topics.errors import AnabranchError, BrokerError


class SamePipeline(AnabranchError):
    """Both pipelines of a rollout have one name, so one set of topics."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"both pipeline files say pipeline: {name}, so they have the same topics: give the "
            f"changed one a name of its own, such as {name}-v2"
        )


class PositionsLost(AnabranchError):
    """The changed pipeline's topics hold records, but how far copying has come is not known."""

    def __init__(self, topic: str, group: str) -> None:
        super().__init__(
            f"{topic} holds records already, and the group {group} does not say how far they were "
            "copied: events would be there twice. Give the changed pipeline another name, or "
            "delete its topics and make them anew (`anabranch topics PIPELINE --create`)"
        )


class CopierReplaced(AnabranchError):
    """Another copier of the same rollout has started."""

    def __init__(self, group: str) -> None:
        super().__init__(f"another process copies as {group} now: this one ends, nothing is lost")


class CopyingEnded(BrokerError):
    """The broker was away for too long, or refuses something."""

    def __init__(self, broker: str, cause: Exception) -> None:
        super().__init__(
            f"{broker}: {cause or type(cause).__name__}: copying has ended, and goes on where it "
            "was when it is started again"
        )


class GroupsUnknown(BrokerError):
    """The broker does not say who is in a consumer group, or how far it is."""

    def __init__(self, broker: str, cause: Exception) -> None:
        super().__init__(
            f"{broker} does not tell of consumer groups: {cause or type(cause).__name__}: nothing "
            "is changed"
        )


class RecordsGone(AnabranchError):
    """Retention has deleted what was not copied yet."""

    def __init__(self, partitions: list[str]) -> None:
        super().__init__(
            f"{', '.join(sorted(partitions))}: records that were not copied yet are deleted, so "
            "the changed pipeline lacks them. Fill another one, under another name"
        )


class AlreadyInService(AnabranchError):
    """The pipeline that is to take over is in service."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is in service already: nothing is changed")


class NotInService(AnabranchError):
    """The pipeline whose place is to be taken has been replaced by another one already."""

    def __init__(self, name: str, in_service: str) -> None:
        super().__init__(
            f"{in_service} has taken the place of {name}: roll out from {in_service}, or go back "
            "first"
        )


class NotReady(AnabranchError):
    """The pipeline that is to take over does not keep up with events."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} is not ready to take over: {reason}")


class StillDecides(AnabranchError):
    """Weighing agents run that have to be ended first."""

    def __init__(self, names: list[str], waited_s: float) -> None:
        super().__init__(
            f"weighing agents of {' and '.join(names)} still run after {waited_s:.0f} s: nothing "
            "is changed. End them (on Kubernetes scale the StatefulSets to 0, and pause their "
            "ScaledObjects), and run this again"
        )


class DecidedMeanwhile(AnabranchError):
    """A weighing agent was started before it was said that it may."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"a weighing agent of {' and '.join(names)} was started while the switch was written. "
            "It is written; what was decided in between, consumers may have counted for both "
            "pipelines or for none: `anabranch rollout compare` says what was decided of it"
        )
