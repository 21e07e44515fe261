"""Decisions explained a second on one core: `python -m tests.benchmarks.explain_speed`.

card-fraud as its file has it (four groups, a forest of 30 trees), trained on simulated events; a
background of 100 rows. Events are put together from background rows. Processor time of this
process, which computes with one thread; what reading topics takes is not in it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from agents.commands import labelled_events
from agents.components.catalogue import open_component
from models.explain import ColumnGroups, ComposedScore, Explainer
from models.onnx.session import ModelSession
from models.registry import Background, RecordedOutput
from models.registry.registry import Registry
from models.training.train import train
from topics.pipeline.file import find_pipeline, load_pipeline

_EVENTS = 200


def explainer(registry: Registry, *, train_rows: int) -> tuple[Explainer, Background]:
    """What explains decisions of card-fraud; trained here, unless *registry* has it."""
    file = load_pipeline(find_pipeline("card-fraud"))
    pipeline = file.pipeline
    if not registry.has_weights(pipeline.name):
        data = labelled_events.simulated(pipeline, rows=train_rows, seed=0)
        train(pipeline, file.path.parent, data, registry, open_component=open_component)
    weights = registry.weights(pipeline.name)
    background = weights.background()
    sessions = {
        name: ModelSession.open(registry.latest(pipeline.name, name))
        for name in registry.components(pipeline.name)
    }
    # A stage that happened to get no weight would not be run: every stage counts here.
    shares = {name: 1 / len(weights.card.values) for name in weights.card.values}
    widths = {name: len(each.columns) for name, each in background.outputs.items()}
    score = ComposedScore.of(pipeline, shares, sessions, widths)
    return Explainer(score, ColumnGroups.of(pipeline), background), background


def events_of(background: Background, count: int) -> dict[str, RecordedOutput]:
    """So many events, each component's part of another background row."""
    rng = np.random.default_rng(1)
    events = {}
    for name, rows in background.outputs.items():
        picked = rng.integers(0, background.rows, count)
        events[name] = RecordedOutput(rows.output[picked], rows.signal[picked], rows.columns)
    return events


def explained_per_s(
    explain: Explainer, events: Mapping[str, RecordedOutput], at_once: int
) -> float:
    """Events explained a second of processor time, *at_once* a call."""
    started = time.process_time()
    for start in range(0, _EVENTS, at_once):
        some = slice(start, start + at_once)
        explain.explain({
            name: RecordedOutput(each.output[some], each.signal[some], each.columns)
            for name, each in events.items()
        })  # fmt: skip
    return _EVENTS / (time.process_time() - started)


def main() -> None:
    """Print one JSON object a number of events a call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registry", type=Path, help="has trained models of card-fraud")
    parser.add_argument("--train-rows", type=int, default=150_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        registry = Registry(options.registry or Path(folder))
        explain, background = explainer(registry, train_rows=options.train_rows)
        events = events_of(background, _EVENTS)
        for at_once in (1, 100):
            rates = [explained_per_s(explain, events, at_once) for _ in range(options.rounds)]
            print(json.dumps({
                "events_at_once": at_once, "background_rows": background.rows,
                "explained_per_cpu_s": round(median(rates)),
                "from": round(min(rates)), "to": round(max(rates)),
            }))  # fmt: skip


if __name__ == "__main__":
    main()
