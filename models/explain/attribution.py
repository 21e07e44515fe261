"""What each group of features adds to an event's score: its Shapley value.

The game is the interventional one (D. Janzing, L. Minorics, P. Blöbaum, *Feature relevance
quantification in explainable AI: A causal problem*, AISTATS 2020): a coalition is worth the mean
score of rows that have its columns from the event, and the others from a background row. So 2^k
coalitions of B rows are scored an event, and base + Σ value = score, to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Bools, Floats32, Floats64, Ints
from models.component import Floats
from models.explain.column_groups import ColumnGroups
from models.explain.composed_score import ComposedScore
from models.explain.libraries import Library, library_values
from models.explain.shapley import MOST_EXACT, Game, all_coalitions, exact_values, sampled_values
from models.registry import Background, RecordedOutput, RegistryError

ORDERS = 64
"""How many orders are sampled, each with its reverse, where there are many groups."""
_CHUNK_BYTES = 2**20
"""Of rows that are scored at once: they fit the cache of a core."""


class BackgroundOutOfDate(RegistryError):
    """Background rows have other columns than the pipeline file or the event."""

    def __init__(self, component: str, has: Sequence[str], wanted: Sequence[str]) -> None:
        super().__init__(
            f"background rows have other columns of {component} than this event, by this pipeline "
            f"file: {', '.join(has) or 'none'} instead of {', '.join(wanted)}; use the file that "
            "was in service with these weights"
        )


def check_columns(
    background: Mapping[str, Sequence[str]], wanted: Mapping[str, Sequence[str]]
) -> None:
    """Raise BackgroundOutOfDate unless it has the *wanted* columns, by component."""
    for name, columns in wanted.items():
        has = background.get(name, [])
        if [*has] != [*columns]:
            raise BackgroundOutOfDate(name, has, columns)


@dataclass(frozen=True, slots=True)
class Attributions:
    """Of N events: base + Σ values = score, but for what LIME says."""

    base: float
    """The mean score of the background rows."""
    scores: Floats64
    """(N,)."""
    values: Floats64
    """What each group adds (N, k)."""
    errors: Floats64 | None
    """The standard error of each value (N, k), where they are estimates."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """What a component says of N rows, and which group each of its columns is in."""

    output: Floats
    """(N, F), as the stages of the score read it."""
    signal: Floats32
    """(N,); where it counts, output and signal are in one group."""
    groups: Ints
    """(F,)."""

    def mixed(self, own: _Rows, events: Ints, coalitions: Bools) -> _Rows:
        """These B rows with the columns of a coalition (P, k) from row (P,) of *own*: P · B rows.

        A pair of event and coalition after the other.
        """
        pairs, rows = len(events), len(self.output)
        inside = coalitions[:, self.groups]
        output = np.where(inside[:, None, :], own.output[events][:, None, :], self.output[None])
        signal = np.where(inside[:, :1], own.signal[events][:, None], self.signal[None])
        return _Rows(output.reshape(pairs * rows, -1), signal.reshape(-1), self.groups)


class Explainer:
    """Explains scores of one function against one background."""

    def __init__(self, score: ComposedScore, groups: ColumnGroups, background: Background) -> None:
        """Columns of the background are those of the score, see `check_columns`.

        Raises PureComponentFailed.
        """
        self._score, self._players = score, len(groups.names)
        self._background: dict[str, _Rows] = {}
        for name, width in score.inputs.items():
            rows = background.outputs[name]
            of_columns = groups.of_columns(name, width)
            self._background[name] = _Rows(score.as_read(rows.output), rows.signal, of_columns)
        self._columns = {name: each.columns for name, each in background.outputs.items()}
        self._rows = background.rows
        self._pairs = max(1, _CHUNK_BYTES // (4 * self._rows * sum(score.inputs.values())))
        self.base = float(self._scores(self._background).mean())

    def explain(
        self, events: Mapping[str, RecordedOutput], *, library: Library | None = None, seed: int = 0
    ) -> Attributions:
        """What the groups add to the scores of N *events*, by component as in a background.

        Exact for up to ten groups; else estimated, by orders that *seed* gives. Or what a *library*
        says. Raises BackgroundOutOfDate, PureComponentFailed and MissingExtra.
        """
        check_columns(self._columns, {name: events[name].columns for name in self._background})
        own = {
            name: _Rows(self._score.as_read(events[name].output), events[name].signal, rows.groups)
            for name, rows in self._background.items()
        }
        scores = self._scores(own)
        if library is not None:
            games = [self._game(own, scores, event) for event in range(len(scores))]
            told = [library_values(library, game, self._players) for game in games]
            return Attributions(self.base, scores, np.array(told), None)
        if self._players <= MOST_EXACT:
            coalitions = all_coalitions(self._players)
            every = np.repeat(np.arange(len(scores)), len(coalitions))
            worth = self._worth(own, scores, every, np.tile(coalitions, (len(scores), 1)))
            values = exact_values(worth.reshape(len(scores), -1))
            return Attributions(self.base, scores, values, None)
        sampled = [
            sampled_values(
                self._game(own, scores, event), self._players, ORDERS, np.random.default_rng(seed)
            )
            for event in range(len(scores))
        ]
        return Attributions(
            self.base, scores, np.array([each.values for each in sampled]),
            np.array([each.errors for each in sampled]),
        )  # fmt: skip

    def _game(self, own: Mapping[str, _Rows], scores: Floats64, event: int) -> Game:
        """What coalitions are worth of one event."""
        return lambda coalitions: self._worth(
            own, scores, np.full(len(coalitions), event), coalitions
        )

    def _worth(
        self, own: Mapping[str, _Rows], scores: Floats64, events: Ints, coalitions: Bools
    ) -> Floats64:
        """What coalition (P, k) is worth of event (P,), where the whole is worth *scores*."""
        sizes = coalitions.sum(axis=1)
        worth = np.where(sizes == 0, self.base, scores[events])
        mixed = np.flatnonzero((sizes > 0) & (sizes < self._players))
        for start in range(0, len(mixed), self._pairs):
            some = mixed[start : start + self._pairs]
            rows = {
                name: background.mixed(own[name], events[some], coalitions[some])
                for name, background in self._background.items()
            }
            worth[some] = self._scores(rows).reshape(len(some), self._rows).mean(axis=1)
        return worth

    def _scores(self, rows: Mapping[str, _Rows]) -> Floats64:
        return self._score.scores(
            {name: each.output for name, each in rows.items()},
            {name: each.signal for name, each in rows.items()},
        )
