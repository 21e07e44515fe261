"""Why a version is not put into service.

PromotionError
├── NothingToRollBack   nothing was in service before
├── NoChallenger        no version runs beside the champion
├── IsChampion          the version that shall challenge is the one in service
├── SamePolicy          another policy under the same version
├── ChangedMeanwhile    somebody else has changed it since it was looked at
└── FixedWeights        the pipeline file fixes the weights
"""

from __future__ import annotations

from topics.errors import AnabranchError
from topics.records import AuditEntry


class PromotionError(AnabranchError):
    """A version cannot be put into service."""


class NothingToRollBack(PromotionError):
    """There is no version that was in service before."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} has no version to roll back to: nothing was promoted before; "
            f"promote the version that you want"
        )


class NoChallenger(PromotionError):
    """No version runs beside the champion."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} has no challenger: start one with `anabranch models shadow`")


class SamePolicy(PromotionError):
    """Another policy under the same version."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"policy version {version} is in service already, with other thresholds; decisions "
            "name the version, so give the new ones another: policy: version: in the pipeline file"
        )


class ChangedMeanwhile(PromotionError):
    """Somebody else has changed what is in service since it was looked at."""

    def __init__(self, what: str, last: AuditEntry | None) -> None:
        who = "somebody"
        if last is not None:
            version = "" if last.version is None else f" of version {last.version}"
            reason = f": {last.reason}" if last.reason else ""
            who = f"{last.by} ({last.action}{version} at {last.at}{reason})"
        super().__init__(
            f"{what} was changed meanwhile by {who}; nothing is written. Look at `anabranch models "
            "log PIPELINE`, and say it again if it is still wanted"
        )


class IsChampion(PromotionError):
    """A version would be compared with itself."""

    def __init__(self, what: str, version: int) -> None:
        super().__init__(f"{what}@{version} is in service: let another version challenge it")


class FixedWeights(PromotionError):
    """The pipeline file fixes the weights."""

    def __init__(self, pipeline: str) -> None:
        super().__init__(
            f"the weights of {pipeline} are fixed in its pipeline file: change them there, "
            "or say weights: learned"
        )
