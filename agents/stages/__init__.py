"""The workers of components: rows in, one stage batch per fetch and partition out.

`source_stage` reads events, `join_stage` other stages, `keyed_stage` events by another key that
`repartition` deals out. `component_group` runs what shares a worker (`fused_session` in one
session), `stage_writer` writes, `written_batches` knows what is written already.
"""

from agents.stages.component_group import Chain
from agents.stages.join_stage import JoinedStage
from agents.stages.join_worker import JoinedWorker
from agents.stages.keyed_stage import KeyedStage
from agents.stages.repartition import Repartition
from agents.stages.source_stage import SourceStage, source_rows

__all__ = [
    "Chain", "JoinedStage", "JoinedWorker", "KeyedStage", "Repartition", "SourceStage",
    "source_rows",
]  # fmt: skip
