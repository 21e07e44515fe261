"""The groups of a pipeline file as columns of what is recorded of an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models.arrays import Ints
from models.registry import Background
from topics.pipeline import Pipeline, explained_groups, is_recorded

_Columns = Mapping[str, Sequence[int] | None]
"""Component → places of its columns; None for all that it says."""


class ColumnGroups:
    """k groups, each of columns of one recorded output or more."""

    def __init__(self, groups: Mapping[str, _Columns]) -> None:
        self._groups = groups
        self.names = [*groups]

    @classmethod
    def of(cls, pipeline: Pipeline) -> ColumnGroups:
        """Those of the pipeline file, see `topics.pipeline.explanation_groups`."""
        groups: dict[str, dict[str, list[int] | None]] = {}
        for name, members in explained_groups(pipeline).items():
            columns = groups.setdefault(name, {})
            for component, feature in members:
                if feature is None:
                    columns[component] = None
                else:
                    places = _places(pipeline, component, feature)
                    columns[component] = [*(columns.get(component) or ()), *places]
        return cls(groups)

    @classmethod
    def of_each_column(cls, pipeline: Pipeline, background: Background) -> ColumnGroups:
        """A group for each column, called as it is; by component too where two are called alike.

        The columns of a feature of a sensitive field are one group: they are called by its values.
        """
        outputs = {
            component: recorded
            for component, recorded in background.outputs.items()
            if is_recorded(pipeline.component(component))  # or is declared pure since
        }
        names = [name for recorded in outputs.values() for name in recorded.columns]
        groups: dict[str, dict[str, list[int]]] = {}
        for component, recorded in outputs.items():
            sensitive = _sensitive_columns(pipeline, component)
            for place, column in enumerate(recorded.columns):
                name = sensitive.get(column, column)
                if names.count(column) > 1:
                    name = f"{component}.{name}"
                groups.setdefault(name, {}).setdefault(component, []).append(place)
        return cls(groups)

    def of_columns(self, component: str, width: int) -> Ints:
        """Which group each of a component's columns (F,) is in, by its place in `names`."""
        groups = np.zeros(width, np.int64)
        for number, columns in enumerate(self._groups.values()):
            if component in columns:
                places = columns[component]
                groups[slice(None) if places is None else [*places]] = number
        return groups


def _sensitive_columns(pipeline: Pipeline, component: str) -> dict[str, str]:
    """Column → feature, of features of sensitive fields."""
    fields = pipeline.event.fields
    return {
        column: feature.name
        for feature in pipeline.component(component).features or ()
        if feature.of in fields and fields[feature.of].sensitive
        for column in feature.columns
    }


def _places(pipeline: Pipeline, component: str, feature: str) -> list[int]:
    """Where the columns of a feature are in what its component says."""
    features = pipeline.component(component).features or []
    place = 0
    for each in features:
        if each.name == feature:
            return [*range(place, place + len(each.columns))]
        place += len(each.columns)
    raise KeyError(f"{component}.{feature}")
