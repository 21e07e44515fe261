"""A Compose file's text: YAML with anchors that have names, short lists on one line, comments.

Compose 1.29 reads it with PyYAML, which is why PyYAML quotes what is in it. Where a text comes from
a person, `escaped` keeps Compose from putting a variable in place of $NAME.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

Content = dict[Any, Any]
_SHORT = 60
"""Characters of a mapping with one value that stands on one line."""


class Anchored(Content):
    """A mapping that others extend, by the name of its anchor."""

    def __init__(self, name: str, content: Content) -> None:
        super().__init__(content)
        self.name = name


class _Extends:
    """The key `<<`, whose value is an Anchored mapping."""


EXTENDS = _Extends()


def escaped(text: str) -> str:
    """*text* for Compose, which would put a variable in place of $NAME.

    >>> escaped("costs/$HOME")
    'costs/$$HOME'
    """
    return text.replace("$", "$$")


def mount(source: str, target: str) -> Content:
    """A folder of the host for a container to read, whatever characters are in its name."""
    return {"type": "bind", "source": escaped(source), "target": target, "read_only": True}


def compose_text(head: Iterable[str], content: Content, comments: Mapping[str, str]) -> str:
    """The file: lines of its *head*, then *content*; *comments* are by section or service."""
    text = _dumped(content, allow_unicode=True)
    if not text.replace("\n", "").isprintable():  # or a terminal would obey what is in it
        text = _dumped(content, allow_unicode=False)
    lines = [f"# {line}".rstrip() for line in head]
    return "\n".join([*lines, *_spaced(text.splitlines(), comments)]) + "\n"


def _spaced(lines: Iterable[str], comments: Mapping[str, str]) -> Iterator[str]:
    """An empty line before each section and service, and its comment."""
    section, first = "", True
    for line in lines:
        depth = len(line) - len(line.lstrip(" "))
        begins_section = depth == 0
        if begins_section:
            section, first = line, True
        if begins_section or (section == "services:" and depth == 2):
            if begins_section or not first:
                yield ""
            if comment := comments.get(line.strip().split(":")[0]):
                yield f"{' ' * depth}# {comment}"
            first = begins_section
        yield line


class _Dumper(yaml.SafeDumper):
    """As a person would write it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.anchor_names: dict[yaml.Node, str] = {}

    def ignore_aliases(self, data: object) -> bool:
        return not isinstance(data, Anchored)

    def generate_anchor(self, node: yaml.Node) -> str:
        return self.anchor_names[node]

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002  # PyYAML's
        super().increase_indent(flow, indentless=False)

    def represent_sequence(
        self, tag: str, sequence: Iterable[Any], flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        node = super().represent_sequence(tag, sequence, flow_style)
        node.flow_style = all(isinstance(item, yaml.ScalarNode) for item in node.value)
        for item in node.value:
            if isinstance(item, yaml.MappingNode):
                item.flow_style = True
        return node

    def represent_mapping(
        self, tag: str, mapping: Any, flow_style: bool | None = None
    ) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        if len(node.value) == 1:
            name, value = node.value[0]
            one_line = isinstance(value, yaml.ScalarNode)
            node.flow_style = one_line and len(name.value + value.value) <= _SHORT
        return node


def _anchored(dumper: _Dumper, mapping: Anchored) -> yaml.MappingNode:
    node = dumper.represent_dict(mapping)
    dumper.anchor_names[node] = mapping.name
    return node


def _merge_key(_dumper: _Dumper, _key: _Extends) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:merge", "<<")


def _nothing(_dumper: _Dumper, _none: None) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:null", "")


def _string(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = None if text.isprintable() else '"'  # the only style that escapes a line's end
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(Anchored, _anchored)
_Dumper.add_representer(_Extends, _merge_key)
_Dumper.add_representer(type(None), _nothing)
_Dumper.add_representer(str, _string)


def _dumped(content: Content, *, allow_unicode: bool) -> str:
    text: str = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, width=2**31 - 1, allow_unicode=allow_unicode
    )
    return text
