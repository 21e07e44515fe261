"""What weights that learn lose and gain: `python -m tests.benchmarks.learned_weights`.

Without Kafka. `card-fraud` is trained on the first days of a stream, as `anabranch train` does; of
the days after, whose signals are those of the trained models, each hour's outcomes become known a
week later, and are learned then. Three streams: as it is; from its middle on one assessor's signals
are dealt out among other rows (they look the same, and say nothing); and from there on that
assessor says the opposite of rows (1 - signal). Losses are sums of log loss of the composed score:

    trained   of the trained weights
    learned   of what was learned by the time of each decision
    best      of the best fixed weights for the whole stream, found with hindsight
    two best  of the best before, and the best after the change: what nobody can have

`--handbook` takes the handbook's transactions instead of simulated ones.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.commands.labelled_events import from_file
from agents.components import open_component
from models.arrays import Bools, Floats32, Floats64, Ints
from models.learned_weights import learn_weights
from models.live_weights import FixedShare, LabelledRows, LearningRate
from models.registry import Registry
from models.simulators.card_fraud import simulate_days
from models.training.data import TrainingData, with_windows
from models.training.stage_outputs import StageOutputs
from models.training.train import train
from models.weighting import CLIP, combine
from topics.pipeline import PipelineFile, find_pipeline, in_order, load_pipeline

_BESIDE = Path(__file__).parents[3] / "shared" / "data" / "handbook"
_DAY_MS = 86_400_000
_DELAY_DAYS = 7


@dataclass(frozen=True, slots=True)
class Stream:
    """Decided rows in order of time."""

    names: list[str]
    alpha: Floats64
    """Trained (S,)."""
    signals: Floats32
    """(N, S)."""
    labels: Bools
    times_ms: Ints


def simulated_data(days: int, customers: int, seed: int) -> TrainingData:
    """So many days of the simulator."""
    blocks = list(
        simulate_days(seed, days=days, customers=customers, terminals=2 * customers, radius=5.0)
    )

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(block, name) for block in blocks])

    texts = {name: column(name).astype(str).astype(object)
             for name in ("transaction_id", "customer_id", "terminal_id")}  # fmt: skip
    columns = {**texts, "occurred_at": column("occurred_at").astype(np.int64),
               "amount": column("amount")}  # fmt: skip
    return TrainingData(columns, column("is_fraud"))


def served(file: PipelineFile, data: TrainingData, train_days: int, seed: int) -> Stream:
    """The rows after the training days and the delay, with what the trained stages say of them."""
    pipeline, folder = file.pipeline, file.path.parent
    data = with_windows(pipeline, data.in_time_order(pipeline.event.time))
    times = np.asarray(data.columns[pipeline.event.time]).astype(np.int64)
    # The first 30 days have no past of 30 days: nothing is trained on them.
    day = (times - times[0]) // _DAY_MS
    until = 30 + train_days
    with tempfile.TemporaryDirectory() as place:
        registry = Registry(Path(place))
        rows = np.flatnonzero((day >= 30) & (day < until))
        train(pipeline, folder, data.picked(rows), registry, open_component=open_component,
              seed=seed)  # fmt: skip
        later = data.picked(np.flatnonzero(day >= until + _DELAY_DAYS))
        stages = StageOutputs(pipeline, later)
        for name in in_order(pipeline):
            opened = open_component(pipeline, name, registry, folder)
            stages.run(name, opened.component, lambda _: None)
        names = pipeline.weighting.inputs
        values = registry.weights(pipeline.name).card.values
    return Stream(
        names, np.array([values[name] for name in names]),
        stages.signals(names, slice(0, later.rows)), later.labels,
        np.asarray(later.columns[pipeline.event.time]).astype(np.int64),
    )  # fmt: skip


def changed(stream: Stream, stage: int, kind: str, seed: int) -> Floats32:
    """The signals (N, S) of which one stage goes bad in the middle."""
    signals, half = stream.signals.copy(), len(stream.labels) // 2
    if kind == "dealt out":
        signals[half:, stage] = np.random.default_rng(seed).permutation(signals[half:, stage])
    if kind == "opposite":
        signals[half:, stage] = 1 - signals[half:, stage]
    return signals


def losses_of(alpha: Floats64, signals: Floats32, labels: Bools) -> Floats64:
    """The log loss of each row (N,)."""
    clipped = np.clip(signals.astype(np.float64), CLIP, 1 - CLIP)
    scores = combine(clipped.astype(np.float32), np.ones(signals.shape, np.bool_), alpha).scores
    losses: Floats64 = -np.log(np.where(labels, scores, 1 - scores).clip(CLIP, 1.0))
    return losses


def learned(stream: Stream, signals: Floats32, speed: LearningRate) -> FixedShare:
    """The learner after the stream; outcomes come a week after their rows, period by period."""
    learner = FixedShare(stream.alpha, speed)
    known_ms = stream.times_ms + _DELAY_DAYS * _DAY_MS
    for rows in by_period(known_ms, speed.period_ms):
        learner.close(int(known_ms[rows.start]))
        n = rows.stop - rows.start
        learner.observe(LabelledRows(
            signals[rows], np.ones((n, len(stream.names)), np.bool_),
            np.broadcast_to(stream.alpha, (n, len(stream.names))), stream.labels[rows], np.ones(n),
            stream.times_ms[rows], known_ms[rows], np.ones(n, np.int64),
        ))  # fmt: skip
    return learner


def by_period(times_ms: Ints, period_ms: int) -> Iterator[slice]:
    """The rows of each period."""
    stops = [*(np.flatnonzero(np.diff(times_ms // period_ms)) + 1).tolist(), len(times_ms)]
    start = 0
    for stop in stops:
        yield slice(start, stop)
        start = stop


def figures(stream: Stream, kind: str, stage: int, speed: LearningRate) -> dict[str, object]:
    """Losses of one stream."""
    signals, half = changed(stream, stage, kind, seed=1), len(stream.labels) // 2
    learner = learned(stream, signals, speed)

    def best(rows: slice) -> float:
        found = learn_weights(signals[rows], stream.labels[rows], stream.names)
        return float(found.loss * (rows.stop - rows.start))

    everything = slice(0, len(stream.labels))
    two = best(slice(0, half)) + best(slice(half, everything.stop))
    fixed = best(everything)
    sums = learner.sums
    return {
        "stream": kind, "trained": round(sums.trained, 1), "learned": round(sums.learned, 1),
        "best": round(fixed, 1), "two_best": round(two, 1),
        "learned_to_trained": round(sums.learned / sums.trained, 4),
        "learned_to_best": round(sums.learned / fixed, 4),
        "weights_at_end": dict(zip(stream.names, learner.weights.round(3).tolist(), strict=True)),
    }  # fmt: skip


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    place = Path(os.environ.get("ANABRANCH_HANDBOOK", _BESIDE))
    parser.add_argument("--handbook", action="store_true", help="its data, not simulated ones")
    parser.add_argument("--data", type=Path, default=place, help="folder of the handbook")
    parser.add_argument("--days", type=int, default=160, help="days to simulate")
    parser.add_argument("--customers", type=int, default=2000)
    parser.add_argument("--train-days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--floor", type=float, default=0.005)
    parser.add_argument("--cap", type=float, default=1.0)
    options = parser.parse_args()
    file = load_pipeline(find_pipeline("card-fraud"))
    if options.handbook:
        data = from_file(file.pipeline, str(options.data / "transactions.parquet"))
    else:
        data = simulated_data(options.days, options.customers, options.seed)
    stream = served(file, data, options.train_days, options.seed)
    speed = LearningRate(options.rate, options.share, options.floor, options.cap, 3_600_000)
    worst = int(np.argmax(stream.alpha))
    print(json.dumps({
        "rows": len(stream.labels), "positives": int(stream.labels.sum()),
        "days": round((stream.times_ms[-1] - stream.times_ms[0]) / _DAY_MS),
        "trained": dict(zip(stream.names, stream.alpha.round(3).tolist(), strict=True)),
        "goes_bad": stream.names[worst], "rate": options.rate, "share": options.share,
        "streams": [
            figures(stream, kind, worst, speed) for kind in ("as it is", "dealt out", "opposite")
        ],
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
