"""Decisions matched with those who asked, whatever comes first."""

from __future__ import annotations

import asyncio

import pytest

from agents.gateway.awaited_answers import Answer, AwaitedAnswers

A, B = Answer(b'{"a": 1}'), Answer(b'{"b": 1}')


async def test_an_answer_reaches_who_waits_for_its_coordinates() -> None:
    answers = AwaitedAnswers()
    with answers.publication():
        first, second = answers.expect((0, 7)), answers.expect((1, 7))
    answers.take((1, 7), B)
    assert await second == B
    assert not first.done()
    answers.take((0, 7), A)
    assert await first == A
    assert len(answers) == 0


async def test_an_answer_that_comes_before_its_publication_is_confirmed_is_kept() -> None:
    answers = AwaitedAnswers()
    with answers.publication():
        answers.take((0, 7), A)
        assert await answers.expect((0, 7)) == A


async def test_what_passes_while_nothing_is_published_is_not_kept() -> None:
    answers = AwaitedAnswers()
    assert not answers.wants((0, 7))
    answers.take((0, 7), A)
    with answers.publication():
        assert not answers.expect((0, 7)).done()


async def test_a_long_publication_keeps_what_came_since_it_began() -> None:
    answers = AwaitedAnswers()
    with answers.publication():
        with answers.publication():
            answers.take((0, 1), A)
        answers.take((0, 2), B)
        assert await answers.expect((0, 1)) == A
        assert await answers.expect((0, 2)) == B
    assert not answers._answers


async def test_a_later_publication_does_not_keep_what_came_before_it() -> None:
    answers = AwaitedAnswers()
    first = answers.publication()
    first.__enter__()
    answers.take((0, 1), A)
    with answers.publication():
        answers.take((0, 2), B)
        first.__exit__(None, None, None)
        assert {*answers._answers} == {(0, 2)}


async def test_what_is_kept_is_bounded_in_bytes() -> None:
    answers = AwaitedAnswers(kept_bytes=20)
    with answers.publication():
        for offset in range(5):
            answers.take((0, offset), A)
        assert {*answers._answers} == {(0, 3), (0, 4)}


async def test_who_gives_up_is_forgotten_and_who_waits_is_told_of_the_end() -> None:
    answers = AwaitedAnswers()
    with answers.publication():
        given_up, waits = answers.expect((0, 1)), answers.expect((0, 2))
    given_up.cancel()
    await asyncio.sleep(0)
    assert len(answers) == 1
    answers.fail(ConnectionError("gone"))
    with pytest.raises(ConnectionError, match="gone"):
        await waits
