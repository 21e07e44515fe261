"""Optimising a pipeline: the variants of every component's model, and those that are kept."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version as library_version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.arrays import Floats32
from models.onnx.probing import probe_of
from models.onnx.session import ModelSession
from models.registry import ComponentVariants, ModelVersion, OptimiseReport
from models.training.data import TrainingData, with_windows
from models.training.splits import blocks
from models.variants.builder import VariantSet, build_variants
from models.variants.fusion_speed import fusion_results
from models.variants.gate import winner
from models.variants.model_source import (
    ModelSource,
    OpenVariant,
    components_of,
    opening_aside,
    originals_of,
)
from models.variants.offline_pipeline import OfflinePipeline
from models.variants.variant_kinds import FP32

_CALIBRATION_ROWS = 4096

Progress = Callable[[str, float], None]


class ChosenVariant(NamedTuple):
    """A variant that is to be registered."""

    onnx: bytes
    rows: Floats32
    """Rows (N, F) to take its probe from."""


def optimise(
    source: ModelSource,
    data: TrainingData,
    *,
    only: str | None = None,
    seed: int = 0,
    progress: Progress = lambda _name, _fraction: None,
) -> tuple[OptimiseReport, Mapping[str, ChosenVariant]]:
    """The tables of all variants, and the models to register by component.

    Variants are made of each component's newest fp32 model (a variant's parent, where a
    variant is the newest), calibrated on rows of the first 60 % of *data* in time, and judged
    on the last 20 %, with all other components as they are. Where several chosen variants
    together flip more decisions than one may, the one that flips most is given up.
    `progress(part, fraction)` follows each component, and `rows` before them, from 0 to 1.
    Raises NothingToOptimise, TooFewRows, OneClass, ComponentFailed and RegistryError.
    """
    started = time.perf_counter()
    originals = originals_of(source, only)
    calibration, judged = _offline_pipelines(source, originals, data, seed, progress)
    results: dict[str, VariantSet] = {}
    with opening_aside(source, originals) as opened:
        for name, original in originals.items():
            results[name] = build_variants(
                name, original.read(), judged, calibration.model_input(name),
                source.pipeline.optimise, open_model=partial(opened, name), seed=seed,
                progress=partial(progress, name),
            )  # fmt: skip
        chosen = {name: winner(variants.table) for name, variants in results.items()}
        flips = _flips_together(chosen, results, judged, source.pipeline.optimise.max_flips, opened)
    fused = []
    if only is None and source.pipeline.fuse:
        progress("fused", 0.0)
        fused = fusion_results(source.pipeline, judged.components, judged, seed=seed)
        progress("fused", 1.0)
    components = [
        ComponentVariants(
            component=name, version=originals[name].version, digest=originals[name].digest,
            noise=variants.noise, variants=variants.table, chosen=chosen[name],
        )
        for name, variants in results.items()
    ]  # fmt: skip
    report = OptimiseReport(
        pipeline=source.pipeline.name, rows=judged.data.rows, machine=_machine(),
        calibration_rows=calibration.data.rows, components=components, fused=fused,
        flips_together=flips, seconds=time.perf_counter() - started,
    )  # fmt: skip
    return report, {
        name: ChosenVariant(results[name].candidates[variant], calibration.model_input(name))
        for name, variant in chosen.items()
        if variant != FP32
    }


def register(
    source: ModelSource, report: OptimiseReport, kept: Mapping[str, ChosenVariant]
) -> OptimiseReport:
    """Register what is *kept* as new versions of their components; the report names them."""
    tables = [
        table.model_copy(update={"registered": _registered(source, table, kept[table.component])})
        if table.component in kept
        else table
        for table in report.components
    ]
    return report.model_copy(update={"components": tables})


def _registered(source: ModelSource, table: ComponentVariants, kept: ChosenVariant) -> int:
    """The number of the new version, whose parent is the version that it was made of."""
    pipeline, registry = source.pipeline.name, source.registry
    original = registry.get(pipeline, table.component, table.version)
    parent = original.card
    session = ModelSession.of(kept.onnx, f"{table.component} as {table.chosen}")
    changes = {
        "variant": table.chosen,
        "parent": table.version,
        "variants": table.variants,
        "created_at": datetime.now(UTC).isoformat(),
        "libraries": {name: library_version(name) for name in parent.libraries},
        "signature": session.signature,
        "note": f"the fastest variant of version {table.version} within tolerance",
    }
    card, probe = parent.model_copy(update=changes), probe_of(session, kept.rows)
    return registry.add(
        pipeline, table.component, kept.onnx, card, probe, reference=original.reference()
    ).version


def _offline_pipelines(
    source: ModelSource,
    originals: Mapping[str, ModelVersion],
    data: TrainingData,
    seed: int,
    progress: Progress,
) -> tuple[OfflinePipeline, OfflinePipeline]:
    """The pipeline over calibration rows, and over those that variants are judged on."""
    pipeline = source.pipeline
    progress("rows", 0.0)
    data = data.in_time_order(pipeline.event.time)
    split = blocks(data.rows, 1)
    split.check(data.labels)
    data = with_windows(pipeline, data)
    progress("rows", 0.4)
    drawn = np.random.default_rng(seed).permutation(split.fits[0].stop)[:_CALIBRATION_ROWS]
    late = np.arange(split.held_out.start, split.held_out.stop)
    components = components_of(source, originals)
    early, judged = (
        OfflinePipeline(pipeline, data.picked(rows), components, source.weights)
        for rows in (np.sort(drawn), late)
    )
    progress("rows", 1.0)
    return early, judged


def _flips_together(
    chosen: dict[str, str],
    results: Mapping[str, VariantSet],
    offline: OfflinePipeline,
    max_flips: float,
    opened: OpenVariant,
) -> int:
    """Decisions that flip with all of *chosen* in place; gives up what makes them too many."""
    while changed := {
        name: opened(name, results[name].candidates[variant], variant)
        for name, variant in chosen.items()
        if variant != FP32
    }:
        flips = offline.flips(changed)
        if flips <= max_flips * offline.data.rows:
            return flips
        alone = {name: offline.flips({name: component}) for name, component in changed.items()}
        chosen[max(alone, key=alone.__getitem__)] = FP32
    return 0


def _machine() -> str:
    """The processor, as far as the system names it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
