"""A changed pipeline takes the place of the one that runs: filled, compared, switched to, and back.

The whole protocol is in `switch`, which writes from which event on whose decisions count. `copier`
brings each pipeline the other's events, `comparison` says how their decisions differ, `errors` why
a rollout cannot go on.
"""

from agents.rollout.comparison import Comparison, compare
from agents.rollout.copier import Copier
from agents.rollout.switch import Switch

__all__ = ["Comparison", "Copier", "Switch", "compare"]
