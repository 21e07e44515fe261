"""The same game, played by the libraries shap and lime: to compare with, on request.

Both see it as a function of k indicators, of whether each group is the event's. shap's exact
explainer comes to the values that `models.explain.shapley` does; its permutation explainer
estimates them where there are many groups. LIME (M. T. Ribeiro, S. Singh, C. Guestrin, *"Why Should
I Trust You?"*, KDD 2016) fits a line to scores around the event: its weights rank groups, and do
not sum to the score.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

from models.arrays import Floats64
from models.explain.shapley import MOST_EXACT, Game
from topics.errors import MissingExtra

Library = Literal["shap", "lime"]
_SEED = 0
_SAMPLES = 1000
"""Around the event, for LIME: with ten groups, about as many coalitions as there are."""
_EVALUATIONS = 20
"""Orders that shap's permutation explainer tries, forward and backward."""


def library_values(library: Library, game: Game, players: int) -> Floats64:
    """What *library* says that each player adds (k,). Raises MissingExtra."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries below them, about each other
            return _shap(game, players) if library == "shap" else _lime(game, players)
    except ImportError as exc:
        raise MissingExtra(f"--method {library}", "explain") from exc


def _shap(game: Game, players: int) -> Floats64:
    import shap

    none, everybody = np.zeros((1, players)), np.ones((1, players))

    def worth(indicators: Floats64) -> Floats64:
        return game(indicators > 0)

    if players <= MOST_EXACT:
        explained = shap.explainers.Exact(worth, none)(everybody, silent=True)
    else:
        explain = shap.explainers.Permutation(worth, none, seed=_SEED)
        explained = explain(everybody, max_evals=_EVALUATIONS * (2 * players + 1), silent=True)
    values: Floats64 = np.asarray(explained.values[0], np.float64)
    return values


def _lime(game: Game, players: int) -> Floats64:
    from lime.lime_tabular import LimeTabularExplainer

    drawn = np.random.default_rng(_SEED).integers(0, 2, (_SAMPLES, players))
    drawn[:2] = [[0], [1]]  # so that each group is seen both ways
    explain = LimeTabularExplainer(
        drawn.astype(np.float64), mode="regression", categorical_features=[*range(players)],
        feature_selection="none", random_state=_SEED,
    )  # fmt: skip

    def worth(indicators: Floats64) -> Floats64:
        coalitions, places = np.unique(indicators > 0, axis=0, return_inverse=True)
        scores: Floats64 = game(coalitions)[places.reshape(-1)]
        return scores

    told = explain.explain_instance(
        np.ones(players), worth, num_features=players, num_samples=_SAMPLES
    )
    weights = dict(told.as_map()[1])  # under 0 are the same with the other sign
    return np.array([weights.get(player, 0.0) for player in range(players)])
