"""What an agent gets: all the records of one fetch, undecoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.structs import ConsumerRecord
from faust import Schema
from faust.types import TP


@dataclass(frozen=True, slots=True)
class Fetch:
    """The records of one fetch by topic-partition, in offset order; none when it is a tick."""

    records: Mapping[TP, Sequence[ConsumerRecord]]
    generation: int


def continued(
    records: Sequence[ConsumerRecord], more: Sequence[ConsumerRecord]
) -> list[ConsumerRecord]:
    """What was fetched of one partition, and then *more*, in offset order.

    Only the latter when it does not follow: the worker has gone back in between, and what
    was fetched before comes again.
    """
    went_back = bool(records) and more[0].offset <= records[-1].offset
    return [*more] if went_back else [*records, *more]


class FetchSchema(Schema[Any, Any]):
    """Hands a fetch to the agent as it is: workers decode bytes themselves, row by row."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        return message.value
