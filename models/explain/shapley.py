"""Shapley values of a game: what each player adds, averaged over all orders in which they come.

L. S. Shapley, *A Value for n-Person Games*, Contributions to the Theory of Games II (1953). All
coalitions are asked for where there are few players; otherwise orders are sampled, each with its
reverse (antithetic: R. Mitchell, J. Cooper, E. Frank, G. Holmes, *Sampling Permutations for Shapley
Value Estimation*, JMLR 23, 2022). Either way the values sum to what all players together are worth
beyond none: within an order each adds to those before it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import factorial
from typing import NamedTuple

import numpy as np

from models.arrays import Bools, Floats64

MOST_EXACT = 10
"""With more players, orders are sampled."""

Game = Callable[[Bools], Floats64]
"""Coalitions (C, k), True for who is in, to what each is worth (C,)."""


class SampledValues(NamedTuple):
    """Shapley values (k,) of sampled orders, and the standard error (k,) of each."""

    values: Floats64
    errors: Floats64


@cache
def all_coalitions(players: int) -> Bools:
    """The 2^k coalitions of k players, (2^k, k): the one without any first, that of all last.

    >>> all_coalitions(2).astype(int).tolist()
    [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    numbers = np.arange(2**players)[:, None]
    coalitions: Bools = (numbers >> np.arange(players)) & 1 == 1
    coalitions.flags.writeable = False
    return coalitions


def exact_values(worth: Floats64) -> Floats64:
    """Shapley values (N, k) of N games, by what each of `all_coalitions` is worth, (N, 2^k).

    >>> exact_values(np.array([[0.0, 1.0, 2.0, 5.0]])).tolist()
    [[2.0, 3.0]]
    """
    players = worth.shape[1].bit_length() - 1
    values: Floats64 = worth @ _shares(players)
    return values


def sampled_values(
    game: Game, players: int, orders: int, rng: np.random.Generator
) -> SampledValues:
    """Estimates from so many random *orders* (at least 2), each with its reverse.

    The standard error is that of the mean over pairs, which are independent.
    """
    if orders < 2:
        raise ValueError(f"a standard error needs two orders or more, not {orders}")
    pairs = np.empty((orders, players))
    for pair in pairs:
        order = rng.permutation(players)
        pair[:] = (_added(game, order) + _added(game, order[::-1])) / 2
    errors: Floats64 = pairs.std(axis=0, ddof=1) / np.sqrt(orders)
    return SampledValues(pairs.mean(axis=0), errors)


@cache
def _shares(players: int) -> Floats64:
    """What each coalition's worth counts in each player's value, (2^k, k)."""
    coalitions = all_coalitions(players)
    sizes = coalitions.sum(axis=1)
    orders = [factorial(size) * factorial(players - 1 - size) for size in range(players)]
    per_size = np.array([*orders, 0]) / factorial(players)
    joined = np.roll(per_size, 1)[sizes]  # of a player of the coalition: the others were before it
    shares: Floats64 = np.where(coalitions, joined[:, None], -per_size[sizes][:, None])
    return shares


def _added(game: Game, order: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Floats64:
    """What each player (k,) adds to those before it in *order*."""
    players = len(order)
    coalitions = np.zeros((players + 1, players), np.bool_)
    for at, player in enumerate(order.tolist()):
        coalitions[at + 1 :, player] = True
    added = np.empty(players)
    added[order] = np.diff(game(coalitions))
    return added
