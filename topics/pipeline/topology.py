"""The topics of a pipeline and their names."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from topics.pipeline.fields import EVENTS, OUTCOMES
from topics.pipeline.schema import Pipeline
from topics.pipeline.topic_retention import LEAST_MS, retention_ms

WEIGH = "weigh"
"""The weighting agent's name as a component: its consumer group, its metrics."""
EXPLAINER = "explainer"
"""The explainer's."""
TRAINER = "trainer"
"""That of the process which renews models."""
MONITOR = "monitor"
"""That of what holds decisions against outcomes."""

RESERVED = (
    EVENTS, OUTCOMES, "decisions", "dead-letters", "redrive", "control", "reports", "explanations",
    "requests", "renewals", "shadow", "weights", "policy", WEIGH, EXPLAINER, TRAINER,
    MONITOR,
)  # fmt: skip
"""What no component may be called: other topics, agents, and keys of the control topic."""


@dataclass(frozen=True, slots=True)
class Topology:
    """Names of everything that a pipeline has on the broker."""

    pipeline: str
    components: tuple[str, ...]
    partitions: int
    stateful: tuple[str, ...] = ()
    """Components with windowed features."""
    repartitioned: tuple[str, ...] = ()
    """Those of them that need the past of another field than the partition key."""
    by_outcomes: tuple[str, ...] = ()
    """Those of them that need outcomes."""
    explained: bool = False
    """Whether decisions are explained as they come."""
    renewed: bool = False
    """Whether models are renewed by themselves."""
    retention_ms: int = LEAST_MS
    """How long topics that are not compacted keep a record."""

    @classmethod
    def of(cls, pipeline: Pipeline) -> Topology:
        """The topology of *pipeline*."""
        names = tuple(component.name for component in pipeline.components)
        return cls(
            pipeline.name, names, pipeline.partitions,
            tuple(spec.name for spec in pipeline.components if spec.windowed),
            tuple(name for name in names if pipeline.is_repartitioned(name)),
            tuple(name for name in names if pipeline.reads_outcomes(name)),
            pipeline.explain.is_continuous,
            pipeline.renew.is_by_itself,
            retention_ms(pipeline),
        )  # fmt: skip

    @property
    def events(self) -> str:
        """Where producers publish."""
        return f"{self.pipeline}.{EVENTS}"

    @property
    def outcomes(self) -> str:
        """Where the true labels are published, when they are known."""
        return f"{self.pipeline}.{OUTCOMES}"

    @property
    def sources(self) -> tuple[str, ...]:
        """What comes from outside."""
        return (self.events, self.outcomes) if self.by_outcomes else (self.events,)

    def sources_of(self, name: str) -> tuple[str, ...]:
        """What of that repartitioned component *name* needs."""
        return (self.events, self.outcomes) if name in self.by_outcomes else (self.events,)

    @property
    def decisions(self) -> str:
        """Where consumers read."""
        return f"{self.pipeline}.decisions"

    @property
    def dead_letters(self) -> str:
        """Events that got no decision, with the reason."""
        return f"{self.pipeline}.dead-letters"

    @property
    def explanations(self) -> str:
        """Why events were decided so, where the pipeline file asks for it."""
        return f"{self.pipeline}.explanations"

    @property
    def redrive(self) -> str:
        """Dead letters on their way through the pipeline again."""
        return f"{self.pipeline}.redrive"

    @property
    def control(self) -> str:
        """The versions in service; compacted, see `topics.records.control`."""
        return f"{self.pipeline}.control"

    @property
    def reports(self) -> str:
        """What workers say of themselves; compacted, see `topics.records.reports`."""
        return f"{self.pipeline}.reports"

    @property
    def requests(self) -> str:
        """Requests with a key of the caller's, see `topics.records.request`; made when needed."""
        return f"{self.pipeline}.requests"

    @property
    def renewals(self) -> str:
        """What renewals of models have come to, see `topics.records.renewal`; compacted."""
        return f"{self.pipeline}.renewals"

    @property
    def monitor(self) -> str:
        """What the monitor says of quality and drift; made when needed."""
        return f"{self.pipeline}.{MONITOR}"

    @property
    def monitor_state(self) -> str:
        """Snapshots of what the monitor has counted; compacted, made when needed."""
        return f"{self.pipeline}.{MONITOR}.state"

    @property
    def outcome_letters(self) -> str:
        """Outcomes that no decision was found for, or that are none; made when needed.

        Not among the dead letters: each of those ends an event, and an outcome is none.
        """
        return f"{self.pipeline}.{OUTCOMES}.dead-letters"

    @property
    def of_monitor(self) -> tuple[str, ...]:
        """Every topic that the monitor writes."""
        return (self.monitor, self.monitor_state, self.outcome_letters)

    def shadow(self, name: str) -> str:
        """What a challenger of component *name* says of rows that it does not decide."""
        return f"{self.pipeline}.shadow.{name}"

    def stage(self, name: str) -> str:
        """The topic that component *name* writes; `events` is where the source is."""
        return f"{self.pipeline}.{name}"

    def keyed(self, name: str) -> str:
        """Events and outcomes on their way to repartitioned component *name*, by its key."""
        return f"{self.pipeline}.{name}.keyed"

    def state(self, name: str) -> str:
        """Snapshots of what component *name* knows of the past; compacted."""
        return f"{self.pipeline}.{name}.state"

    def group(self, name: str) -> str:
        """The consumer group of component *name*."""
        return f"{self.pipeline}.{name}"

    @property
    def consumer_groups(self) -> str:
        """What the consumer groups of those who read decisions begin with; no worker's does."""
        return f"{self.pipeline}.consumer."

    @property
    def copier(self) -> str:
        """Consumer group and transactional id of what copies to this pipeline, see rollouts."""
        return f"{self.pipeline}.rollout.copy"

    @property
    def compacted(self) -> tuple[str, ...]:
        """Topics that keep the newest record of each key, whatever its age."""
        renewals = [self.renewals] if self.renewed else []
        return (*map(self.state, self.stateful), self.control, self.reports, *renewals)

    @property
    def all(self) -> tuple[str, ...]:
        """Every topic, in the order of the flow."""
        explanations = [self.explanations] if self.explained else []
        return (*self.of_deciding, *explanations, *([self.renewals] if self.renewed else []))

    @property
    def of_deciding(self) -> tuple[str, ...]:
        """Every topic that events need for their decisions."""
        return (
            *self.sources,
            *(self.keyed(name) for name in self.repartitioned),
            *(self.state(name) for name in self.stateful),
            *(self.stage(name) for name in self.components),
            self.decisions,
            self.dead_letters,
            self.redrive,
            self.control,
            self.reports,
        )


def lane_of(entity: str, partitions: int) -> int:
    """The partition of a repartitioned component's key that an entity is in."""
    return crc32(entity.encode()) % partitions
