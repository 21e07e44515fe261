"""Components that go on learning from the version in service, instead of being fitted anew.

What a fit goes on from is decided once, before the data set is built, and stands in the record of
that step: the version, and up to which event time it, and what it reads, have learned. So whoever
takes the renewal up feeds the same rows to the same model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from agents.components import open_component
from agents.renewal.errors import NothingInService, NothingToGoOnFrom
from agents.renewal.step_result import RenewalContext, StepResult, TrainingWork
from agents.service.promotion import Promoter
from models.registry import ModelVersion, Registry, reads
from models.training.continuation import Base, ContinuedFits, read_by
from models.training.data import TrainingData
from models.training.estimators import is_supervised, load_estimator
from topics.pipeline import Pipeline

BLOCK_ROWS = 8192
_BASE, _SINCE, _SERVED = ".base", ".since_ms", ".served"


async def planned_increments(context: RenewalContext, names: Sequence[str]) -> dict[str, float]:
    """What the fits of components *names* go on from, as figures of the step's record.

    Raises NothingInService and NothingToGoOnFrom.
    """
    pipeline, figures = context.pipeline, dict[str, float]()
    if not names:
        return figures
    async with context.control() as control:
        promoter = Promoter(control, context.file, context.registry)
        await control.catch_up()
        for name in names:
            runs = promoter.in_service(name)
            if runs is None:
                raise NothingInService(pipeline.name, name)
            base = base_version(context.registry, pipeline, name, runs.version)
            since_ms = _until_ms(base) or 0
            for source in read_by(pipeline, [name]):
                read = promoter.in_service(source)
                if read is None or not read.version:
                    continue
                figures[f"{source}{_SERVED}"] = read.version
                if _is_taught(pipeline, source):
                    version = context.registry.get(pipeline.name, source, read.version)
                    since_ms = max(since_ms, _until_ms(version) or 0)
            figures |= {f"{name}{_BASE}": base.version, f"{name}{_SINCE}": since_ms}
    return figures


def base_version(registry: Registry, pipeline: Pipeline, name: str, version: int) -> ModelVersion:
    """What the fit goes on from: the version itself, or the one that it is a variant of.

    Raises NothingToGoOnFrom.
    """
    base = registry.get(pipeline.name, name, version)
    while base.state_digest is None and base.card.parent is not None:
        base = registry.get(pipeline.name, name, base.card.parent)
    model = pipeline.component(name).model
    why = None
    if base.state_digest is None:
        why = "it was fitted before the pipeline file named it under renew: incremental"
    elif model is None or (model.estimator, {**model.parameters}) != (
        base.card.estimator, {**base.card.parameters},
    ):  # fmt: skip
        why = "the pipeline file has another estimator now, or other parameters"
    elif not reads(pipeline, name, base.card.inputs):
        why = "the pipeline file has it read other columns now"
    elif base.card.trained_until is None:
        why = "its card does not say up to when it has learned"
    if why is not None:
        raise NothingToGoOnFrom(pipeline.name, base.name, why)
    return base


def since_ms_of(figures: Mapping[str, float]) -> list[int]:
    """Up to which event times what goes on has learned, of each component (ms since 1970)."""
    return [int(value) for name, value in figures.items() if name.endswith(_SINCE)]


def continue_training(
    work: TrainingWork, names: Sequence[str], figures: Mapping[str, float]
) -> StepResult:
    """New versions of components *names*, by the rows that are new to them.

    *figures* are those of `planned_increments`. Memory does not grow with the rows.
    """
    pipeline, registry = work.file.pipeline, work.registry
    bases = {
        name: Base(
            registry.get(pipeline.name, name, int(figures[f"{name}{_BASE}"])),
            int(figures[f"{name}{_SINCE}"]),
        )
        for name in names
    }
    fits = ContinuedFits(
        pipeline, work.file.path.parent, registry, open_component=open_component, bases=bases,
        in_service={
            name.removesuffix(_SERVED): int(version)
            for name, version in figures.items()
            if name.endswith(_SERVED)
        },
        checkpoint=work.path.with_name("increments.npz"), key=work.digest,
    )  # fmt: skip
    rows = row_count(work.path)

    def blocks(first: int) -> Iterator[TrainingData]:
        return work.blocks_of(pipeline, work.path, BLOCK_ROWS, first)

    continued = fits.run(blocks, rows, BLOCK_ROWS)
    versions, said, words = dict[str, int](), dict[str, float](), []
    for name, each in continued.items():
        version = registry.add(
            pipeline.name, name, *each.model, reference=each.reference, state=each.state
        )
        versions[name] = version.version
        fed = each.model.card.continues
        if fed is not None:
            said[f"{name}.rows"] = fed.rows
            words.append(
                f"{version.name} goes on from {name}@{fed.version} with {fed.rows:,} events, "
                f"{fed.since} to {fed.until}"
            )
        if each.average_precision is not None:
            said[f"{name}.average_precision"] = each.average_precision
            said[f"{name}.judged_rows"] = each.judged_rows
    words += [f"no event is new to {name}" for name in names if name not in continued]
    return StepResult("; ".join(words), versions=versions, figures=said)


def row_count(path: Path) -> int:
    """How many rows a data set has."""
    from pyarrow.parquet import read_metadata

    return int(read_metadata(path).num_rows)


def _is_taught(pipeline: Pipeline, name: str) -> bool:
    """Whether what others read of a component knows labels."""
    model = pipeline.component(name).model
    if model is None or model.estimator is None:
        return False
    estimator = load_estimator(model.estimator, model.parameters, 0)
    return is_supervised(estimator) or model.calibration != "none"


def _until_ms(version: ModelVersion) -> int | None:
    until = version.card.trained_until
    return None if until is None else round(datetime.fromisoformat(until).timestamp() * 1000)
