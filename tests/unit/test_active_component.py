"""What a component runs, and a challenger beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.components.active_component import ActiveComponent
from agents.components.catalogue import OpenComponent
from agents.components.challenger import ActiveChallenger, in_share, run_models, split_outputs
from agents.join.stage_rows import aligned
from models.component import Batch, Component, StageOutput
from tests.unit.stage_batches import batch_of
from topics.errors import WireError
from topics.records.bytes_column import BytesColumn
from topics.records.stage_batch import ModelRef
from topics.records.wire import decode, encode

OURS, THEIRS = ModelRef("risk@1", "sha256:1", "fp32"), ModelRef("risk@2", "sha256:2", "int8")


class Says(Component):
    """Says the same of every row, in *width* columns; fails on rows whose x is `fails_on`."""

    def __init__(self, signal: float, width: int = 1, fails_on: float | None = None) -> None:
        self._signal, self._width, self._fails_on = signal, width, fails_on

    def transform(self, batch: Batch) -> StageOutput:
        if self._fails_on is not None and (batch.columns["x"] == self._fails_on).any():
            raise ValueError("not that")
        signal = np.full(batch.rows, self._signal, np.float32)
        return StageOutput(np.repeat(signal[:, None], self._width, axis=1), signal)


def rows(count: int) -> Batch:
    return Batch(rows=count, columns={"x": np.arange(count)})


def test_without_a_challenger_the_champion_runs_alone() -> None:
    outputs = run_models(OpenComponent(Says(0.5), OURS), None, rows(3))
    assert outputs.model == OURS
    assert outputs.challenger is None
    assert outputs.outputs.signal.tolist() == [0.5, 0.5, 0.5]


def test_a_challenger_decides_for_its_rows_and_the_champion_for_the_others() -> None:
    challenge = ActiveChallenger(OpenComponent(Says(0.75), THEIRS), 0.5)
    outputs = run_models(OpenComponent(Says(0.25), OURS), challenge, rows(4))
    chosen = np.array([True, False, True, False])
    (used, by_them), (unused, not_by_them) = split_outputs(outputs, chosen)
    assert used.signal.tolist() == [0.75, 0.25, 0.75, 0.25]
    assert unused.signal.tolist() == [0.25, 0.75, 0.25, 0.75]
    assert by_them.tolist() == chosen.tolist()
    assert not_by_them.tolist() == (~chosen).tolist()


def test_a_row_that_the_challenger_fails_on_is_the_champions_whoever_was_to_decide() -> None:
    challenge = ActiveChallenger(OpenComponent(Says(0.75, fails_on=1), THEIRS), 1.0)
    outputs = run_models(OpenComponent(Says(0.25), OURS), challenge, rows(3))
    for chosen in (np.ones(3, np.bool_), np.zeros(3, np.bool_)):
        (used, by_them), (unused, _) = split_outputs(outputs, chosen)
        assert used.present.all()
        assert not by_them[1]
        assert used.signal[1] == 0.25
        assert not unused.present[1]
        assert unused.errors[1][0] == "ValueError"


def test_a_challenger_with_outputs_of_another_width_decides_nothing() -> None:
    challenge = ActiveChallenger(OpenComponent(Says(0.75, width=3), THEIRS), 1.0)
    outputs = run_models(OpenComponent(Says(0.25), OURS), challenge, rows(2))
    (used, by_them), (unused, _) = split_outputs(outputs, np.ones(2, np.bool_))
    assert used.signal.tolist() == [0.25, 0.25]
    assert not by_them.any()
    assert unused.signal.tolist() == [0.75, 0.75]


@given(st.lists(st.binary(max_size=8), min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_has_the_keys_of_a_smaller_one(
    keys: list[bytes], one: float, other: float
) -> None:
    column = BytesColumn.of(keys)
    small, large = (in_share("risk", column, share) for share in sorted((one, other)))
    assert (small <= large).all()
    assert in_share("risk", column, 1).all()
    assert not in_share("risk", column, 0).any()


def test_shares_of_two_components_are_of_different_keys() -> None:
    keys = BytesColumn.of([b"%d" % n for n in range(20_000)])
    one, other = in_share("risk", keys, 0.5), in_share("features", keys, 0.5)
    assert 0.45 < (one == other).mean() < 0.55


def test_a_batch_of_two_models_travels_and_names_the_model_of_each_row() -> None:
    batch = replace(
        batch_of("risk", range(5)), model=OURS, challenger=THEIRS,
        challenged=np.array([False, True, True, False, True]),
    )  # fmt: skip
    for codec in ("binary", "json"):
        value, headers = encode(batch, codec)
        found = decode(value, dict(headers))
        assert found.challenger == THEIRS
        assert found.challenged is not None
        runs = aligned([found[1:]], found.rows.offsets[1:]).models
        assert [(run.start, run.model.model) for run in runs] == [
            (0, "risk@2"), (2, "risk@1"), (3, "risk@2"),
        ]  # fmt: skip


def test_a_challenger_without_its_rows_is_no_stage_batch() -> None:
    value, headers = encode(replace(batch_of("risk", range(2)), challenger=THEIRS), "json")
    with pytest.raises(WireError, match="belong together"):
        decode(value, dict(headers))


def test_the_first_row_of_a_model_is_noted_once_a_partition() -> None:
    noted: list[tuple[str, int, int, bool]] = []

    def note(model: ModelRef, partition: int, offset: int, *, takes_over: bool) -> None:
        noted.append((model.model, partition, offset, takes_over))

    slot = ActiveComponent(OpenComponent(Says(0.5), OURS))
    slot.starts.listener = note
    for model, partition, offset in [(OURS, 0, 3), (OURS, 0, 9), (OURS, 1, 0), (THEIRS, 0, 12)]:
        slot.starts.written(model, partition, offset)
    assert noted == [("risk@1", 0, 3, False), ("risk@1", 1, 0, False), ("risk@2", 0, 12, True)]
