"""How much of everything a pipeline needs for a rate, from what an event was measured to cost.

`costs` (measured), `traffic` (what flows), `queueing` (how long it waits), `failure` (what a worker
that is killed does to that), `sizing` (what all this takes).
"""

from agents.capacity.costs import unit_costs
from agents.capacity.sizing import Plan, plan
from agents.capacity.traffic import Demand

__all__ = [
    "Demand", "Plan", "plan", "unit_costs",
]  # fmt: skip
