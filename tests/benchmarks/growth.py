"""The pipelines of W4: chains and branches of cheap components, generated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.model_files import PIPELINE


def chain(length: int) -> dict[str, list[str]]:
    """Components that read one another: name → what it reads.

    >>> chain(2)
    {'c1': ['events'], 'c2': ['c1']}
    """
    return {f"c{n}": ["events" if n == 1 else f"c{n - 1}"] for n in range(1, length + 1)}


def branches(count: int) -> dict[str, list[str]]:
    """Components that all read the events.

    >>> branches(2)
    {'c1': ['events'], 'c2': ['events']}
    """
    return {f"c{n}": ["events"] for n in range(1, count + 1)}


def written(graph: dict[str, list[str]], name: str, partitions: int, folder: Path) -> Path:
    """The file of a pipeline of cheap components, all of which are weighed, in *folder*."""
    content: dict[str, Any] = yaml.safe_load(PIPELINE.read_text())
    content |= {"pipeline": name, "partitions": partitions}
    content["components"] = [
        {"name": component, "import": "tests.benchmarks.cheap:Cheap", "from": inputs}
        for component, inputs in graph.items()
    ]
    weights = dict.fromkeys(graph, 1 / len(graph))
    content["weighting"] |= {"from": list(graph), "weights": weights}
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
