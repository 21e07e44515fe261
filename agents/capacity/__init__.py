"""How much of everything a pipeline needs for a rate, from what an event was measured to cost.

`costs` (measured), `traffic` (what flows), `queueing` (how long it waits), `plan` (what that
takes).
"""

from agents.capacity.plan import Plan
from agents.capacity.traffic import Demand

__all__ = [
    "Demand", "Plan",
]  # fmt: skip
