"""Settings of all tests, and the trained pipeline that many of them run."""

from __future__ import annotations

import os

import pytest
import yaml
from hypothesis import settings

from agents import training_data
from agents.components import open_component
from models.registry import Registry
from models.training import train
from tests.integration.harness import Trained
from topics.pipeline_file import find_pipeline, load_pipeline

# A busy machine is slow now and then: that fails no test. CI tries the same examples each time.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Card fraud with small forests, trained on a few simulated days."""
    home = tmp_path_factory.mktemp("home")
    content = yaml.safe_load(find_pipeline("card-fraud").read_text())
    for component in content["components"]:
        if "n_estimators" in component.get("model", {}).get("parameters", {}):
            component["model"]["parameters"]["n_estimators"] = 5
    # A busy machine may take seconds for a batch: these tests are about losing nothing.
    content["weighting"]["deadline_ms"] = 60_000
    path = home / "card-fraud.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    file = load_pipeline(path)
    data = training_data.simulated(file.pipeline, rows=60_000, seed=0)
    registry = Registry(home / "registry")
    train(file.pipeline, home, data, registry, open_component=open_component)
    return Trained(home, file, registry)
