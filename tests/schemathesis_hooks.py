"""What schemathesis cannot know from the gateway's OpenAPI document."""

from __future__ import annotations

from datetime import UTC, datetime

import schemathesis
from hypothesis import strategies as st

LAST = datetime(2026, 1, 1)
"""Event times that are later than now are refused."""

schemathesis.openapi.format(
    "date-time", st.datetimes(max_value=LAST).map(lambda time: time.replace(tzinfo=UTC).isoformat())
)
