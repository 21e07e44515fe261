"""Is the composed score as good as its best stage? `python -m tests.benchmarks.composed_weeks`.

For each week of the handbook's transactions: card-fraud is trained on seven days, with the code of
`anabranch train`, and seven days after a week's delay are scored by the models and weights that it
has registered, with the handbook's protocol (models/report/handbook.py). No Kafka: signals and
scores are those of service to the bit, as the same code makes them (`anabranch evaluate` streams
one week). The interval is of the composed score less the best stage, for each figure that of the
stage with the highest: 95 %, by a bootstrap of cards, the same ones for both.

The data is no part of the project: `ANABRANCH_HANDBOOK` names its folder.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from agents.commands.labelled_events import from_file
from agents.components import open_component
from agents.demo.evaluation_data import outcomes_of, training_days, transactions_in
from models.quality.bootstrap import clusters_of
from models.quality.weighted_figures import Judgement
from models.registry import Registry
from models.report.ablation import scores_of
from models.report.handbook import OutcomeColumns, Weeks, protocol_figures, test_rows
from models.training.data import TrainingData, with_windows
from models.training.stage_outputs import StageOutputs
from models.training.train import train
from topics.pipeline import PipelineFile, find_pipeline, in_order, load_pipeline

WEEKS = ("2018-05-30", "2018-06-13", "2018-06-27", "2018-07-11", "2018-07-25")
REPLICATES = 200
COLUMNS = ("AUC ROC", "average precision", "card precision@100")
COMPOSED = "composed"
Doubles = NDArray[np.float64]


def scored(
    file: PipelineFile, data: TrainingData, weeks: Weeks, seed: int
) -> tuple[OutcomeColumns, dict[str, Doubles], dict[str, float]]:
    """The test days' outcomes (N,); the signals of the stages and the score (N,); the weights."""
    pipeline, folder = file.pipeline, file.path.parent
    outcomes = outcomes_of(pipeline, data)
    tested = test_rows(outcomes, weeks)
    with TemporaryDirectory(prefix="anabranch-weeks-") as place:
        registry = Registry(Path(place))
        days = training_days(pipeline, data, weeks)
        report = train(pipeline, folder, days, registry, open_component=open_component, seed=seed)
        stages = StageOutputs(pipeline, data.picked(tested))
        for name in in_order(pipeline):
            component = open_component(pipeline, name, registry, folder).component
            stages.run(name, component, lambda _: None)
    names = list(report.weights)
    signals = stages.signals(names, slice(0, stages.data.rows))
    columns = {name: signals[:, at].astype(np.float64) for at, name in enumerate(names)}
    columns[COMPOSED] = scores_of(signals, list(report.weights.values()))
    return outcomes.of(tested), columns, dict(report.weights)


class CardDays:
    """By test day, the highest score of each card, for drawing cards again and again."""

    def __init__(self, outcomes: OutcomeColumns, cards: NDArray[np.int64], scores: Doubles) -> None:
        self._days = [
            _ranked(cards[rows], scores[rows], outcomes.labels[rows])
            for rows in (outcomes.days == day for day in np.unique(outcomes.days))
        ]
        self._count = int(cards.max()) + 1

    def precision(self, times: Doubles, k: int = 100) -> float:
        """Card precision@k where card c was drawn times[c] times: each draw is a card."""
        found, daily = np.zeros(self._count, np.bool_), []
        for cards, compromised in self._days:
            left = ~found[cards]
            drawn = np.where(left, times[cards], 0)
            before = np.cumsum(drawn) - drawn
            taken = np.clip(k - before, 0, drawn)
            hits = compromised & (taken > 0)
            daily.append(float(taken[hits].sum()) / k)
            found[cards[hits]] = True
        return float(np.mean(daily))


def _ranked(
    cards: NDArray[np.int64], scores: Doubles, frauds: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The cards of a day, by their highest score, and which of them have a fraud."""
    order = np.lexsort((np.arange(len(cards)), -scores))
    unique, first = np.unique(cards[order], return_index=True)
    compromised = np.isin(unique, cards[frauds])
    by_score = np.argsort(first, kind="stable")
    return unique[by_score], compromised[by_score]


def differences(
    outcomes: OutcomeColumns, scores: Doubles, others: Sequence[Doubles], seed: int
) -> Doubles:
    """Of replicates (R, 3), each figure of *scores* less that of *others*, one for each figure."""
    cards = clusters_of([str(card) for card in outcomes.entities])
    truth = outcomes.labels.astype(np.float64)
    judged = [[Judgement.of(column, None) for column in (scores, others[at])] for at in range(2)]
    days = [CardDays(outcomes, cards, column) for column in (scores, others[2])]
    rng, drawn = np.random.default_rng(seed), np.empty((REPLICATES, 3))
    for row in drawn:
        times = rng.poisson(1.0, int(cards.max()) + 1).astype(np.float64)
        weights = times[cards]
        for at, figure in enumerate(("auc", "average_precision")):
            ours, other = (
                judgement.figures(truth[judgement.order], weights[judgement.order])[figure]
                for judgement in judged[at]
            )
            row[at] = ours - other
        row[2] = days[0].precision(times) - days[1].precision(times)
    return drawn


def week_table(file: PipelineFile, data: TrainingData, start: date, seed: int) -> list[str]:
    """Rows of the table for the week that begins on *start*."""
    return compared(start, *scored(file, data, Weeks(start, 7, 7, 7), seed), seed)


def compared(
    start: date, outcomes: OutcomeColumns, columns: Mapping[str, Doubles],
    weights: Mapping[str, float], seed: int,
) -> list[str]:  # fmt: skip
    """Rows of the table for what `scored` gives."""
    figures = {
        name: [*protocol_figures(outcomes, column).model_dump().values()]
        for name, column in columns.items()
    }
    stages = list(weights)
    best = [max(stages, key=lambda name, at=at: figures[name][at]) for at in range(3)]  # type: ignore[misc]
    drawn = differences(outcomes, columns[COMPOSED], [columns[name] for name in best], seed)
    rows = [
        f"| {start} | `{name}`, α {weights[name]:.2f} | "
        + " | ".join(f"{value:.3f}" for value in figures[name]) + " |"
        for name in stages
    ]  # fmt: skip
    rows.append(
        f"| {start} | {COMPOSED}, Σ α·y | "
        + " | ".join(f"{value:.3f}" for value in figures[COMPOSED])
        + " |"
    )
    cells = []
    for at, name in enumerate(best):
        low, high = np.percentile(drawn[:, at], (2.5, 97.5))
        less = figures[COMPOSED][at] - figures[name][at]
        cells.append(f"{less:+.3f} [{low:+.3f}, {high:+.3f}]")
    rows.append(f"| {start} | {COMPOSED} less its best stage | " + " | ".join(cells) + " |")
    return rows


def main(arguments: Sequence[str]) -> None:
    """Print the table, week by week."""
    beside = Path(__file__).parents[3] / "shared" / "data" / "handbook"
    parser = argparse.ArgumentParser(description=__doc__, prog="composed_weeks")
    parser.add_argument("--pipeline", default="card-fraud")
    parser.add_argument("--weeks", nargs="+", default=WEEKS, help="First training days.")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    file = load_pipeline(find_pipeline(given.pipeline))
    path = transactions_in(Path(os.environ.get("ANABRANCH_HANDBOOK", beside)))
    data = from_file(file.pipeline, path).in_time_order(file.pipeline.event.time)
    data = with_windows(file.pipeline, data)
    print(f"| week from | | {' | '.join(COLUMNS)} |\n|---|---|---|---|---|", flush=True)
    for week in given.weeks:
        print("\n".join(week_table(file, data, date.fromisoformat(week), given.seed)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
