"""What a component runs now: replaced whole, between two micro-batches."""

from __future__ import annotations

from agents.components.catalogue import OpenComponent
from agents.components.challenger import ActiveChallenger
from agents.components.version_starts import VersionStarts
from topics.records import ModelRef


class ActiveComponent:
    """The champion and, at times, a challenger. Assigned to by the event loop alone.

    Who runs rows reads both once, before it starts: what is assigned meanwhile is for the next.
    """

    def __init__(self, champion: OpenComponent, challenger: ActiveChallenger | None = None) -> None:
        self.champion = champion
        self.challenger = challenger
        self.challenge_failure = ""
        """Why the last challenge has ended here, though it is still asked for."""
        self.starts = VersionStarts[ModelRef]()

    def end_challenge(self, reason: str) -> None:
        """Run the champion alone from the next batch on."""
        self.challenger = None
        self.challenge_failure = reason
