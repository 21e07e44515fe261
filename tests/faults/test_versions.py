"""Workers of two versions of the pipeline file side by side, as a rolling update leaves them."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from agents.broker.pipeline_topics import ensure_topics
from models.simulators import LabelledEvent
from tests.faults.conftest import EVENTS, Judge
from tests.faults.scene import streaming
from tests.faults.test_load import pipeline_with
from tests.faults.test_workers import RATE
from tests.integration.harness import Trained, decisions_of
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

THIRD = """  - name: third
    import: tests.faults.components:Amount
    from: [events]
weighting:"""


def with_a_third_stage(trained: Trained, home: Path, *, read_by: str) -> Trained:
    """A newer version of the file: it has one more stage, which is weighed, or read by `second`."""
    text = trained.file.path.read_text().replace("weighting:", THIRD)
    if read_by == "weigh":
        text = text.replace("from: [amount, second]", "from: [amount, second, third]").replace(
            "{amount: 0.5, second: 0.5}", "{amount: 0.5, second: 0.25, third: 0.25}"
        )
    else:
        text = text.replace("from: [amount]", "from: [amount, third]")
    path = home / "newer.yaml"
    path.write_text(text)
    return Trained(home, load_pipeline(path), trained.registry)


def without_second(trained: Trained, home: Path) -> Trained:
    """A newer version of the file that weighs one stage less."""
    text = trained.file.path.read_text()
    text = text.replace("from: [amount, second]", "from: [amount]").replace(
        "{amount: 0.5, second: 0.5}", "{amount: 1.0}"
    )
    start, stop = text.index("  - name: second"), text.index("weighting:")
    path = home / "newer.yaml"
    path.write_text(text[:start] + text[stop:])
    return Trained(home, load_pipeline(path), trained.registry)


@pytest.mark.parametrize("change", ["a stage more is weighed", "a stage reads one more", "less"])
async def test_two_replicas_are_replaced_one_after_the_other_by_another_version(
    tmp_path: Path, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge, change: str
) -> None:
    old = pipeline_with(tmp_path, "Slow", flag="/nowhere", us_per_row=0)
    if change == "less":
        replaced, newer = "weigh", without_second(old, tmp_path)
    else:
        replaced = "weigh" if change == "a stage more is weighed" else "second"
        newer = with_a_third_stage(old, tmp_path, read_by=replaced)
    others = [name for name in ("amount", "second", "weigh") if name != replaced]
    await ensure_topics(kafka, Topology.of(newer.pipeline))
    async with streaming(old, kafka, events, rate=RATE) as scene:
        scene.workers(*others)
        if change != "less":
            scene.workers("third", of=newer)
        replicas = [scene.workers(replaced) for _ in range(2)]
        await scene.ended(EVENTS // 16)
        for replica in replicas:
            replica.signal(signal.SIGTERM)
            assert await replica.ended(15) == 0
            scene.workers(replaced, of=newer)
            await scene.recovered()  # every partition has an owner that decides
            await asyncio.sleep(3)
        await scene.ended(EVENTS)
    await judge(scene, None)
    stages: set[tuple[str, ...]] = {
        tuple(decision["contributions"])  # type: ignore[arg-type]
        for decision in await decisions_of(kafka, old.pipeline)
    }
    weighed = {tuple(old.pipeline.weighting.inputs), tuple(newer.pipeline.weighting.inputs)}
    assert stages == weighed, "both versions have decided, and neither without a stage of its own"
