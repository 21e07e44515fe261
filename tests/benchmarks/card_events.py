"""The events of W1, and what has to come out: computed here in plain numpy and ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.simulators.card_fraud import Transactions, simulate_days
from tests.benchmarks.load import Event

STAGES = ("features", "risk", "decision")
SEED = 11
_CHANNELS = ("pos", "web", "atm")


def extra_fields(number: int) -> dict[str, str]:
    """The fields that are carried along unused."""
    return {
        "channel": _CHANNELS[number % 3],
        "currency": "EUR",
        "merchant": f"m-{number * 7919 % 10_000_000:07d}",
    }


def event_value(number: int, block: Transactions, row: int) -> bytes:
    """A simulated transaction as JSON of about 200 bytes."""
    event = {
        "transaction_id": f"tx-{number:08d}",
        "occurred_at": f"{np.datetime_as_string(block.occurred_at[row], unit='s')}Z",
        "customer_id": f"c-{block.customer_id[row]}",
        "terminal_id": f"t-{block.terminal_id[row]}",
        "amount": float(block.amount[row]),
        **extra_fields(number),
    }
    return json.dumps(event).encode()


@dataclass(slots=True)
class CardEvents:
    """Simulated transactions without end; what is known of those that were taken."""

    amounts: list[float] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)

    def events(self) -> Iterator[Event]:
        """Each event once, in time order."""
        numbers = count()
        for block in simulate_days(SEED):
            times = block.occurred_at.astype(np.int64).tolist()
            for row in range(len(block)):
                number = next(numbers)
                self.amounts.append(float(block.amount[row]))
                self.times_ms.append(times[row])
                yield Event(number, b"tx-%08d" % number, event_value(number, block, row))


@dataclass(frozen=True, slots=True)
class ExpectedDecisions:
    """What W1 has to say about N events."""

    signals: NDArray[np.float64]
    """(N, 3), in the order of STAGES."""
    scores: NDArray[np.float64]
    decisions: list[str]
    near_threshold: NDArray[np.bool_]
    """The score is so near a threshold that rounding decides (N,)."""
    times: list[str]


class Reference:
    """The pipeline in one process, in a few lines that share nothing with the product's."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._sessions = {
            stage: onnxruntime.InferenceSession(
                str(folder / f"{stage}.onnx"), options, providers=["CPUExecutionProvider"]
            )
            for stage in STAGES
        }
        self._pipeline: dict[str, Any] = json.loads((folder / "pipeline.json").read_text())

    def expected(self, events: CardEvents) -> ExpectedDecisions:
        """What has to come out for the events taken so far."""
        rows = [_features(*row) for row in zip(events.amounts, events.times_ms, strict=True)]
        x = np.array(rows, np.float32)
        features, risk = self._signal("features", x), self._signal("risk", x)
        decision = self._signal("decision", np.concatenate([x, risk[:, None]], axis=1))
        signals = np.stack([features, risk, decision], axis=1).astype(np.float64)
        scores = signals @ np.array([self._pipeline["weights"][stage] for stage in STAGES])
        thresholds = np.array(list(self._pipeline["thresholds"].values()))
        names = [self._pipeline["otherwise"], *self._pipeline["thresholds"]]
        reached = np.searchsorted(thresholds, scores, "right")
        near = (np.abs(scores[:, None] - thresholds) < 1e-5).any(axis=1)
        times = [f"{_utc(ms):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z" for ms in events.times_ms]
        return ExpectedDecisions(signals, scores, [names[each] for each in reached], near, times)

    def _signal(self, stage: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        session = self._sessions[stage]
        outputs: list[NDArray[np.float32]] = session.run(
            ["signal"], {session.get_inputs()[0].name: rows}
        )
        return outputs[0]


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds // 1000, UTC)


def _features(amount: float, milliseconds: int) -> list[float]:
    at = _utc(milliseconds)
    return [amount, np.log1p(amount), at.hour, at.hour <= 6, at.weekday() >= 5]
