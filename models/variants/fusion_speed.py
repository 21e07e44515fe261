"""What one session for the components that a pipeline fuses is worth."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from models.arrays import Floats32
from models.onnx.fuse import FusedSession, block_of, fusable_models, one_by_one
from models.onnx.model_component import ModelComponent
from models.onnx.session import ModelSession
from models.registry import FusionResult, RegistryError
from models.variants.offline_pipeline import Components, OfflinePipeline
from models.variants.speed import speed, timed
from topics.pipeline import EVENTS, Pipeline, fused_members, inputs_of


def fusion_results(
    pipeline: Pipeline, components: Components, offline: OfflinePipeline, *, seed: int
) -> list[FusionResult]:
    """Each group that the pipeline fuses, measured on the rows of *offline*."""
    results = []
    for group in pipeline.fuse:
        names = fused_members(pipeline, group)
        models = {name: components[name] for name in names}
        sessions = {
            name: component.session
            for name, component in models.items()
            if isinstance(component, ModelComponent)
        }
        without = [name for name in names if name not in sessions]
        if without:
            refused = f"no ONNX model: {', '.join(without)}"
            results.append(FusionResult(components=list(names), refused=refused))
        else:
            results.append(_measured(pipeline, sessions, offline, seed))
    return results


def _measured(
    pipeline: Pipeline, sessions: Mapping[str, ModelSession], offline: OfflinePipeline, seed: int
) -> FusionResult:
    names, members = list(sessions), fusable_models(pipeline, sessions)
    blocks = {
        block_of(name): offline.passed_on(name)
        for name in inputs_of(pipeline, names)
        if name != EVENTS
    } or {block_of(names[0]): offline.model_input(names[0])}
    try:
        together = FusedSession.of(
            members, {name: block.shape[1] for name, block in blocks.items()}
        )
    except RegistryError as exc:
        return FusionResult(components=names, refused=str(exc))
    ends = np.cumsum([block.shape[1] for block in blocks.values()])[:-1]

    def apart(x: Floats32) -> dict[str, Floats32]:
        return dict(zip(blocks, np.split(x, ends, axis=1), strict=True))

    timings = timed(
        {
            "one by one": lambda x: [*one_by_one(members, apart(x)).values()][-1],
            "together": lambda x: [*together.signals(apart(x)).values()][-1],
        },
        np.concatenate([*blocks.values()], axis=1), pipeline.optimise.batch,
        clock=time.thread_time, seed=seed,
    )  # fmt: skip
    return FusionResult(components=names, speed=speed(timings, "together", "one by one"))
