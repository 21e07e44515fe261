"""The topics of a pipeline and their names."""

from __future__ import annotations

from dataclasses import dataclass

from topics.pipeline import EVENTS, Pipeline


@dataclass(frozen=True, slots=True)
class Topology:
    """Names of everything that a pipeline has on the broker."""

    pipeline: str
    components: tuple[str, ...]
    partitions: int

    @classmethod
    def of(cls, pipeline: Pipeline) -> Topology:
        """The topology of *pipeline*."""
        names = tuple(component.name for component in pipeline.components)
        return cls(pipeline.name, names, pipeline.partitions)

    @property
    def events(self) -> str:
        """Where producers publish."""
        return f"{self.pipeline}.{EVENTS}"

    @property
    def decisions(self) -> str:
        """Where consumers read."""
        return f"{self.pipeline}.decisions"

    @property
    def dead_letters(self) -> str:
        """Events that got no decision, with the reason."""
        return f"{self.pipeline}.dead-letters"

    def stage(self, name: str) -> str:
        """The topic that component *name* writes; `events` is where the source is."""
        return f"{self.pipeline}.{name}"

    def group(self, name: str) -> str:
        """The consumer group of component *name*."""
        return f"{self.pipeline}.{name}"

    @property
    def all(self) -> tuple[str, ...]:
        """Every topic, in the order of the flow."""
        stages = tuple(self.stage(name) for name in self.components)
        return (self.events, *stages, self.decisions, self.dead_letters)
