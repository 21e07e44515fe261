"""What a monitor takes of disk and processor: `python -m tests.benchmarks.monitor_speed`.

Decisions of card-fraud, each with the outcome that comes later, go through the decoders and the
store of the monitor, without a broker; then one window of them is judged, with its intervals.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson
from aiokafka.structs import ConsumerRecord

from agents.monitor.decision_batch import DecisionDecoder
from agents.monitor.decision_store import DecisionStore
from agents.quality.promises import Promises
from agents.quality.window_quality import Window, WindowJudge
from models.registry.registry import Registry
from topics.events import OutcomeDecoder
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.records import rfc3339_time

_AT_ONCE = 2000
_START_MS = 1_700_000_000_000


def record(offset: int, value: object) -> ConsumerRecord:
    """A record as a fetch brings it."""
    return ConsumerRecord(
        "t", 0, offset, _START_MS, 0, b"c-%d" % (offset % 5000), orjson.dumps(value), None, 0, 0, []
    )


def main() -> None:
    """Print seconds of the processor, and bytes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=200_000)
    count = parser.parse_args().decisions
    pipeline = load_pipeline(find_pipeline("card-fraud")).pipeline
    rng = np.random.default_rng(0)
    scores = rng.beta(1, 30, count)
    labels = rng.random(count) < scores
    stages = pipeline.weighting.inputs
    decisions = [
        record(n, {
            "event_id": f"transaction-{n:09}", "decision": "approve", "score": score, "weights": 1,
            "contributions": {
                stage: {"signal": score, "weight": 0.25, "contribution": score / 4,
                        "model": f"{stage}@1", "digest": "sha256:" + "0" * 64, "variant": "fp32"}
                for stage in stages
            },
            "policy": "card-fraud@1", "event_time": rfc3339_time(_START_MS + n),
            "decided_at": rfc3339_time(_START_MS + n + 20),
            "source": {"topic": "card-fraud.events", "partition": 0, "offset": n},
        })
        for n, score in enumerate(scores.tolist())
    ]  # fmt: skip
    outcomes = [
        record(n, {
            "transaction_id": f"transaction-{n:09}", "customer_id": f"c-{n % 5000}",
            "terminal_id": "t", "occurred_at": rfc3339_time(_START_MS + n), "outcome": label,
        })
        for n, label in enumerate(labels.tolist())
    ]  # fmt: skip
    with TemporaryDirectory() as folder, DecisionStore.in_folder(Path(folder), pipeline) as store:
        began = time.process_time()
        decoder = DecisionDecoder(pipeline)
        for start in range(0, count, _AT_ONCE):
            store.add_decisions(decoder.decode(decisions[start : start + _AT_ONCE], 0))
        took_s = time.process_time() - began
        print(f"decisions: {count / took_s:,.0f} a second of the processor")
        began = time.process_time()
        outcome_decoder = OutcomeDecoder(pipeline)
        for start in range(0, count, _AT_ONCE):
            some = outcomes[start : start + _AT_ONCE]
            store.add_outcomes(outcome_decoder.decode(some, 0), some)
        took_s = time.process_time() - began
        print(f"outcomes: {count / took_s:,.0f} a second of the processor")
        print(
            f"disk: {store.size_bytes / count:,.0f} bytes a decision with its outcome, "
            f"{len(stages)} stages"
        )
        began = time.process_time()
        rows = store.between(_START_MS, _START_MS + count)
        judge = WindowJudge(pipeline, Promises(Registry(Path(folder)), pipeline.name))
        judge.matured(Window(_START_MS, _START_MS + count), rows, pipeline.policy, 1, {})
        took_s = time.process_time() - began
        print(f"a window of {count:,} with all intervals: {took_s:.1f} s of the processor")


if __name__ == "__main__":
    main()
