"""What was promised: the figures that cards of models and weights have of held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from models.quality import HIGHER_IS_BETTER, Figure
from models.registry import Registry, RegistryError

PROMISED = ("auc", "average_precision", "brier", "calibration_error")
"""Figures that cards have, too."""


class Promises:
    """Reads cards of the registry; one that is gone promises nothing."""

    def __init__(self, registry: Registry, pipeline: str) -> None:
        self._registry, self._pipeline = registry, pipeline
        self._of = cache(self._read)

    def of_component(self, models: Sequence[str]) -> dict[str, float]:
        """What the model of a component promises; nothing where several have decided."""
        if len(models) != 1:
            return {}
        component, _, version = models[0].rpartition("@")
        return self._of(component, int(version)) if version.isdigit() else {}

    def of_weights(self, versions: Sequence[int]) -> dict[str, float]:
        """What weights promise of the composed score; nothing where they are fixed, or several."""
        return self._of(None, versions[0]) if len(versions) == 1 and versions[0] else {}

    def _read(self, component: str | None, version: int) -> dict[str, float]:
        try:
            metrics = (
                self._registry.weights(self._pipeline, version).card.metrics
                if component is None
                else self._registry.get(self._pipeline, component, version).card.metrics
            )
        except RegistryError:
            return {}
        return {name: metrics[name] for name in PROMISED if name in metrics}


def outside(figures: Mapping[str, Figure], promised: Mapping[str, float]) -> list[str]:
    """The figures whose whole interval is worse than promised.

    >>> outside({"auc": Figure(0.8, 0.75, 0.85), "brier": Figure(0.1, 0.05, 0.2)},
    ...         {"auc": 0.9, "brier": 0.04})
    ['auc', 'brier']
    """
    worse = []
    for name, promise in promised.items():
        figure = figures.get(name)
        if figure is None or figure.low is None or figure.high is None:
            continue
        higher_is_better = name.startswith(HIGHER_IS_BETTER)
        if figure.high < promise if higher_is_better else figure.low > promise:
            worse.append(name)
    return worse
