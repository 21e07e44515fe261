r"""Edits of a pipeline file: new thresholds, new parameters, and every other byte kept.

The text is changed where YAML's own marks say that a value stands. A library that writes the whole
document again (ruamel.yaml, round trip) keeps comments, but lays out anew what is written over
several lines or aligned with spaces. What comes out is read again: an edit that does not say just
what it should, of an alias for example, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import yaml

from topics.errors import AnabranchError
from topics.pipeline.fields import Scalar
from topics.pipeline.yaml_text import composed, loaded, scalar


class FileNotWritable(AnabranchError):
    """The pipeline file cannot be replaced."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(f"{path} is left as it was: {cause}")


class PolicyNotEditable(AnabranchError):
    """The thresholds cannot be changed in the file as it is written."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the thresholds are not written: {why}; change the file by hand")


class ParametersNotEditable(AnabranchError):
    """The parameters cannot be changed in the file as it is written."""

    def __init__(self, component: str) -> None:
        super().__init__(
            f"the parameters of {component} are not written: the file has them in a way that is "
            "not understood here (an alias, for example); change the file by hand"
        )


class _Edit(NamedTuple):
    """What to put in place of a part of the text."""

    start: int
    end: int
    text: str


def rewrite(path: Path, edited: Callable[[str], str]) -> None:
    """Replace the file by what *edited* makes of its text, with the same permissions.

    Raises FileNotWritable, and whatever *edited* raises; the file is then as it was.
    """
    aside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        aside.write_text(edited(path.read_text(encoding="utf-8")), encoding="utf-8")
        aside.chmod(path.stat().st_mode)
        aside.replace(path)
    except OSError as error:
        raise FileNotWritable(path, error.strerror or str(error)) from error
    finally:
        aside.unlink(missing_ok=True)


# -- thresholds


def with_thresholds(text: str, thresholds: Mapping[str, float], version: int) -> str:
    """The YAML *text* of a pipeline file with other *thresholds* and policy *version*.

    Raises PolicyNotEditable when the file's thresholds are of other decisions, or the text is no
    plain mapping (an alias, for example).
    """
    policy = _policy_mapping(_value(composed(text), "policy"))
    current = _policy_mapping(_value(policy, "thresholds"))
    if [key.value for key, _ in current.value] != list(thresholds):
        raise PolicyNotEditable(f"the file has others than {', '.join(thresholds)}")
    edits = [_replacement(node, threshold_text(thresholds[key.value]))
             for key, node in current.value]  # fmt: skip
    written_version = _value(policy, "version")
    if written_version is None:
        edits.append(_insertion(policy, f"version: {version}"))
    else:
        edits.append(_replacement(written_version, str(version)))
    changed = _applied(text, edits)
    wanted = loaded(text)
    wanted["policy"] |= {"thresholds": dict(thresholds), "version": version}
    if _loaded(changed) != wanted:
        raise PolicyNotEditable("they are written in a way that is not understood here")
    return changed


def threshold_text(threshold: float) -> str:
    """The number without an exponent: YAML takes 1e-05 for a word.

    >>> threshold_text(0.00001), threshold_text(0.5)
    ('0.00001', '0.5')
    """
    return np.format_float_positional(threshold, trim="0")


def _policy_mapping(node: yaml.Node | None) -> yaml.MappingNode:
    if not isinstance(node, yaml.MappingNode):
        raise PolicyNotEditable("they are not where the policy has them")
    return node


# -- parameters


def with_parameters(text: str, component: str, parameters: Mapping[str, Scalar]) -> str:
    r"""The YAML *text* of a pipeline file, with *parameters* among those of *component*.

    Its other parameters stay. Raises ParametersNotEditable.

    >>> text = "components:\n- {name: risk, model: {estimator: a.B}}  # ours\n"
    >>> print(with_parameters(text, "risk", {"depth": 4}), end="")
    components:
    - {name: risk, model: {parameters: {depth: 4}, estimator: a.B}}  # ours
    """
    model = _value(_component(composed(text), component), "model")
    if not isinstance(model, yaml.MappingNode):
        raise ParametersNotEditable(component)
    changed = _applied(text, _parameter_edits(model, parameters))
    wanted = loaded(text)
    spec = next(spec for spec in wanted["components"] if spec["name"] == component)["model"]
    spec["parameters"] = {**(spec.get("parameters") or {}), **parameters}
    if _loaded(changed) != wanted:
        raise ParametersNotEditable(component)
    return changed


def _parameter_edits(model: yaml.MappingNode, parameters: Mapping[str, Scalar]) -> list[_Edit]:
    current = _value(model, "parameters")
    if not isinstance(current, yaml.MappingNode) or not current.value:
        entries = ", ".join(_entry(name, value) for name, value in parameters.items())
        if current is not None:
            return [_replacement(current, f"{{{entries}}}")]
        return [_insertion(model, f"parameters: {{{entries}}}")]
    nodes = {key.value: node for key, node in current.value}
    edits = [
        _replacement(nodes[name], scalar(value))
        for name, value in parameters.items()
        if name in nodes
    ]
    new = [_entry(name, value) for name, value in parameters.items() if name not in nodes]
    return [*edits, _insertion(current, *new)] if new else edits


def _entry(name: str, value: Scalar) -> str:
    return f"{scalar(name)}: {scalar(value)}"


def _component(root: yaml.Node | None, name: str) -> yaml.Node | None:
    components = _value(root, "components")
    for node in components.value if isinstance(components, yaml.SequenceNode) else []:
        name_node = _value(node, "name")
        if isinstance(name_node, yaml.ScalarNode) and name_node.value == name:
            component: yaml.Node = node
            return component
    return None


# -- YAML's nodes and the text


def _value(node: yaml.Node | None, name: str) -> yaml.Node | None:
    """The value of a mapping's key; None where there is none."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for key, value in pairs if key.value == name), None)


def _replacement(node: yaml.Node, text: str) -> _Edit:
    return _Edit(node.start_mark.index, node.end_mark.index, text)


def _insertion(mapping: yaml.MappingNode, *entries: str) -> _Edit:
    """New entries before all others of a mapping that has some."""
    first = mapping.value[0][0].start_mark
    separator = ", " if mapping.flow_style else "\n" + " " * first.column
    return _Edit(first.index, first.index, "".join(entry + separator for entry in entries))


def _applied(text: str, edits: Iterable[_Edit]) -> str:
    """The text with all *edits*, which do not overlap."""
    for start, end, replacement in sorted(edits, reverse=True):
        text = text[:start] + replacement + text[end:]
    return text


def _loaded(text: str) -> Any:
    """The value of a text; None where an edit has made it no YAML."""
    try:
        return loaded(text)
    except yaml.YAMLError:
        return None
