"""Settings of all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# A busy machine is slow now and then: that fails no test. CI tries the same examples each time.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
