"""Which listeners, that clients cannot use, are a reason to end."""

from __future__ import annotations

from topics.kafka.reachability import Listener, unreachable
from topics.settings import BrokerSettings

OURS = BrokerSettings(broker="kafka-1:9092,kafka-2:9092")


def _listener(address: str, cause: str = "", *, resolved: bool = True) -> Listener:
    return Listener(1, address, cause, resolved)


UP = _listener("kafka-1:9092")
DOWN = _listener("kafka-2:9092", "Connection refused")
ELSEWHERE = _listener("inside:19092", "no answer within 5 s")
NAMELESS = _listener("kafka-3:9092", "Name or service not known", resolved=False)


def test_brokers_that_all_answer_are_fine() -> None:
    assert unreachable(OURS, [UP, UP], patient=False) is None
    assert unreachable(OURS, [], patient=False) is None


def test_a_broker_that_is_away_is_nothing_to_end_for_while_another_is_there() -> None:
    assert unreachable(OURS, [UP, DOWN], patient=False) is None
    assert unreachable(OURS, [UP, ELSEWHERE], patient=False) is None


def test_where_no_broker_can_be_reached_where_it_says_that_is_told_at_once() -> None:
    told = str(unreachable(OURS, [ELSEWHERE], patient=True))
    assert "kafka-1:9092,kafka-2:9092 answers, but tells clients to use broker 1 at" in told
    assert "inside:19092, which cannot be reached from here (no answer within 5 s)" in told


def test_a_broker_that_went_away_a_moment_ago_is_waited_for() -> None:
    assert unreachable(OURS, [DOWN], patient=True) is None
    assert unreachable(OURS, [DOWN], patient=False) is None


def test_a_name_that_is_unknown_may_have_gone_with_its_broker_and_is_told_when_it_stays() -> None:
    assert unreachable(OURS, [UP, NAMELESS], patient=True) is None
    assert "kafka-3:9092" in str(unreachable(OURS, [UP, NAMELESS], patient=False))
    assert "kafka-3:9092" in str(unreachable(OURS, [NAMELESS], patient=True))
