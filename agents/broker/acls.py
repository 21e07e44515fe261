"""Letting each part of a pipeline do what it must, on a broker with an authorizer."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import ClusterAuthorizationFailedError, IncompatibleBrokerVersion
from aiokafka.protocol.admin import CreateAclsRequest

from topics.errors import BrokerError
from topics.kafka import client_options, send_admin_request
from topics.records import Acl
from topics.settings import BrokerSettings

# The numbers of Kafka's protocol: ResourceType, PatternType, AclOperation, AclPermissionType.
_RESOURCES = {"topic": 2, "group": 3, "transactional-id": 5}
_PATTERNS = {"literal": 3, "prefixed": 4}
_OPERATIONS = {"read": 3, "write": 4, "describe": 8}
_ALLOW = 3


class GrantRefused(BrokerError):
    """The broker does not add an ACL."""

    def __init__(self, broker: str, code: int, reason: str | None) -> None:
        why = reason or f"error {code}"
        if code == ClusterAuthorizationFailedError.errno:
            why = "only a super user, or one who may alter the cluster, may grant"
        super().__init__(f"{broker} adds no ACL: {why}")


async def grant(settings: BrokerSettings, acls: Sequence[Acl]) -> None:
    """Add those of *acls* that are not there yet; none is taken away.

    Raises GrantRefused, also when the broker has no authorizer, or knows no ACLs.
    """
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        for acl in acls:
            request = CreateAclsRequest(
                _RESOURCES[acl.resource], acl.name, _PATTERNS[acl.pattern], f"User:{acl.principal}",
                "*", _OPERATIONS[acl.operation], _ALLOW,
            )  # fmt: skip
            try:
                answer = await send_admin_request(admin, request)
            except IncompatibleBrokerVersion as exc:
                why = "it has no ACLs; grant where there is an authorizer"
                raise GrantRefused(settings.broker, 0, why) from exc
            for code, reason in answer.creation_responses:
                if code:
                    raise GrantRefused(settings.broker, code, reason)
    finally:
        await admin.close()
