"""What a step of a renewal comes to, and what all steps work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agents.control import ControlTopic
from agents.renewal.event_clock import EventClock
from agents.renewal.renewal_ledger import Renewal
from agents.workers import TailReader
from models.registry import Registry
from models.training.data import TrainingData
from topics.pipeline import Pipeline, PipelineFile, Renew
from topics.records import Contest, VerdictName
from topics.settings import BrokerSettings

RowsOf = Callable[[Pipeline, Path], TrainingData]
"""The rows of a data set, checked as any training data is."""
BlocksOf = Callable[[Pipeline, Path, int, int], Iterator[TrainingData]]
"""The same in blocks of so many rows, from that block on."""


async def _nobody_else() -> None:
    """There is one trainer."""


@dataclass(frozen=True, slots=True)
class RenewalContext:
    """What steps work with."""

    settings: BrokerSettings
    file: PipelineFile
    registry: Registry
    tail: TailReader
    clock: EventClock
    folder: Path
    """Where data sets of renewals are."""
    rows_of: RowsOf
    blocks_of: BlocksOf
    control: Callable[[], ControlTopic]
    """A new view of the control topic, to be entered."""
    still_ours: Callable[[], Awaitable[None]] = _nobody_else
    """Raises Deposed unless this trainer is the one that renews; asked before each effect."""

    @property
    def pipeline(self) -> Pipeline:
        """What is renewed."""
        return self.file.pipeline

    @property
    def renew(self) -> Renew:
        """How."""
        return self.file.pipeline.renew

    def dataset(self, renewal: Renewal) -> Path:
        """The file of a renewal's data set."""
        return self.folder / str(renewal.number) / "dataset.parquet"


@dataclass(frozen=True, slots=True)
class TrainingWork:
    """What a step that computes in a process of its own works with."""

    file: PipelineFile
    registry: Registry
    """In which versions are those of this renewal."""
    path: Path
    """The data set."""
    digest: str
    """Of its file."""
    mature_ms: int
    """All its events are older (ms since 1970)."""
    rows_of: RowsOf
    blocks_of: BlocksOf


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step comes to: the fields of its record, see `topics.records.RenewalStep`."""

    reason: str
    offsets: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    digest: str | None = None
    versions: Mapping[str, int] = field(default_factory=dict)
    weights: int | None = None
    contests: Mapping[str, Contest] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    ends: VerdictName | None = None


def name_of(renewal: Renewal) -> str:
    """What a renewal is called in cards and in the audit trail."""
    return f"renewal {renewal.number}"
