"""What a broker says to a member of a group that it does not know (any more)."""

from __future__ import annotations

from aiokafka.errors import BrokerResponseError, UnknownMemberIdError, kafka_errors
from aiokafka.protocol.commit import OffsetCommitResponse_v2, OffsetCommitResponse_v3


class FencedInstanceId(BrokerResponseError):  # type: ignore[misc]  # aiokafka has no types
    """Another member of the group has joined by our name (Kafka's error 82, new to aiokafka)."""

    errno = 82
    message = "FENCED_INSTANCE_ID"


kafka_errors[FencedInstanceId.errno] = FencedInstanceId


def is_unknown(answer: object) -> bool:
    """Whether the broker says that it does not know the member that has asked."""
    codes = [getattr(answer, "error_code", 0)]
    if isinstance(answer, OffsetCommitResponse_v2 | OffsetCommitResponse_v3):
        codes = [code for _, partitions in answer.topics for _, code in partitions]
    return UnknownMemberIdError.errno in codes
