"""A bad row costs itself, never its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agents.components.running import INVALID_OUTPUT, ComponentOutputs, spread, transform
from models.component import Batch, Component, StageOutput


class Doubling(Component):
    """Output (x, 2x, x/3), signal x/1000; a row whose x is poisonous raises."""

    def __init__(self, poisonous: Sequence[float] = ()) -> None:
        self._poisonous = list(poisonous)
        self.calls = 0

    def transform(self, batch: Batch) -> StageOutput:
        self.calls += 1
        x = batch.columns["x"]
        if (bad := x[np.isin(x, self._poisonous)]).size:
            raise ValueError(f"poison {bad[0]:g}")
        return StageOutput(np.stack([x, 2 * x, x / 3], axis=1), (x / 1000).astype(np.float32))


class Saying(Component):
    """Says what a function says."""

    def __init__(self, say: Callable[[Batch], Any]) -> None:
        self._say = say

    def transform(self, batch: Batch) -> StageOutput:
        made: StageOutput = self._say(batch)
        return made


def batch_of(n: int) -> Batch:
    return Batch(rows=n, columns={"x": np.arange(n, dtype=np.float64)})


def overwritten(row: int, *, output: float | None = None, signal: float | None = None) -> Saying:
    """A component that gives nonsense for the row whose x is *row*."""

    def say(batch: Batch) -> StageOutput:
        made = Doubling().transform(batch)
        for place in np.flatnonzero(batch.columns["x"] == row):
            if output is not None:
                made.output[place, 1] = output
            if signal is not None:
                made.signal[place] = signal
        return made

    return Saying(say)


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def test_good_rows_pass_as_they_are_in_one_call() -> None:
    component = Doubling()
    done = transform(component, batch_of(7))
    made = Doubling().transform(batch_of(7))
    assert done.present.all()
    assert same_bits(done.output, made.output)
    assert same_bits(done.signal, made.signal)
    assert done.errors == {}
    assert component.calls == 1


def test_a_row_that_raises_costs_only_itself() -> None:
    done = transform(Doubling([3]), batch_of(8))
    assert done.present.tolist() == [row != 3 for row in range(8)]
    assert done.errors == {3: ("ValueError", "poison 3")}
    assert done.output[4].tolist() == [4, 8, 4 / 3]
    assert done.output[3].tolist() == [0, 0, 0], "0 where absent"
    assert done.signal[3] == 0


def test_one_bad_row_is_found_by_halving_not_row_by_row() -> None:
    component = Doubling([777])
    transform(component, batch_of(1024))
    assert component.calls == 1 + 2 * 10


@given(n=st.integers(1, 40), data=st.data())
def test_exactly_the_poisonous_rows_are_absent_and_the_others_are_as_if_alone(
    n: int, data: st.DataObject
) -> None:
    poisonous = data.draw(st.sets(st.integers(0, n - 1)))
    done = transform(Doubling([float(row) for row in poisonous]), batch_of(n))
    assert set(np.flatnonzero(~done.present)) == poisonous
    assert set(done.errors) == poisonous
    x = batch_of(n).columns["x"]
    for row in sorted(set(range(n)) - poisonous):
        alone = Doubling().transform(Batch(rows=1, columns={"x": x[row : row + 1]}))
        assert same_bits(done.output[row : row + 1], alone.output)
        assert same_bits(done.signal[row : row + 1], alone.signal)
    for row in poisonous:
        assert done.errors[row] == ("ValueError", f"poison {row}")
        assert not done.output[row].any()
        assert done.signal[row] == 0


@given(n=st.integers(1, 40), data=st.data())
def test_inputs_are_halved_with_the_columns(n: int, data: st.DataObject) -> None:
    poisonous = data.draw(st.sets(st.integers(0, n - 1)))

    def say(batch: Batch) -> StageOutput:
        stage = batch.inputs["features"]
        np.testing.assert_array_equal(stage.output[:, 0], batch.columns["x"])
        np.testing.assert_array_equal(stage.signal, batch.columns["x"].astype(np.float32))
        assert batch.rows == len(stage.output)
        if poisonous & set(stage.output[:, 0].astype(int).tolist()):
            raise KeyError("poison")
        return StageOutput.of_signal(stage.signal / 1000)

    x = np.arange(n, dtype=np.float64)
    batch = Batch(n, {"x": x}, {"features": StageOutput(x[:, None], x.astype(np.float32))})
    done = transform(Saying(say), batch)
    assert set(np.flatnonzero(~done.present)) == poisonous
    assert set(done.errors.values()) <= {("KeyError", "'poison'")}


@pytest.mark.parametrize("nonsense", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_not_finite_makes_its_row_absent(nonsense: float) -> None:
    done = transform(overwritten(2, output=nonsense), batch_of(5))
    assert done.present.tolist() == [True, True, False, True, True]
    assert done.errors[2][0] == INVALID_OUTPUT
    assert np.isfinite(done.output).all()
    assert done.signal[2] == 0


@pytest.mark.parametrize("signal", [np.nan, np.inf, -np.inf, -0.001, 1.001, 17.0])
def test_a_signal_out_of_range_makes_its_row_absent(signal: float) -> None:
    done = transform(overwritten(2, signal=signal), batch_of(5))
    assert done.present.tolist() == [True, True, False, True, True]
    assert list(done.errors) == [2]
    error, reason = done.errors[2]
    assert error == INVALID_OUTPUT
    assert f"signal {np.float32(signal)}" in reason
    assert done.output[2].tolist() == [0, 0, 0]


@pytest.mark.parametrize("signal", [0.0, -0.0, 1.0])
def test_the_ends_of_the_range_are_in_it(signal: float) -> None:
    assert transform(overwritten(2, signal=signal), batch_of(5)).present.all()


@pytest.mark.parametrize(
    "say",
    [
        lambda batch: StageOutput(np.zeros(batch.rows), np.zeros(batch.rows, np.float32)),
        lambda batch: StageOutput(np.zeros((batch.rows + 1, 2)), np.zeros(batch.rows, np.float32)),
        lambda batch: StageOutput(np.zeros((batch.rows, 2)), np.zeros((batch.rows, 1), np.float32)),
        lambda batch: StageOutput(
            np.zeros((batch.rows, 2)), np.zeros(batch.rows + 1, dtype=np.float32)
        ),
    ],
    ids=["flat output", "a row too many", "signal as a column", "a signal too many"],
)
def test_a_wrong_shape_fails_every_row_with_the_shape_in_the_reason(
    say: Callable[[Batch], Any],
) -> None:
    done = transform(Saying(say), batch_of(3))
    assert not done.present.any()
    assert sorted(done.errors) == [0, 1, 2]
    error, reason = done.errors[1]
    assert error == "TypeError"
    assert "output (N, F) and signal (N,) for N=1, not (" in reason


@pytest.mark.parametrize("made", [None, 5, "words"])
def test_a_component_that_returns_something_else_fails_its_rows(made: Any) -> None:
    done = transform(Saying(lambda _: made), batch_of(2))
    assert not done.present.any()
    assert sorted(done.errors) == [0, 1]


def test_words_are_no_output() -> None:
    def say(batch: Batch) -> StageOutput:
        words: Any = np.full((batch.rows, 1), "words", dtype=object)
        return StageOutput(words, np.zeros(batch.rows, np.float32))

    done = transform(Saying(say), batch_of(2))
    assert [error for error, _ in done.errors.values()] == ["ValueError", "ValueError"]


def test_integers_become_float64() -> None:
    def say(batch: Batch) -> StageOutput:
        counts: Any = np.ones((batch.rows, 2), np.int32)
        return StageOutput(counts, np.ones(batch.rows, np.float32))

    done = transform(Saying(say), batch_of(2))
    assert done.output.dtype == np.float64
    assert done.present.all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [(), (1,), (0, 1, 2, 3)])
def test_the_type_of_the_output_is_kept(dtype: type[np.floating[Any]], bad: Sequence[int]) -> None:
    def say(batch: Batch) -> StageOutput:
        output: Any = batch.columns["x"].astype(dtype)[:, None]
        output[np.isin(batch.columns["x"], bad)] = np.nan
        return StageOutput(output, np.zeros(batch.rows, np.float32))

    assert transform(Saying(say), batch_of(4)).output.dtype == dtype


def test_when_every_row_raises_all_are_absent_with_their_reasons() -> None:
    done = transform(Doubling(range(5)), batch_of(5))
    assert not done.present.any()
    assert done.output.shape == (5, 1)
    assert not done.output.any()
    assert not done.signal.any()
    assert {row: reason for row, (_, reason) in done.errors.items()} == {
        row: f"poison {row}" for row in range(5)
    }


def test_an_empty_batch_does_not_trouble_the_component() -> None:
    component = Doubling()
    done = transform(component, batch_of(0))
    assert component.calls == 0
    assert len(done.present) == len(done.signal) == len(done.output) == 0
    assert done.output.ndim == 2
    assert done.errors == {}


def test_a_long_reason_is_cut() -> None:
    def say(batch: Batch) -> StageOutput:
        raise ValueError("x" * 10_000)

    assert transform(Saying(say), batch_of(1)).errors == {0: ("ValueError", "x" * 300)}


def test_the_batch_itself_is_not_changed() -> None:
    batch = batch_of(8)
    transform(Doubling([1, 5]), batch)
    assert batch.columns["x"].tolist() == list(range(8))


def test_a_width_that_changes_between_calls_is_never_filled_with_zeros() -> None:
    """The wire has one width per batch, so rows of another width must be absent."""

    def say(batch: Batch) -> StageOutput:
        x = batch.columns["x"]
        if batch.rows > 2:
            raise ValueError("too many")
        width = 1 if x[0] < 2 else 2
        return StageOutput(np.repeat(x[:, None] + 1, width, axis=1), np.zeros(2, np.float32))

    done = transform(Saying(say), batch_of(4))
    assert (done.output[done.present] > 0).all()
    assert set(np.flatnonzero(~done.present)) == set(done.errors)


def test_rows_are_spread_among_the_others() -> None:
    done = transform(Doubling([1]), batch_of(3))
    wide = spread(done, np.array([1, 4, 5]), 7)
    assert wide.present.tolist() == [False, True, False, False, False, True, False]
    assert wide.errors == {4: ("ValueError", "poison 1")}
    assert wide.output.shape == (7, 3)
    assert wide.output.dtype == done.output.dtype
    assert wide.output[5].tolist() == done.output[2].tolist()
    assert wide.signal[5] == done.signal[2]
    assert not wide.output[[0, 2, 3, 4, 6]].any()


def test_nothing_spread_is_absent_everywhere() -> None:
    wide = spread(transform(Doubling(), batch_of(0)), np.zeros(0, np.int64), 3)
    assert wide.present.tolist() == [False] * 3
    assert wide.output.shape[0] == 3


def test_all_rows_spread_are_the_same_rows() -> None:
    done = transform(Doubling([1]), batch_of(3))
    assert spread(done, np.arange(3), 3) is done


@given(st.integers(0, 20), st.data())
def test_what_is_spread_is_found_again(n: int, data: st.DataObject) -> None:
    rows = sorted(data.draw(st.sets(st.integers(0, max(0, n - 1)), max_size=n)))
    poisonous = data.draw(st.sets(st.sampled_from(range(len(rows))))) if rows else set()
    done = transform(Doubling([float(row) for row in poisonous]), batch_of(len(rows)))
    wide: ComponentOutputs = spread(done, np.array(rows, np.int64), n)
    assert len(wide.present) == len(wide.output) == len(wide.signal) == n
    np.testing.assert_array_equal(wide.present[rows], done.present)
    np.testing.assert_array_equal(wide.output[rows], done.output)
    assert {rows.index(row): why for row, why in wide.errors.items()} == dict(done.errors)
    assert not np.delete(wide.present, rows).any()


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("error", [Wordless(), ValueError("\ud800")], ids=["no words", "surrogate"])
def test_an_exception_that_cannot_be_written_costs_its_rows_only(error: Exception) -> None:
    """Its reason becomes a header of the dead letter, in UTF-8."""

    def say(batch: Batch) -> StageOutput:
        if 1 in batch.columns["x"]:
            raise error
        return StageOutput.of_signal(batch.columns["x"] / 1000)

    done = transform(Saying(say), batch_of(3))
    assert done.present.tolist() == [True, False, True]
    name, reason = done.errors[1]
    assert name == type(error).__name__
    reason.encode()
