"""New parameters of a component's model in a pipeline file's text, and nothing else changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from topics.errors import AnabranchError
from topics.pipeline.field_types import Scalar
from topics.pipeline.yaml_text import composed, loaded


class ParametersNotEditable(AnabranchError):
    """The parameters cannot be changed in the file as it is written."""

    def __init__(self, component: str) -> None:
        super().__init__(
            f"the parameters of {component} are not written: the file has them in a way that is "
            "not understood here (an alias, for example); change the file by hand"
        )


def with_parameters(text: str, component: str, parameters: Mapping[str, Scalar]) -> str:
    r"""The YAML *text* of a pipeline file, with *parameters* among those of *component*.

    Its other parameters, comments and layout stay. Raises ParametersNotEditable.

    >>> text = "components:\n- {name: risk, model: {estimator: a.B}}  # ours\n"
    >>> print(with_parameters(text, "risk", {"depth": 4}), end="")
    components:
    - {name: risk, model: {parameters: {depth: 4}, estimator: a.B}}  # ours
    """
    model = _value(_component(composed(text), component), "model")
    if not isinstance(model, yaml.MappingNode):
        raise ParametersNotEditable(component)
    changed = text
    for start, end, new in sorted(_edits(model, parameters), reverse=True):
        changed = changed[:start] + new + changed[end:]
    wanted = loaded(text)
    of = next(it for it in wanted["components"] if it["name"] == component)["model"]
    of["parameters"] = {**(of.get("parameters") or {}), **parameters}
    if _loaded(changed) != wanted:
        raise ParametersNotEditable(component)
    return changed


def plain(value: Scalar) -> str:
    """The value as YAML.

    >>> plain(None), plain("l1"), plain(1e-05), plain(True)
    ('null', 'l1', '1.0e-05', 'true')
    """
    written: str = yaml.safe_dump([value], default_flow_style=True, width=10**6)
    return written.strip()[1:-1]


def _entry(name: str, value: Scalar) -> str:
    return f"{plain(name)}: {plain(value)}"


def _edits(model: yaml.MappingNode, parameters: Mapping[str, Scalar]) -> list[tuple[int, int, str]]:
    """What to put in place of which part of the text."""
    current = _value(model, "parameters")
    if not isinstance(current, yaml.MappingNode) or not current.value:
        whole = "{" + ", ".join(_entry(name, it) for name, it in parameters.items()) + "}"
        if current is not None:
            return [(current.start_mark.index, current.end_mark.index, whole)]
        return [_before_all(model, f"parameters: {whole}")]
    places = {key.value: value for key, value in current.value}
    edits = [
        (places[name].start_mark.index, places[name].end_mark.index, plain(value))
        for name, value in parameters.items()
        if name in places
    ]
    new = [
        f"{plain(name)}: {plain(value)}" for name, value in parameters.items() if name not in places
    ]
    return [*edits, *([_before_all(current, *new)] if new else [])]


def _before_all(mapping: yaml.MappingNode, *entries: str) -> tuple[int, int, str]:
    first = mapping.value[0][0].start_mark
    behind = ", " if mapping.flow_style else "\n" + " " * first.column
    return first.index, first.index, "".join(entry + behind for entry in entries)


def _component(root: yaml.Node | None, name: str) -> yaml.Node | None:
    listed = _value(root, "components")
    for node in listed.value if isinstance(listed, yaml.SequenceNode) else []:
        called = _value(node, "name")
        if isinstance(called, yaml.ScalarNode) and called.value == name:
            found: yaml.Node = node
            return found
    return None


def _value(node: yaml.Node | None, name: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for key, value in pairs if key.value == name), None)


def _loaded(text: str) -> Any:
    try:
        return loaded(text)
    except yaml.YAMLError:
        return None
