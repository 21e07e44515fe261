"""Who owns a request with a key, by the order of the log."""

from __future__ import annotations

from agents.gateway.keyed.request_ledger import KEPT_MS, LEASE_MS, Request, RequestLedger
from topics.records import RequestRecord

KEY, START = b"key", 1_000_000


def claim(name: str, content: str = "c") -> bytes:
    return RequestRecord(kind="claim", claim=name, content=content).model_dump_json().encode()


def placement(name: str, *places: tuple[int, int]) -> bytes:
    return RequestRecord(kind="placement", claim=name, places=places).model_dump_json().encode()


def known(*records: tuple[int, bytes]) -> Request:
    ledger = RequestLedger()
    for after_ms, value in records:
        ledger.take(KEY, START + after_ms, value)
    request = ledger.request(KEY)
    assert request is not None
    return request


def test_the_first_claim_owns_a_key() -> None:
    request = known((0, claim("a")), (1, claim("b")), (LEASE_MS, claim("c")))
    assert (request.owner, request.takeovers, request.places) == ("a", 0, None)


def test_a_claim_takes_over_once_the_lease_of_the_owner_is_over() -> None:
    late = LEASE_MS + 1
    request = known((0, claim("a")), (late, claim("b")), (late + LEASE_MS, claim("c")))
    assert (request.owner, request.takeovers) == ("b", 1)


def test_nobody_takes_over_what_is_placed_or_with_other_events() -> None:
    late = 2 * LEASE_MS
    placed = known((0, claim("a")), (1, placement("a", (0, 7), (3, 9))), (late, claim("b")))
    assert (placed.owner, placed.places) == ("a", ((0, 7), (3, 9)))
    assert known((0, claim("a")), (late, claim("b", "other"))).owner == "a"


def test_the_first_placement_stays() -> None:
    request = known((0, claim("a")), (1, placement("a", (0, 7))), (2, placement("b", (0, 8))))
    assert request.places == ((0, 7),)


def test_a_key_is_free_again_after_its_time_and_what_is_old_is_forgotten() -> None:
    again = known((0, claim("a")), (1, placement("a", (0, 7))), (KEPT_MS + 1, claim("b", "new")))
    assert (again.owner, again.content, again.places) == ("b", "new", None)
    ledger = RequestLedger()
    for number in range(5):
        ledger.take(b"%d" % number, START + number, claim("a"))
    ledger.forget_before(START + 3)
    assert [ledger.request(b"%d" % number) is not None for number in range(5)] == [
        False, False, False, True, True
    ]  # fmt: skip


def test_what_is_not_ours_is_passed_over_and_keys_are_bounded() -> None:
    ledger = RequestLedger(most_keys=1)
    for value in (None, b"", b"x", b'{"kind": "claim"}', b'{"kind": "mood", "claim": "a"}'):
        ledger.take(KEY, START, value)
    ledger.take(None, START, claim("a"))
    ledger.take(KEY, START, placement("a", (0, 1)))
    assert (len(ledger), ledger.is_full) == (0, False)
    ledger.take(KEY, START, claim("a"))
    assert ledger.is_full
