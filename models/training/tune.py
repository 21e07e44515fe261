"""Which parameters rank best: candidates of the pipeline file, by successive halving.

All candidates are tried on few rows, the better third of them on three times as many, and so
on (Jamieson & Talwalkar, *Non-stochastic Best Arm Identification and Hyperparameter
Optimization*, 2016), with scikit-learn's HalvingGridSearchCV. Folds go forward in time: a
candidate is fitted on rows before those that it is judged on, without rows whose outcome is
not known by then. Only rows that training first fits the component on are used, so what
training reports later is of rows that no choice was made on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from joblib import parallel_config
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  # makes the next importable
from sklearn.metrics import average_precision_score
from sklearn.model_selection import (
    HalvingGridSearchCV,
    ParameterGrid,
    ParameterSampler,
    TimeSeriesSplit,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from models.arrays import Bools, Floats32, Ints
from models.errors import FitFailed, OneClass
from models.report.quality import ReportPart
from models.training.engines import Engine, one_thread
from models.training.estimators import exact_scaler, is_scaled, is_supervised
from models.training.splits import known_part
from topics.pipeline import Scalar

Parameters = Mapping[str, Scalar]
Fold = tuple[Ints, Ints]

FOLDS = 3
_FACTOR = 3
_FEWEST_POSITIVES = 10
"""In a fold's test rows, on average, also where candidates are tried on few rows."""


class Candidate(ReportPart):
    """One choice of parameters, and how it did where it was tried last."""

    parameters: dict[str, Scalar]
    average_precision: float
    """Mean over the folds; of a detector's novelty, where there are no probabilities."""
    spread: float
    """Standard deviation over the folds."""
    rows: int
    """Rows that it was tried on, all folds together."""
    in_file: bool
    """Whether the pipeline file has it now."""


class TuningResult(ReportPart):
    """What became of a component's candidates, the best first."""

    component: str
    rows: int
    candidates: list[Candidate]

    @property
    def best(self) -> Candidate:
        """Of those tried on the most rows, the one that ranks best."""
        return self.candidates[0]


class ForwardSplits:
    """Splits for scikit-learn, forward in time; tells *on_round* when they are asked for."""

    def __init__(self, folds: list[Fold], on_round: Callable[[], None]) -> None:
        self._folds, self._on_round = folds, on_round

    def __reduce__(self) -> tuple[Any, ...]:
        """Nothing of it: scikit-learn sends it with every task, and asks it only here."""
        return ForwardSplits, ([], print)

    def get_n_splits(self, *_: Any, **_groups: Any) -> int:
        """How many folds."""
        return len(self._folds)

    def split(self, *_: Any, **_groups: Any) -> Iterator[Fold]:
        """Rows to fit on and, later in time, rows to judge on."""
        self._on_round()
        yield from self._folds


class ExactScaler(StandardScaler):  # type: ignore[misc]  # scikit-learn is Any
    """The scaler of `models.training.estimators`, fitted anew for every fold."""

    def fit(self, x: Floats32, _y: object = None) -> Self:
        """Fit on *x* (N, F)."""
        self.__dict__.update(exact_scaler(x).__dict__)
        return self


def forward_folds(times: Ints | None, labels: Bools, delay_ms: int) -> list[Fold]:
    """Folds of N rows in order of *times*, None for rows without: fit before, judge after.

    Rows to fit on whose outcome is not known when those to judge on begin are left out, where
    at least half are left. Raises OneClass.
    """
    folds = []
    for before, after in TimeSeriesSplit(FOLDS).split(labels):
        rows = slice(0, len(before))
        if times is not None:
            rows = known_part(rows, int(after[0]), times, labels, delay_ms) or rows
        for part in (before[rows], after):
            if labels[part].all() or not labels[part].any():
                raise OneClass("of a fold", int(part[0]), int(part[-1]) + 1, bool(labels[part[0]]))
        folds.append((before[rows], after))
    return folds


def choices(
    candidates: Mapping[str, list[Scalar]], current: Parameters, most: int, seed: int
) -> list[dict[str, Scalar]]:
    """The *current* parameters and every combination of *candidates*, or *most* of them.

    >>> choices({"depth": [4, 8]}, {"depth": 4}, most=10, seed=0)
    [{'depth': 4}, {'depth': 8}]
    """
    grid = ParameterGrid({name: list(dict.fromkeys(values)) for name, values in candidates.items()})
    tried = (
        grid if len(grid) <= most else ParameterSampler(grid.param_grid, most, random_state=seed)
    )
    return [dict(current), *(dict(each) for each in tried if dict(each) != dict(current))]


def fewest_rows(rows: int, count: int, rarest: int) -> int:
    """Rows to start with, so that the last of *count* candidates are tried on all of *rows*.

    *rarest* are the positives among the test rows of the fold that has fewest.
    """
    rounds = int(math.log(max(count, 1), _FACTOR))
    while rounds and rarest / _FACTOR**rounds < _FEWEST_POSITIVES:
        rounds -= 1
    return rows // int(_FACTOR**rounds)


def search(
    component: str,
    estimator: Any,
    x: Floats32,
    labels: Bools,
    folds: list[Fold],
    tried: list[dict[str, Scalar]],
    *,
    engine: Engine,
    seed: int,
    on_round: Callable[[], None],
) -> TuningResult:
    """Try the parameters *tried*, the file's first, on rows *x* (N, F). Raises FitFailed."""
    prepared = estimator
    if is_scaled(estimator):
        prepared = Pipeline([("scaler", ExactScaler()), ("model", estimator)])
    prefix = "" if prepared is estimator else "model__"
    rarest = min(int(labels[after].sum()) for _, after in folds)
    halving = HalvingGridSearchCV(
        prepared,
        [{prefix + name: [value] for name, value in each.items()} for each in tried],
        factor=_FACTOR,
        min_resources=fewest_rows(len(x), len(tried), rarest),
        cv=ForwardSplits(folds, on_round),
        scoring=_of_novelty if not is_supervised(estimator) else _of_probability,
        refit=False,
        error_score="raise",
        return_train_score=False,
        random_state=seed,
    )
    try:
        with one_thread(), parallel_config(**engine.joblib()):
            halving.fit(x, labels)
    except (TypeError, ValueError) as exc:  # scikit-learn checks values of parameters in fit
        raise FitFailed(type(estimator).__name__, str(exc)) from exc
    return TuningResult(
        component=component, rows=len(x), candidates=_ranked(halving.cv_results_, prefix, tried[0])
    )


def _ranked(results: Mapping[str, Any], prefix: str, in_file: Parameters) -> list[Candidate]:
    """Each candidate as it was tried last: those of the last round first, the best first."""
    last: dict[str, tuple[int, Candidate]] = {}
    for place, parameters in enumerate(results["params"]):
        plain = {name.removeprefix(prefix): value for name, value in parameters.items()}
        last[repr(plain)] = (
            int(results["iter"][place]),
            Candidate(
                parameters=plain,
                average_precision=float(results["mean_test_score"][place]),
                spread=float(results["std_test_score"][place]),
                rows=int(results["n_resources"][place]),
                in_file=plain == dict(in_file),
            ),
        )
    ranked = sorted(last.values(), key=lambda entry: (-entry[0], -entry[1].average_precision))
    return [candidate for _, candidate in ranked]


def _of_probability(fitted: Any, x: Floats32, y: Bools) -> float:
    return float(average_precision_score(y, fitted.predict_proba(x)[:, 1]))


def _of_novelty(fitted: Any, x: Floats32, y: Bools) -> float:
    return float(average_precision_score(y, -fitted.score_samples(x)))
