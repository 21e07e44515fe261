"""Reading YAML of others: never more than a bounded amount of work and memory.

A few hundred bytes of aliases can stand for billions of values, and half a megabyte of dashes takes
a gigabyte. So what is counted is the text, what it is made of, and what that is with every alias
written out. Whoever reads a file gets its nodes here, and values from these nodes.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

_Events: Any
try:
    from yaml.cyaml import CParser as _Events  # type: ignore[attr-defined]  # it has it
except ImportError:  # PyYAML was built without libyaml, which is ten times as fast

    class _Events(Reader, Scanner, Parser):  # type: ignore[no-redef]
        """A text taken apart by Python."""

        def __init__(self, text: str) -> None:
            Reader.__init__(self, text)
            Scanner.__init__(self)
            Parser.__init__(self)


MAX_CHARACTERS = 2**20
MAX_NODES = 100_000
"""Values and names, with each alias written out."""
MAX_DEPTH = 50
MAX_SCALAR = 2**14
"""Characters of one value."""


class _Loader(Composer, _Events, SafeConstructor, Resolver):  # type: ignore[misc]  # either one
    """A loader that gives up a text that is too large while it reads it."""

    def __init__(self, text: str) -> None:
        _Events.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self._nodes = 0
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node, and all that is in it."""
        self._nodes += 1
        self._depth += 1
        event: Any = self.peek_event()
        mark = event.start_mark
        _check(self._nodes <= MAX_NODES, f"it has more than {MAX_NODES:,} values", mark)
        _check(self._depth <= MAX_DEPTH, "nested too deeply", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, yaml.ScalarNode):
            _check(len(node.value) <= MAX_SCALAR, f"longer than {MAX_SCALAR:,} characters", mark)
        return node


def composed(text: str) -> yaml.Node | None:
    """The nodes of a YAML text. Raises yaml.YAMLError, also where it stands for too much."""
    if len(text) > MAX_CHARACTERS:
        raise ConstructorError(None, None, f"it has more than {MAX_CHARACTERS:,} characters")
    loader = _Loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
    finally:
        loader.dispose()
    if node is not None:
        _expanded_size(node, {}, set())
    return node


def loaded(text: str) -> Any:
    """The value of a YAML text. Raises yaml.YAMLError, also where it stands for too much."""
    node = composed(text)
    return None if node is None else yaml.SafeLoader("").construct_document(node)


def _expanded_size(node: yaml.Node, known: dict[int, int], around: set[int]) -> int:
    """How many values *node* is with its aliases written out; each node is looked at once."""
    mark = node.start_mark
    _check(id(node) not in around, "a value holds itself", mark)
    if id(node) not in known:
        around.add(id(node))
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [child for pair in node.value for child in pair]
        known[id(node)] = 1 + sum(_expanded_size(child, known, around) for child in inner)
        around.remove(id(node))
        reason = f"with its aliases written out it has more than {MAX_NODES:,} values"
        _check(known[id(node)] <= MAX_NODES, reason, mark)
    return known[id(node)]


def _check(fits: bool, otherwise: str, mark: yaml.Mark) -> None:  # what is checked
    if not fits:
        raise ConstructorError(None, None, otherwise, mark)


def scalar(value: object) -> str:
    """*value* as YAML on one line, quoted where YAML would read something else.

    >>> scalar("amount"), scalar("no"), scalar("a, b"), scalar(1e-07)
    ('amount', "'no'", "'a, b'", '1.0e-07')
    """
    printable = str(value).isprintable()  # YAML breaks lines at more characters than Python
    listed: str = yaml.safe_dump(
        [value], default_flow_style=True, allow_unicode=printable, width=2**31 - 1,
        default_style=None if printable else '"',  # the only style that escapes a line's end
    )  # fmt: skip
    return listed.strip()[1:-1]
