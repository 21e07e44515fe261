"""New thresholds in a pipeline file's text, and nothing else in it changed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import yaml

from topics.errors import AnabranchError
from topics.pipeline.yaml_text import composed, loaded


class PolicyNotEditable(AnabranchError):
    """The thresholds cannot be changed in the file as it is written."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the thresholds are not written: {why}; change the file by hand")


def with_thresholds(text: str, thresholds: Mapping[str, float], version: int) -> str:
    """The YAML *text* of a pipeline file with other *thresholds* and policy *version*.

    Comments and layout stay. Raises PolicyNotEditable when the file's thresholds are of other
    decisions, or the text is no plain mapping (an alias, for example).
    """
    policy = _mapping(_value(composed(text), "policy"))
    current = _mapping(_value(policy, "thresholds"))
    if [key.value for key, _ in current.value] != list(thresholds):
        raise PolicyNotEditable(f"the file has others than {', '.join(thresholds)}")
    edits = [
        (value.start_mark.index, value.end_mark.index, plain(thresholds[key.value]))
        for key, value in current.value
    ]
    edits.append(_version_edit(policy, version))
    changed = text
    for start, end, new in sorted(edits, reverse=True):
        changed = changed[:start] + new + changed[end:]
    _check(text, changed, thresholds, version)
    return changed


def plain(threshold: float) -> str:
    """The number without an exponent: YAML takes 1e-05 for a word.

    >>> plain(0.00001), plain(0.5)
    ('0.00001', '0.5')
    """
    return np.format_float_positional(threshold, trim="0")


def _version_edit(policy: yaml.MappingNode, version: int) -> tuple[int, int, str]:
    for key, value in policy.value:
        if key.value == "version":
            return value.start_mark.index, value.end_mark.index, str(version)
    first = policy.value[0][0].start_mark
    behind = ", " if policy.flow_style else "\n" + " " * first.column
    return first.index, first.index, f"version: {version}{behind}"


def _check(before: str, after: str, thresholds: Mapping[str, float], version: int) -> None:
    """Raise PolicyNotEditable unless *after* says what it should."""
    wanted = loaded(before)
    wanted["policy"] |= {"thresholds": dict(thresholds), "version": version}
    try:
        found = loaded(after)
    except yaml.YAMLError:
        found = None
    if found != wanted:
        raise PolicyNotEditable("they are written in a way that is not understood here")


def _value(node: yaml.Node | None, name: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for key, value in pairs if key.value == name), None)


def _mapping(node: yaml.Node | None) -> yaml.MappingNode:
    if not isinstance(node, yaml.MappingNode):
        raise PolicyNotEditable("they are not where the policy has them")
    return node
