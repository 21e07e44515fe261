"""Shapley values are what the definition says, and sum to what all players together add."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.arrays import Bools, Floats64, Ints
from models.explain.shapley import all_coalitions, exact_values, sampled_values

GAMES = st.integers(1, 5).flatmap(
    lambda players: st.lists(
        st.floats(-10, 10, allow_subnormal=False), min_size=2**players, max_size=2**players
    )
)


def number_of(coalitions: Bools) -> Ints:
    """The place of each coalition among all."""
    numbers: Ints = (coalitions << np.arange(coalitions.shape[1])).sum(axis=1)
    return numbers


def by_definition(worth: Floats64) -> Floats64:
    """The mean over all orders of what each player adds to those before it."""
    players = len(worth).bit_length() - 1
    orders = [*permutations(range(players))]
    values = np.zeros(players)
    for order in orders:
        inside = 0
        for player in order:
            values[player] += worth[inside | 1 << player] - worth[inside]
            inside |= 1 << player
    return values / len(orders)


@given(GAMES)
def test_values_are_the_mean_over_all_orders(game: list[float]) -> None:
    worth = np.array(game)
    assert exact_values(worth[None])[0] == pytest.approx(by_definition(worth), abs=1e-9)


@given(GAMES)
def test_values_sum_to_what_all_players_add(game: list[float]) -> None:
    worth = np.array([game])
    assert exact_values(worth).sum() == pytest.approx(game[-1] - game[0], abs=1e-9)


@given(GAMES, st.floats(-5, 5))
def test_a_player_that_adds_the_same_to_every_coalition_gets_that(
    game: list[float], share: float
) -> None:
    worth = np.array([[*game, *(value + share for value in game)]])
    assert exact_values(worth)[0, -1] == pytest.approx(share, abs=1e-9)


def test_coalitions_are_all_there_are_each_once() -> None:
    coalitions = all_coalitions(6)
    assert coalitions.shape == (64, 6)
    assert number_of(coalitions).tolist() == list(range(64))


@given(GAMES, st.integers(0, 99))
def test_sampled_values_sum_to_what_all_players_add_too(game: list[float], seed: int) -> None:
    worth = np.array(game)
    players = len(game).bit_length() - 1
    sampled = sampled_values(
        lambda coalitions: worth[number_of(coalitions)], players, 3, np.random.default_rng(seed)
    )
    assert sampled.values.sum() == pytest.approx(game[-1] - game[0], abs=1e-9)


def test_sampled_values_are_as_near_to_the_exact_ones_as_their_errors_say() -> None:
    rng = np.random.default_rng(4)
    worth = rng.normal(size=2**8)
    exact = exact_values(worth[None])[0]
    misses = []
    for seed in range(40):
        sampled = sampled_values(
            lambda coalitions: worth[number_of(coalitions)], 8, 30, np.random.default_rng(seed)
        )
        misses.append((sampled.values - exact) / sampled.errors)
    spread = np.array(misses).std()
    assert 0.8 < spread < 1.25, "errors in units of the standard error have a spread of one"


def test_a_game_of_independent_players_needs_no_more_than_two_orders() -> None:
    shares = np.array([1.0, -2.0, 0.5, 0.0])
    sampled = sampled_values(lambda players: players @ shares, 4, 2, np.random.default_rng(0))
    assert sampled.values == pytest.approx(shares)
    assert sampled.errors == pytest.approx(0)
    with pytest.raises(ValueError, match="two orders"):
        sampled_values(lambda players: players @ shares, 4, 1, np.random.default_rng(0))
