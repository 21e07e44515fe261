"""What a stage adds is what the score loses without its vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from models.learned_weights import learn_weights
from models.report.ablation import Signals, scores_of, stage_losses
from models.report.quality import quality

ROWS = 4000


def signals(seed: int) -> tuple[Signals, np.ndarray]:
    """A stage that knows half of what there is to know, one that knows the rest, and one noise."""
    rng = np.random.default_rng(seed)
    one, two = rng.random(ROWS) < 0.1, rng.random(ROWS) < 0.1
    noise = rng.random(ROWS)
    columns = [np.where(one, 0.95, 0.1), np.where(two, 0.95, 0.1), noise]
    return np.stack(columns, axis=1).astype(np.float32), one | two


def test_stages_that_know_something_add_and_noise_does_not() -> None:
    learning, truth = signals(1)
    judged, labels = signals(2)
    names = ["one", "two", "noise"]
    weights = learn_weights(learning, truth, names).values
    asked: list[Sequence[str]] = []

    def learn(less: Signals, others: Sequence[str]) -> Mapping[str, float]:
        asked.append(others)
        return learn_weights(less, truth, others).values

    found = stage_losses(weights, learning, judged, labels, learn)
    assert asked == [["two", "noise"], ["one", "noise"], ["one", "two"]]
    for name in ("one", "two"):
        assert found[name].auc > 0.1
        assert found[name].log_loss > 5 * found[name].log_loss_error > 0
    assert abs(found["noise"].auc) < 0.01
    assert abs(found["noise"].log_loss) < 2 * found["noise"].log_loss_error + 1e-9

    whole = quality(labels, scores_of(judged, list(weights.values())))
    others = judged[:, [1, 2]]
    alone = learn(learning[:, [1, 2]], names[1:]).values()
    less = quality(labels, scores_of(others, list(alone)))
    assert found["one"].log_loss == pytest.approx(less.log_loss - whole.log_loss)
    assert found["one"].average_precision == pytest.approx(
        whole.average_precision - less.average_precision
    )


def test_a_single_stage_cannot_be_left_out() -> None:
    judged, labels = signals(2)
    one = judged[:, :1]
    assert stage_losses({"one": 1.0}, one, one, labels, lambda *_: pytest.fail("asked")) == {}
