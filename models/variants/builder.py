"""All variants of one model: made, measured, and put into the table."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.arrays import Floats32
from models.errors import ComponentFailed
from models.onnx.bit_stability import moving_rows
from models.onnx.session import ModelSession
from models.registry import Losses, Variant
from models.report.quality import Ranking, ranking
from models.variants.errors import DoesNotApply
from models.variants.gate import breaches, is_faster, noise_of, pace_in_words
from models.variants.graphs import VariantEffect, executed
from models.variants.memory import memory_of
from models.variants.offline_pipeline import OfflinePipeline
from models.variants.speed import speed, timed
from models.variants.variant_kinds import FP32, VARIANT_KINDS
from topics.pipeline import Tolerances

_COMPARED_ROWS = 500
_CONTROL = "fp32 again"

ModelOpener = Callable[[bytes, str], Any]
"""From a model and its name to the component that it makes."""


@dataclass(frozen=True, slots=True)
class VariantModel:
    """The model of a variant, which opens."""

    onnx: bytes
    session: ModelSession
    effect: VariantEffect


@dataclass(frozen=True, slots=True)
class VariantSet:
    """All that could be made of one model, and the table of all."""

    candidates: dict[str, bytes]
    noise: float
    table: list[Variant]


def build_variants(
    name: str,
    content: bytes,
    offline: OfflinePipeline,
    calibration: Floats32,
    tolerances: Tolerances,
    *,
    open_model: ModelOpener,
    seed: int,
    progress: Callable[[float], None] = lambda _: None,
) -> VariantSet:
    """Every kind of variant of the fp32 model *content* of component *name*.

    `calibration` (N, F) are rows that the model reads, and none of those in *offline*.
    """
    candidates, refused = _candidates(content, calibration)
    progress(0.2)
    x = offline.model_input(name)
    sessions = {variant: candidate.session for variant, candidate in candidates.items()}
    sessions[_CONTROL] = ModelSession.of(content, _path(_CONTROL))
    timings = timed(
        {variant: session.signal for variant, session in sessions.items()}, x, tolerances.batch,
        clock=time.thread_time, seed=seed, progress=lambda done: progress(0.2 + 0.4 * done),
    )  # fmt: skip
    noise = noise_of(speed(timings, _CONTROL, FP32))
    expected = ranking(offline.data.labels, offline.signal(name), offline.data.weights)
    rows = []
    for done, (variant, candidate) in enumerate(candidates.items(), start=1):
        pace = speed(timings, variant, FP32)
        try:
            losses = _losses(name, variant, candidate, offline, x, expected, open_model)
        except ComponentFailed as exc:
            refused.append(Variant(name=variant, words=[str(exc)]))
            continue
        against = breaches(losses, tolerances)
        faster = is_faster(pace, noise) and not candidate.effect.no_op and variant != FP32
        words = [candidate.effect.words, *against]
        if variant != FP32 and not candidate.effect.no_op:
            words.insert(1, pace_in_words(pace, noise))
        rows.append(
            Variant(
                name=variant, bytes=len(candidate.onnx), speed=pace, losses=losses, words=words,
                memory=memory_of(candidate.onnx, max(tolerances.batch)),
                eligible=not against, faster=faster, no_op=candidate.effect.no_op,
            )
        )  # fmt: skip
        progress(0.6 + 0.4 * done / len(candidates))
    models = {variant: candidate.onnx for variant, candidate in candidates.items()}
    return VariantSet(models, noise, rows + refused)


def _candidates(content: bytes, rows: Floats32) -> tuple[dict[str, VariantModel], list[Variant]]:
    """What can be made, and table rows for what cannot."""
    before = executed(content)
    session = ModelSession.of(content, _path(FP32))
    candidates = {FP32: VariantModel(content, session, VariantEffect("as it is"))}
    refused = []
    for name, kind in VARIANT_KINDS.items():
        try:
            onnx = kind.build(content, rows)
            session = ModelSession.of(onnx, _path(name))
            candidates[name] = VariantModel(onnx, session, kind.in_words(executed(onnx), before))
        except DoesNotApply as exc:
            refused.append(Variant(name=name, words=[f"does not apply: {exc}"]))
        except Exception as exc:  # quantisers and onnxruntime raise whatever they raise
            cause = (str(exc).splitlines() or [type(exc).__name__])[0]
            refused.append(Variant(name=name, words=[f"cannot be made: {cause}"]))
    return candidates, refused


def _losses(
    name: str,
    variant: str,
    candidate: VariantModel,
    offline: OfflinePipeline,
    x: Floats32,
    expected: Ranking,
    open_model: ModelOpener,
) -> Losses:
    replaced = {} if variant == FP32 else {name: open_model(candidate.onnx, variant)}
    flips = offline.flips(replaced) if replaced else 0  # first: it sees signals that are none
    signal = candidate.session.signal(x)
    compared = x[:_COMPARED_ROWS]
    reached = ranking(offline.data.labels, signal, offline.data.weights)
    return Losses(
        rows=len(x),
        max_delta=float(np.abs(signal - offline.signal(name)).max()),
        auc=reached.auc,
        auc_loss=expected.auc - reached.auc,
        average_precision=reached.average_precision,
        ap_loss=expected.average_precision - reached.average_precision,
        flips=flips,
        moving_rows=moving_rows(candidate.session.signal, compared),
        compared_rows=len(compared),
    )


def _path(name: str) -> Path:
    return Path(f"{name}.onnx")
