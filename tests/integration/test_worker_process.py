"""Components in a child process, as the demo and evaluate run them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.broker.pipeline_topics import ensure_topics
from agents.process.child_process import WorkersEnded, child_environment, worker_process
from tests.integration.velocity import EVENT
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

PIPELINE = """
pipeline: talking
{event}
components:
  - {{name: talks, import: "tests.integration.velocity:{component}", from: [events]}}
weighting: {{from: [talks], weights: {{talks: 1.0}}}}
policy: {{thresholds: {{decline: 0.5}}}}
"""


def test_a_child_has_the_settings_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = BrokerSettings(broker="a:1,b:2", session_timeout_s=7)
    for name, value in child_environment(Path("registry"), settings).items():
        monkeypatch.setenv(name, value)
    assert BrokerSettings() == settings


async def test_what_a_component_prints_does_not_pass_for_a_status(
    broker: BrokerSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "talking.yaml"
    path.write_text(PIPELINE.format(event=EVENT, component="Talking"))
    await ensure_topics(broker, Topology.of(load_pipeline(path).pipeline))
    async with worker_process(path, tmp_path / "registry", broker) as workers:
        assert set(workers.stages) == {"talks", "weigh"}
        assert workers.process.returncode is None
    assert workers.process.returncode == 0
    assert "hello from a component" in capsys.readouterr().err


async def test_a_child_that_cannot_start_is_said(broker: BrokerSettings, tmp_path: Path) -> None:
    path = tmp_path / "talking.yaml"
    path.write_text(PIPELINE.format(event=EVENT, component="Nobody"))
    with pytest.raises(WorkersEnded, match="exit code 1"):
        async with worker_process(path, tmp_path / "registry", broker):
            pass
