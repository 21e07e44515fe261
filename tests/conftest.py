"""Settings of all tests, and the trained pipeline that many of them run."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.integration.harness import Trained, trained_small

# A busy machine is slow now and then: that fails no test. CI tries the same examples each time.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Card fraud with small forests, trained on a few simulated days."""
    home = tmp_path_factory.mktemp("home")
    return trained_small("card-fraud", home, rows=60_000, trees=5)
