"""The workers of components: rows in, one stage batch per fetch and partition out.

`source_stage` reads events (`source_events`), `join_worker` other stages, `keyed_stage` events by
another key (a `key_partition` of it each) that `repartition` deals out by a `key_dealer`;
`source_ends` says where their sources end. `component_group` runs what shares a worker,
`fused_session` in one session where that can be; `stage_writer` writes.
"""

from agents.stages.component_group import ComponentGroup
from agents.stages.join_worker import JoinStage, JoinWorker
from agents.stages.key_dealer import KeyDealer, dealt
from agents.stages.key_partition import KeyPartition
from agents.stages.keyed_stage import KeyedStage
from agents.stages.repartition import Repartition
from agents.stages.source_events import source_rows
from agents.stages.source_stage import SourceStage

__all__ = [
    "ComponentGroup", "JoinStage", "JoinWorker", "KeyDealer", "KeyPartition", "KeyedStage",
    "Repartition", "SourceStage", "dealt", "source_rows",
]  # fmt: skip
