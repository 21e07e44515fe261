"""The gate: which variants are within tolerance, which are faster, and which is chosen."""

from __future__ import annotations

from collections.abc import Sequence

from models.registry import Losses, Speed, Variant
from models.variants.variant_kinds import FP32
from topics.pipeline import Tolerances

LEAST_GAIN = 0.02
"""Less than so much faster is not worth another file."""


def breaches(losses: Losses, tolerances: Tolerances) -> list[str]:
    """What rules a variant out, in words; nothing when it is eligible."""
    allowed = tolerances.max_flips * losses.rows
    reasons = []
    if losses.moving_rows:
        reasons.append(
            f"the bits of {losses.moving_rows} of {losses.compared_rows} rows depend on their "
            "batch: decisions could not be replayed"
        )
    if losses.max_delta > tolerances.max_delta:
        reasons.append(f"|Δsignal| {losses.max_delta:.2g} > {tolerances.max_delta:g}")
    if losses.flips > allowed:
        reasons.append(f"{losses.flips:,} decisions flip, {allowed:,.0f} are allowed")
    if losses.auc_loss > tolerances.max_auc_loss:
        reasons.append(f"AUC ROC loses {losses.auc_loss:.2g} > {tolerances.max_auc_loss:g}")
    if losses.ap_loss > tolerances.max_ap_loss:
        reasons.append(f"average precision loses {losses.ap_loss:.2g} > {tolerances.max_ap_loss:g}")
    return reasons


def noise_of(control: Speed) -> float:
    """How far fp32 may seem to be from itself, by a second session of it in the same rounds."""
    return max(abs(control.low - 1), abs(control.high - 1))


def is_faster(speed: Speed, noise: float) -> bool:
    """The whole interval of its ratio to fp32 is below 1, by more than noise and LEAST_GAIN."""
    return speed.high < 1 - max(noise, LEAST_GAIN)


def pace_in_words(speed: Speed, noise: float) -> str:
    """Faster, slower, or neither."""
    if is_faster(speed, noise):
        return f"{1 / speed.overall:.2f} × as fast as fp32"
    if speed.low > 1 + max(noise, LEAST_GAIN):
        return f"slower than fp32: {speed.overall:.2f} × its time"
    return "no faster than fp32, within noise"


def winner(variants: Sequence[Variant]) -> str:
    """The fastest eligible variant that is faster than fp32 and no no-op; else fp32."""
    able = [
        (variant.speed.overall, variant.name)
        for variant in variants
        if variant.eligible and variant.faster and not variant.no_op and variant.speed is not None
    ]
    return min(able)[1] if able else FP32
