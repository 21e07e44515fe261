"""What a pipeline's workers say of themselves: what is down, and what an event waits for."""

from __future__ import annotations

from collections.abc import Iterator

from agents.status import Partition, PipelineStatus, WorkerStatus, duration
from topics.pipeline import EVENTS, WEIGH, Pipeline


class PipelineWatch:
    """The last status of a pipeline, and what follows of it for those who ask."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.status: PipelineStatus | None = None
        """None until the first has come."""

    def down(self) -> list[str]:
        """The components that nobody runs, where nothing can be decided without them; or none."""
        if self.status is None:
            return []
        gone = {name for name in self._components() if self._is_gone(name)}
        if WEIGH in gone:
            return [WEIGH]
        stages = self._pipeline.weighting.inputs
        if all(self._lacks(stage, gone) for stage in stages):
            return sorted(gone)
        return []

    def waits_for(self, partition: int) -> str:
        """What an event of *partition* waits for, as far as the workers say, in words."""
        if self.status is None:
            return "nothing is known of the pipeline's workers"
        stage, lane, told = WEIGH, partition, set[str]()
        while stage not in told:
            told.add(stage)
            worker = self._worker(stage)
            if worker is None or lane >= len(worker.partitions):
                break
            at = worker.partitions[lane]
            if at.state == "down":
                return f"{stage}, which nobody runs for partition {lane}"
            if at.state == "starting":
                return f"{stage}, which is starting"
            if not at.waiting_for:
                break
            awaited = max(at.waiting_for, key=lambda wait: wait.for_s)
            name, _, number = awaited.stage.partition("[")
            if awaited.down:
                because = f" ({awaited.why})" if awaited.why else ""
                return f"{name}, which is down for {duration(awaited.for_s)}{because}"
            stage = name
            lane = int(number.removesuffix("]")) if number else lane
        return self._busy(stage, partition)

    def _busy(self, stage: str, partition: int) -> str:
        """*stage* is what is waited for, or, where it waits for nothing, who is behind."""
        if stage != WEIGH:
            return stage
        behind = [
            (worker.worker, at.lag)
            for worker, at in self._at(partition)
            if at.lag
        ]  # fmt: skip
        if behind:
            name, lag = behind[0]
            return f"{name}, which is {lag:,} records behind"
        return f"{WEIGH}; no component says that it waits"

    def _at(self, partition: int) -> Iterator[tuple[WorkerStatus, Partition]]:
        if self.status is not None:
            for worker in self.status.workers.values():
                yield worker, worker.partitions[partition]

    def _components(self) -> list[str]:
        return [*(spec.name for spec in self._pipeline.components), WEIGH]

    def _worker(self, component: str) -> WorkerStatus | None:
        """Who runs it; the last, as what deals events out to it comes before."""
        workers = self.status.workers.values() if self.status is not None else ()
        return next((w for w in reversed([*workers]) if component in w.components), None)

    def _is_gone(self, component: str) -> bool:
        worker = self._worker(component)
        return worker is not None and not worker.alive

    def _lacks(self, component: str, gone: set[str]) -> bool:
        """It gives nothing: it is gone itself, or something that it reads."""
        if component == EVENTS:
            return False
        inputs = self._pipeline.component(component).inputs
        return component in gone or any(self._lacks(name, gone) for name in inputs)
