"""Where a stream of decisions stands: of each partition, the next offset; as text, an event's id.

The id of an event names the position right behind it in *every* partition, so whoever has seen it
has seen all before it and nothing after. As text: `3f9aQ1xZ:812.4.77`, the decisions topic's id as
the broker has it (its beginning; nothing on a broker that has none) and offsets by partition; after
`~` the same of dead letters, where the stream has them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

RETENTION = "retention"
"""The broker has deleted it in time."""
REMADE = "topic remade"
"""The topic that it was on is not there any more: another has its name."""

_ID_LETTERS = 8
_TEXT = re.compile(r"(?:[\w-]{1,22}:)?\d{1,19}(?:\.\d{1,19})*", re.ASCII)


class TopicPosition(NamedTuple):
    """Of one topic."""

    topic_id: str
    """The beginning of its id; empty on a broker that knows none."""
    offsets: tuple[int, ...]
    """By partition, what is to be read next."""

    @classmethod
    def of(cls, topic_id: str | None, offsets: Sequence[int]) -> TopicPosition:
        """The position at *offsets* of all partitions."""
        return cls((topic_id or "")[:_ID_LETTERS], tuple(offsets))

    def __str__(self) -> str:
        offsets = ".".join(map(str, self.offsets))
        return f"{self.topic_id}:{offsets}" if self.topic_id else offsets


class Position(NamedTuple):
    """Of the decisions topic, and of that of dead letters where they are streamed."""

    decisions: TopicPosition
    dead_letters: TopicPosition | None = None

    def __str__(self) -> str:
        if self.dead_letters is None:
            return str(self.decisions)
        return f"{self.decisions}~{self.dead_letters}"

    @property
    def topics(self) -> list[TopicPosition]:
        """Of those that are streamed."""
        return [topic for topic in self if topic is not None]

    def of_decisions(self) -> Position:
        """The same, without dead letters."""
        return Position(self.decisions)

    def is_ahead_of(self, other: Position) -> bool:
        """Whether some partition was read further than there."""
        return other.behind(self) > 0

    def behind(self, end: Position) -> int:
        """How many offsets lie between this and *end*, where that is further."""
        return sum(
            max(0, last - offset)
            for topic, target in zip(self.topics, end.topics, strict=True)
            for offset, last in zip(topic.offsets, target.offsets, strict=True)
        )


def position_of(text: str, partitions: int, *, with_dead_letters: bool) -> Position:
    """The position that an event's id names. Raises ValueError, which says what is wrong.

    >>> str(position_of("3f9aQ1xZ:812.4", 2, with_dead_letters=False))
    '3f9aQ1xZ:812.4'
    """
    decisions, has_letters, letters = text.partition("~")
    if with_dead_letters and not has_letters:
        raise ValueError("it is the id of a stream without dead letters")
    position = Position(_topic_position(decisions, partitions))
    if not with_dead_letters:
        return position
    return position._replace(dead_letters=_topic_position(letters, partitions))


def _topic_position(text: str, partitions: int) -> TopicPosition:
    if not _TEXT.fullmatch(text):
        raise ValueError("it is no id of an event of this stream")
    topic_id, _, numbers = text.rpartition(":")
    offsets = tuple(map(int, numbers.split(".")))
    if len(offsets) != partitions:
        raise ValueError(f"it names {len(offsets)} partitions, and the pipeline has {partitions}")
    return TopicPosition(topic_id, offsets)


class Gap(NamedTuple):
    """What cannot be read any more: offsets of a partition, from *start* up to *end*."""

    topic: str
    partition: int
    start: int
    end: int
    because: str


def reachable(
    topic: str, at: TopicPosition, first: TopicPosition, ends: Sequence[int]
) -> tuple[TopicPosition, list[Gap]]:
    """Where reading can go on that stood *at* a position, and what is missing before that.

    The topic begins at *first* now, and ends at *ends*.

    >>> here = TopicPosition("abc", (5, 0))
    >>> reachable("p.decisions", TopicPosition("abc", (3, 7)), here, [9, 9])
    (TopicPosition(topic_id='abc', offsets=(5, 7)), [Gap(topic='p.decisions', partition=0, \
start=3, end=5, because='retention')])
    """
    other = bool(at.topic_id and first.topic_id) and at.topic_id != first.topic_id
    offsets, gaps = list[int](), list[Gap]()
    for partition, (offset, begin, end) in enumerate(
        zip(at.offsets, first.offsets, ends, strict=True)
    ):
        is_gone = other or offset > end
        if is_gone or offset < begin:
            because = REMADE if is_gone else RETENTION
            gaps.append(Gap(topic, partition, offset, begin, because))
        offsets.append(begin if is_gone else max(offset, begin))
    return TopicPosition(first.topic_id, tuple(offsets)), gaps


class Cursor:
    """A position that moves on, record by record, and the ids on its way."""

    def __init__(self, position: Position) -> None:
        self._topics = [_TopicCursor(topic) for topic in position.topics]

    @property
    def position(self) -> Position:
        """Where it stands."""
        return Position(*(topic.position for topic in self._topics))

    def offset(self, partition: int, *, is_decision: bool) -> int:
        """What is to be read next there."""
        return self._topics[not is_decision].offsets[partition]

    def advance(self, partition: int, offset: int, *, is_decision: bool) -> None:
        """What is to be read next there is *offset*."""
        self._topics[not is_decision].advance(partition, offset)

    def event_id(self, *, with_dead_letters: bool) -> bytes:
        """The id of what was just read."""
        decisions = self._topics[0].text
        return b"%b~%b" % (decisions, self._topics[1].text) if with_dead_letters else decisions


class _TopicCursor:
    def __init__(self, position: TopicPosition) -> None:
        self.topic_id, self.offsets = position.topic_id, [*position.offsets]
        self._prefix = f"{position.topic_id}:".encode() if position.topic_id else b""
        self._numbers = [b"%d" % offset for offset in self.offsets]

    @property
    def position(self) -> TopicPosition:
        return TopicPosition(self.topic_id, tuple(self.offsets))

    @property
    def text(self) -> bytes:
        return self._prefix + b".".join(self._numbers)

    def advance(self, partition: int, offset: int) -> None:
        self.offsets[partition] = offset
        self._numbers[partition] = b"%d" % offset
