"""Write the dashboards as JSON: `python -m deploy.grafana.generate`.

The files are what Grafana reads, and are committed; a test says when they are stale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.capacity import capacity
from deploy.grafana.component import component
from deploy.grafana.models import models
from deploy.grafana.overview import overview
from deploy.grafana.runbooks import runbooks

FOLDER = Path(__file__).parent / "dashboards"
_DASHBOARDS: tuple[Callable[[], dashboard.Dashboard], ...] = (
    overview, component, models, capacity, runbooks,
)  # fmt: skip


def generated() -> Mapping[str, str]:
    """The content of every file in `dashboards`, by its name."""
    return {
        f"{make.__name__}.json": JSONEncoder(indent=2, sort_keys=True).encode(make().build()) + "\n"
        for make in _DASHBOARDS
    }


def main() -> None:
    """Write all files, and say which."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in generated().items():
        (FOLDER / name).write_text(content)
        print(f"wrote {FOLDER / name}")  # noqa: T201  # a command's answer


if __name__ == "__main__":
    main()
