"""Rights on a broker that knows none are refused in one sentence."""

from __future__ import annotations

import pytest

from agents.broker import grant
from topics.errors import BrokerError
from topics.pipeline import find_pipeline, load_pipeline
from topics.records import acls
from topics.settings import BrokerSettings


async def test_a_broker_without_acls_says_so(broker: BrokerSettings) -> None:
    pipeline = load_pipeline(find_pipeline("card-fraud")).pipeline
    with pytest.raises(BrokerError, match=r"adds no ACL: it has no ACLs; grant where there is an"):
        await grant(broker, acls(pipeline))
