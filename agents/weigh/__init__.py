"""The weighting agent: all stage outputs into y = Σ α·y, and every event to its one end.

`weigher` is the worker, `decision_rule` holds weights and policy, and says which rows end in a
decision and with what score; `exploration` takes a share of them otherwise; `decision_records` and
`dead_letters` write the ends, `redrive_completion` those of redriven events.
"""

from agents.weigh.decision_records import Weights
from agents.weigh.decision_rule import ActiveDecisionRule, DecisionRule, Scorer, causes_of_death
from agents.weigh.exploration import ExploredRows, Explorer, FieldsNotSent, check_fields_sent
from agents.weigh.weigher import Weigher

__all__ = [
    "ActiveDecisionRule", "DecisionRule", "ExploredRows", "Explorer", "FieldsNotSent", "Scorer",
    "Weigher", "Weights", "causes_of_death", "check_fields_sent",
]  # fmt: skip
