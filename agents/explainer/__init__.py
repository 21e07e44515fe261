"""The explainer: an agent that reads decisions and writes why they were made so.

`explainer_worker` is what it does with a fetch, and states what holds after a crash; `selection`
says which decisions it explains, `output_follower` reads what components said of their events in
step with them.
"""

from agents.explainer.explainer_worker import ExplainerWorker

__all__ = ["ExplainerWorker"]
