"""Probe rows come with a version, to the bit, and tell a model that is another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.onnx.probing import ROUNDING, ProbeFailed, check_probe, probe_of
from models.onnx.session import ModelSession
from models.registry.probe import PROBE_ROWS, Probe, spread_rows
from models.registry.registry import (
    CardUnreadable,
    ModelCorrupt,
    ModelMissing,
    Registry,
    RegistryError,
)
from tests.unit.registry_cards import CARD
from tests.unit.test_session import exported, made, mean_of, rows_of


def session(content: bytes) -> ModelSession:
    return ModelSession.of(content, "model.onnx")


def same(one: Probe, other: Probe) -> bool:
    return one.to_bytes() == other.to_bytes()


def test_a_probe_is_kept_to_the_bit(tmp_path: Path) -> None:
    model = exported("LogisticRegression")
    probe = probe_of(session(model), rows_of(1000, 5))
    registry = Registry(tmp_path)
    added = registry.add("p", "risk", model, CARD, probe)
    version = registry.latest("p", "risk")
    assert version == added
    kept = version.probe()
    assert kept is not None
    assert len(kept.rows) == PROBE_ROWS
    assert kept.rows.tobytes() == probe.rows.tobytes()
    assert kept.signals.tobytes() == probe.signals.tobytes()
    check_probe(session(version.read()), kept)


def test_a_version_may_have_no_probe(tmp_path: Path) -> None:
    assert Registry(tmp_path).add("p", "risk", b"model", CARD).probe() is None


def test_rows_are_spread_from_the_first_to_the_last() -> None:
    rows = np.arange(1000, dtype=np.float32).reshape(500, 2)
    spread = spread_rows(rows)
    assert spread[0].tolist() == rows[0].tolist()
    assert spread[-1].tolist() == rows[-1].tolist()
    assert len(spread) == PROBE_ROWS
    assert spread_rows(rows[:3]).tolist() == rows[:3].tolist()


def test_one_bit_of_one_signal_is_enough() -> None:
    opened = session(exported("LogisticRegression"))
    probe = probe_of(opened, rows_of(200, 5))
    signals = probe.signals.copy()
    signals[7] = np.nextafter(signals[7], np.float32(1))
    with pytest.raises(ProbeFailed, match="1 of 64 probe rows have other signals") as caught:
        check_probe(opened, Probe(probe.rows, signals))
    assert isinstance(caught.value, RegistryError)
    assert opened.digest in str(caught.value)


def test_at_a_start_other_last_bits_are_logged_and_other_signals_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened = session(exported("LogisticRegression"))
    probe = probe_of(opened, rows_of(200, 5))
    signals = probe.signals.copy()
    signals[7] = np.nextafter(signals[7], np.float32(1))
    check_probe(opened, Probe(probe.rows, signals), tolerance=ROUNDING)
    assert "1 of 64 probe rows have other signals, by up to" in caplog.text
    signals[7] += np.float32(2 * ROUNDING)
    with pytest.raises(ProbeFailed):
        check_probe(opened, Probe(probe.rows, signals), tolerance=ROUNDING)
    signals[7] = np.nan
    with pytest.raises(ProbeFailed):
        check_probe(opened, Probe(probe.rows, signals), tolerance=ROUNDING)


def test_a_signal_that_is_no_number_is_no_match() -> None:
    probe = probe_of(session(mean_of()), rows_of(8, 3))
    signals = probe.signals.copy()
    signals[0] = np.nan
    with pytest.raises(ProbeFailed, match="1 of 8 probe rows"):
        check_probe(session(mean_of()), Probe(probe.rows, signals))


def test_a_model_of_another_width_is_another_one() -> None:
    probe = probe_of(session(mean_of()), rows_of(8, 3))
    with pytest.raises(ProbeFailed, match="it reads 4 columns, its probe has 3"):
        check_probe(session(mean_of(width=4)), probe)


def test_a_model_that_fails_on_its_probe_says_why() -> None:
    shape = numpy_helper.from_array(np.array([6]), "shape")  # of two rows, whatever comes
    nodes = [
        helper.make_node("Constant", [], ["six"], value=shape),
        helper.make_node("Reshape", ["x", "six"], ["signal"]),
    ]
    float32 = TensorProto.FLOAT
    model = made([("x", float32, ["n", 3])], [("signal", float32, ["n"])], nodes)
    with pytest.raises(ProbeFailed, match="it fails: "):
        check_probe(session(model), probe_of(session(mean_of()), rows_of(8, 3)))


@pytest.mark.parametrize("damage", ["flipped", "cut off", "gone"])
def test_a_probe_that_was_damaged_is_not_used(tmp_path: Path, damage: str) -> None:
    model = mean_of()
    version = Registry(tmp_path).add(
        "p", "risk", model, CARD, probe_of(session(model), rows_of(8, 3))
    )
    (path,) = (tmp_path / "p" / "@files").glob("*.npz")
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "cut off":
        path.write_bytes(content[:-1])
    else:
        path.unlink()
    with pytest.raises(ModelMissing if damage == "gone" else ModelCorrupt, match="risk@1"):
        version.probe()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"])
def test_what_is_no_probe_is_not_read_as_one(content: bytes) -> None:
    with pytest.raises(ValueError, match="no probe rows"):
        Probe.from_bytes(content)


def test_a_probe_of_the_wrong_kind_is_refused() -> None:
    rows, signals = np.zeros((2, 3), np.float32), np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="float32"):
        Probe(rows.astype(np.float64), signals)
    with pytest.raises(ValueError, match="do not fit"):
        Probe(rows, signals[:1])
    with pytest.raises(ValueError, match="1 to 64 rows"):
        Probe(rows[:0], signals[:0])


def test_a_file_of_another_kind_with_the_right_digest_is_no_probe(tmp_path: Path) -> None:
    class NoProbe(Probe):
        __slots__ = ()

        def to_bytes(self) -> bytes:
            return b"something else"

    odd = NoProbe(np.zeros((1, 3), np.float32), np.zeros(1, np.float32))
    version = Registry(tmp_path).add("p", "risk", mean_of(), CARD, odd)
    with pytest.raises(CardUnreadable, match="no probe rows"):
        version.probe()
