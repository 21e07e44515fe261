"""The weighting agent: all stage outputs into y = Σ α·y, and every event to its one end.

`weigher` is the worker, `scoring` says which rows end in a decision and with what score,
`decision_rule` holds weights and policy, `decision_records` and `dead_letters` write the ends,
`redrive_completion` those of redriven events.
"""

from agents.weigh.decision_records import Weights
from agents.weigh.decision_rule import Terms, TermsSlot
from agents.weigh.weigher import Weigher

__all__ = [
    "Terms", "TermsSlot", "Weigher", "Weights",
]  # fmt: skip
