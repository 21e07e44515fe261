"""Whose dashboards they are: of every pipeline that Prometheus knows, or of one by its file."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from topics.pipeline import Pipeline
from topics.pipeline.readers import readers

_LONGEST_UID = 40
"""Grafana's bound."""


@dataclass(frozen=True)
class Scope:
    """The pipeline of a set of dashboards; without one, those are chosen on the dashboard."""

    pipeline: Pipeline | None = None

    @property
    def name(self) -> str:
        """What titles begin with, and the tag by which its dashboards know each other."""
        return "anabranch" if self.pipeline is None else self.pipeline.name

    def uid(self, dashboard: str) -> str:
        """The id of a dashboard in Grafana: the same whenever it is generated.

        >>> Scope().uid("overview")
        'anabranch-overview'
        """
        if self.pipeline is None:
            return f"anabranch-{dashboard}"
        uid = f"anabranch-{self.pipeline.name}-{dashboard}"
        if len(uid) <= _LONGEST_UID:
            return uid
        return f"anabranch-{zlib.crc32(self.pipeline.name.encode()):08x}-{dashboard}"

    @property
    def components(self) -> list[str]:
        """Its workers, in the order of the flow; none where Prometheus is asked for them."""
        return [] if self.pipeline is None else [*readers(self.pipeline)]

    @property
    def thresholds(self) -> list[float]:
        """Where its policy cuts the score."""
        return [] if self.pipeline is None else [*self.pipeline.policy.thresholds.values()]
