"""Quarantine: who fails or says the same of every row weighs nothing, until that is over."""

from __future__ import annotations

import numpy as np
import pytest

from models.arrays import Floats32
from models.live_weights import (
    Quarantine,
    QuarantineRule,
    StageRows,
    StageVerdict,
    without_quarantined,
)
from models.live_weights.quarantine import REFERENCE

RULE = QuarantineRule(rows=100, failed=0.5, restore_blocks=4)


def said(signals: Floats32, failed: float = 0.0, seed: int = 0) -> StageRows:
    """Rows of which a share has failed."""
    rng = np.random.default_rng(seed)
    return StageRows(signals, rng.random(len(signals)) < failed)


def varied(n: int, seed: int = 0) -> Floats32:
    """As a model says."""
    return np.random.default_rng(seed).random(n).astype(np.float32)


def watched() -> Quarantine:
    """A quarantine that knows what is usual of stage a."""
    quarantine = Quarantine(["a"], RULE)
    assert not quarantine.observe({"a": said(varied(REFERENCE))})
    return quarantine


def reasons(verdicts: list[StageVerdict]) -> list[str | None]:
    return [verdict.reason for verdict in verdicts]


def test_a_stage_that_fails_is_taken_within_two_blocks_of_its_beginning_to() -> None:
    quarantine = watched()
    quarantine.observe({"a": said(varied(50))})
    verdicts = quarantine.observe({"a": said(varied(150), failed=1.0)})
    assert reasons(verdicts) == ["failed"]
    assert "failed on" in verdicts[0].words
    assert quarantine.taken == {"a": "failed"}


@pytest.mark.parametrize(("share", "taken"), [(0.3, False), (0.7, True)])
def test_it_is_the_share_of_a_block_that_counts(share: float, taken: bool) -> None:
    quarantine = watched()
    verdicts = quarantine.observe({"a": said(varied(1000), failed=share)})
    assert bool(verdicts) == taken


def test_it_is_restored_after_four_good_blocks_and_not_before() -> None:
    quarantine = watched()
    quarantine.observe({"a": said(varied(100), failed=1.0)})
    assert not quarantine.observe({"a": said(varied(399))})
    assert quarantine.taken
    assert reasons(quarantine.observe({"a": said(varied(1))})) == [None]
    assert not quarantine.taken


def test_what_is_neither_good_nor_bad_restores_nothing() -> None:
    """Between a quarter of the share and the share it stays as it is: hysteresis."""
    quarantine = watched()
    assert not quarantine.observe({"a": said(varied(1000), failed=0.3)})
    quarantine.observe({"a": said(varied(100), failed=1.0)})
    assert not quarantine.observe({"a": said(varied(2000), failed=0.3)})
    assert quarantine.taken


def test_one_that_is_taken_again_soon_has_to_be_good_for_longer() -> None:
    quarantine = watched()
    blocks = []
    for _ in range(3):
        quarantine.observe({"a": said(varied(100), failed=1.0)})
        count = 0
        while quarantine.taken:
            quarantine.observe({"a": said(varied(100, seed=count))})
            count += 1
        blocks.append(count)
    assert blocks == [4, 8, 16]


def test_one_value_of_all_rows_is_taken_where_others_were_usual() -> None:
    quarantine = watched()
    verdicts = quarantine.observe({"a": said(np.full(100, 0.25, np.float32))})
    assert reasons(verdicts) == ["constant"]
    assert quarantine.observe({"a": said(varied(400))})[0].reason is None


def test_a_constant_that_breaks_in_mid_block_is_taken_a_block_later() -> None:
    quarantine = watched()
    assert not quarantine.observe({"a": said(varied(60))})
    assert reasons(quarantine.observe({"a": said(np.full(140, 0.25, np.float32))})) == ["constant"]


def test_a_rule_that_hardly_ever_fires_is_no_constant() -> None:
    """Over 300 blocks of a rule that fires on one row in 300."""
    quarantine, rng = Quarantine(["a"], RULE), np.random.default_rng(2)
    fires = (rng.random(30_000) < 1 / 300).astype(np.float32)
    assert not quarantine.observe({"a": said(fires)})


def test_that_rule_is_taken_when_it_has_not_fired_for_so_long_that_chance_is_out() -> None:
    quarantine, rng = Quarantine(["a"], RULE), np.random.default_rng(2)
    quarantine.observe({"a": said((rng.random(2000) < 1 / 20).astype(np.float32))})
    verdicts = quarantine.observe({"a": said(np.zeros(5000, np.float32))})
    assert reasons(verdicts) == ["constant"]
    assert verdicts[0].rows > 300


def test_what_has_always_said_the_same_is_no_news() -> None:
    quarantine = Quarantine(["a"], RULE)
    assert not quarantine.observe({"a": said(np.full(10_000, 0.5, np.float32))})


def test_a_signal_that_drifts_is_not_taken() -> None:
    quarantine = watched()
    drift = np.clip(varied(5000) * 0.01 + np.linspace(0, 0.99, 5000), 0, 1).astype(np.float32)
    assert not quarantine.observe({"a": said(drift)})


def test_batches_do_not_matter_and_it_goes_on_from_its_bytes() -> None:
    rng = np.random.default_rng(3)
    signals = np.concatenate([varied(1500), np.full(400, 0.5, np.float32), varied(900)])
    failed = np.concatenate([np.zeros(1900, np.bool_), rng.random(900) < 0.9])
    whole, part = Quarantine(["a"], RULE), Quarantine(["a"], RULE)
    expected = whole.observe({"a": StageRows(signals, failed)})
    verdicts = []
    for start in range(0, len(signals), 37):
        rows = slice(start, start + 37)
        verdicts += part.observe({"a": StageRows(signals[rows], failed[rows])})
        part = Quarantine.from_bytes(part.to_bytes(), ["a"], RULE)
    assert verdicts == expected
    assert expected
    assert part.to_bytes() == whole.to_bytes()


def test_bytes_that_are_no_state_are_refused() -> None:
    with pytest.raises(ValueError, match="no state of a quarantine"):
        Quarantine.from_bytes(b'{"a": {"rows": "many"}}', ["a"], RULE)


def test_the_last_stage_that_was_fitted_on_labels_keeps_its_weight() -> None:
    alpha, labelled = np.array([0.5, 0.3, 0.2]), np.array([False, True, True])
    weights, out = without_quarantined(alpha, ["n", "a", "b"], labelled, ["a", "b", "n"])
    assert out == ["n", "a"]
    assert weights == pytest.approx([0, 0, 1])


def test_without_any_weights_stay_to_the_bit() -> None:
    alpha = np.array([0.1, 0.2, 0.7])
    weights, out = without_quarantined(alpha, ["a", "b", "c"], np.ones(3, np.bool_), [])
    assert weights.tobytes() == alpha.tobytes()
    assert not out
