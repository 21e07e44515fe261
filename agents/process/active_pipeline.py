"""What a process runs of a pipeline: opened at a start, replaced piece by piece by hot swaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agents.components import ActiveComponent
from agents.explanations import DecisionExplainer
from agents.weigh import ActiveDecisionRule
from topics.pipeline import EXPLAINER, WEIGH, Pipeline, workers


@dataclass(frozen=True, slots=True)
class ActivePipeline:
    """What the workers of this process run now."""

    pipeline: Pipeline
    components: Mapping[str, ActiveComponent]
    """By name; those that run here."""
    decision_rule: ActiveDecisionRule | None
    """The weighting agent's; None when it does not run here."""
    explainer: DecisionExplainer | None = None
    """The explainer's; None when it does not run here."""

    def workers(self) -> dict[str, tuple[str, ...]]:
        """Name → components of each worker that runs here; the last two have none."""
        here = {
            name: members
            for name, members in workers(self.pipeline).items()
            if self.components.keys() >= {*members}
        }
        if self.decision_rule is not None:
            here[WEIGH] = ()
        if self.explainer is not None:
            here[EXPLAINER] = ()
        return here
