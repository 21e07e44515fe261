"""What a pipeline is run with in a process, and what it runs at any time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agents.components import ActiveChallenger, ActiveComponent, OpenComponent
from agents.weigh import ActiveDecisionRule, DecisionRule
from topics.pipeline import WEIGH, Pipeline, workers


@dataclass(frozen=True, slots=True)
class Parts:
    """What a pipeline is run with."""

    pipeline: Pipeline
    components: Mapping[str, OpenComponent]
    """Loaded components by name; those that run here."""
    terms: DecisionRule | None
    """For the weighting agent; None when it does not run here."""
    challenges: Mapping[str, ActiveChallenger] = field(default_factory=dict)
    """By component, where one is under way: its share of keys is the same after a restart."""

    def workers(self) -> dict[str, tuple[str, ...]]:
        """Name → components of each worker that runs here; the weighting agent's has none."""
        found = {
            name: members
            for name, members in workers(self.pipeline).items()
            if self.components.keys() >= {*members}
        }
        return found if self.terms is None else {**found, WEIGH: ()}


@dataclass(frozen=True, slots=True)
class Slots:
    """What the components of this process run now."""

    components: Mapping[str, ActiveComponent]
    terms: ActiveDecisionRule | None
    """The weighting agent's; None when it does not run here."""

    @classmethod
    def of(cls, parts: Parts) -> Slots:
        """Slots that hold *parts*."""
        components = {
            name: ActiveComponent(opened, parts.challenges.get(name))
            for name, opened in parts.components.items()
        }
        return cls(components, None if parts.terms is None else ActiveDecisionRule(parts.terms))
