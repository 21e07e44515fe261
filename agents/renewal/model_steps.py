"""The steps of a renewal up to new versions: data set, training, variants, and a look at them.

Each may be run again after a crash: a data set is built again of the same events, training gives
the same models to the byte, and what is registered already is found again (`named_versions`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import file_digest
from pathlib import Path

import numpy as np

from agents.broker import check_topics
from agents.components import open_component
from agents.dataset import DatasetBuilder
from agents.renewal.errors import (
    DatasetChanged,
    NoMaturedEvents,
    NothingInService,
    NothingRenewable,
)
from agents.renewal.named_versions import NamedVersions
from agents.renewal.renewal_ledger import Renewal
from agents.renewal.served_training import doubles, labelled_rows
from agents.renewal.step_result import RenewalContext, StepResult, name_of
from agents.replay.recorded_range import SourceRange
from agents.service.decided_by import keep_decided_by
from agents.service.open_version import open_weights
from agents.service.promotion import Promoter
from models.arrays import Bools, Floats64
from models.report.quality import ranking
from models.training.engines import open_engine
from models.training.estimators import is_supervised, load_estimator
from models.training.train import train
from models.variants.model_source import ModelSource
from models.variants.optimisation import optimise, register
from topics.pipeline import OUTCOME, Pipeline, Topology, duration_ms, renewable
from topics.records import WEIGHTS

_PRECISION = ".average_precision"
_MATURE = "mature_until_ms"


def renewed_components(pipeline: Pipeline) -> list[str]:
    """What a renewal of *pipeline* renews. Raises NothingRenewable, EstimatorError."""
    if pipeline.renew.components is not None:
        return pipeline.renew.components
    names = [
        spec.name
        for spec in pipeline.components
        if renewable(spec) and spec.model is not None and spec.model.estimator is not None
        if is_supervised(load_estimator(spec.model.estimator, spec.model.parameters, 0))
    ]
    if not names:
        raise NothingRenewable(pipeline.name)
    return names


async def build_dataset(context: RenewalContext, renewal: Renewal) -> StepResult:
    """What was served of the newest days that have outcomes, as a file.

    Where it was built before and is gone, of the same events.
    """
    pipeline = context.pipeline
    await check_topics(context.settings, Topology.of(pipeline))
    ranges, mature_ms = await _matured_events(context, renewal)
    path = context.dataset(renewal)
    path.parent.mkdir(parents=True, exist_ok=True)
    builder = DatasetBuilder(context.settings, pipeline, context.tail)
    summary = await builder.build(ranges, path, mature_before_ms=mature_ms, labelled_only=True)
    if not summary.labelled:
        raise NoMaturedEvents(pipeline.name, pipeline.outcomes.delay)
    return StepResult(
        f"{summary.labelled:,} events with outcomes, {summary.positives:,} of them true",
        offsets={of.partition: (of.start, of.end) for of in ranges},
        digest=await asyncio.to_thread(_digest, path),
        figures={
            "rows": summary.labelled, "positives": summary.positives,
            "without_outcome": summary.unlabelled, _MATURE: mature_ms,
        },
    )  # fmt: skip


async def _matured_events(
    context: RenewalContext, renewal: Renewal
) -> tuple[list[SourceRange], int]:
    """Where the events stand that are trained on, and the event time before which they are."""
    pipeline, before = context.pipeline, renewal.steps.get("dataset")
    if before is not None and before.state == "done":
        offsets = sorted(before.offsets.items())
        return [SourceRange(at, *span) for at, span in offsets], int(before.figures[_MATURE])
    clock_ms = await context.clock.now_ms()
    if clock_ms is None:
        raise NoMaturedEvents(pipeline.name, pipeline.outcomes.delay)
    mature_ms = clock_ms - duration_ms(pipeline.outcomes.delay)
    since_ms = mature_ms - duration_ms(context.renew.over)
    ranges = await context.clock.range_ms(since_ms, mature_ms)
    if not ranges:
        raise NoMaturedEvents(pipeline.name, pipeline.outcomes.delay)
    return ranges, mature_ms


async def train_versions(context: RenewalContext, renewal: Renewal) -> StepResult:
    """New versions of the components, and weights for them, in the registry."""
    path = await _same_dataset(context, renewal)
    names = renewed_components(context.pipeline)
    await _keep_in_service(context, renewal, names)
    return await asyncio.to_thread(_trained, context, renewal, path, names)


def _trained(
    context: RenewalContext, renewal: Renewal, path: Path, names: Sequence[str]
) -> StepResult:
    pipeline, folder = context.pipeline, context.file.path.parent
    data = context.rows_of(pipeline, path)
    registry = NamedVersions(context.registry, name_of(renewal))
    with open_engine(context.renew.engine, context.renew.address, rows=data.rows) as engine:
        report = train(
            pipeline, folder, data, registry, open_component=open_component, only=names,
            engine=engine,
        )  # fmt: skip
    keep_decided_by(context.registry, context.file)
    versions = {
        name: version for name in names if (version := report.components[name].version) is not None
    }
    figures = {
        f"{name}{_PRECISION}": part.average_precision
        for name, part in report.components.items()
        if part.average_precision is not None
    }
    return StepResult(
        f"{', '.join(f'{name}@{version}' for name, version in versions.items())} on "
        f"{report.rows:,} events in {report.seconds:.1f} s",
        versions=versions, weights=report.weights_version,
        figures={**figures, "judged_rows": report.held_out.rows},
    )  # fmt: skip


async def optimise_versions(context: RenewalContext, renewal: Renewal) -> StepResult:
    """The fastest variants of them that are as good, where the pipeline file asks for variants."""
    versions = renewal.versions
    if not context.renew.variants:
        return StepResult("not asked for (renew: variants)", versions=versions)
    path = await _same_dataset(context, renewal)
    return await asyncio.to_thread(_optimised, context, renewal, path, versions)


def _optimised(
    context: RenewalContext, renewal: Renewal, path: Path, versions: Mapping[str, int]
) -> StepResult:
    pipeline = context.pipeline
    registry = NamedVersions(context.registry, name_of(renewal))
    weights = open_weights(pipeline, registry).values
    data = context.rows_of(pipeline, path)
    chosen, words = dict(versions), []
    for name in versions:
        source = ModelSource(
            pipeline.with_version(name, versions[name]), context.file.path.parent, registry,
            weights, open_component,
        )  # fmt: skip
        report, models = optimise(source, data, only=name)
        for table in register(source, report, models).components:
            if table.registered is not None:
                chosen[name] = table.registered
                words.append(f"{name}@{table.registered} is {table.chosen}")
    return StepResult("; ".join(words) or "all stay fp32", versions=chosen)


async def evaluate_versions(context: RenewalContext, renewal: Renewal) -> StepResult:
    """Which of them rank the newest days with outcomes as well as what was served then.

    Of the new models that are those of training, before they were fitted again with these days;
    of the old ones it is what they said as it happened.
    """
    path, trained = await _same_dataset(context, renewal), renewal.done("train").figures
    served = await asyncio.to_thread(
        served_precision, path, [*renewal.versions], int(trained["judged_rows"])
    )
    versions, figures, given_up = dict(renewal.versions), dict[str, float](), list[str]()
    for name, before in served.items():
        after = trained.get(f"{name}{_PRECISION}")
        if after is None:
            continue
        figures |= {f"{name}{_PRECISION}.before": before, f"{name}{_PRECISION}.after": after}
        if after < before - context.renew.worse_by:
            del versions[name]
            given_up.append(f"{name} ranks them with {after:.3f} instead of {before:.3f}")
    words = "; ".join(given_up) or "none is worse than what was served"
    if not versions:
        return StepResult(words, figures=figures, ends="lost")
    return StepResult(words, versions=versions, figures=figures)


def served_precision(path: Path, names: Sequence[str], newest: int) -> dict[str, float]:
    """Component → average precision of the signals served, on the *newest* labelled rows.

    Without those components whose signals are not there, or where all outcomes are the same.
    """
    table = labelled_rows(path, [f"signal.{name}" for name in names])
    table = table.slice(max(0, table.num_rows - newest))
    labels: Bools = np.array(table[OUTCOME].to_numpy(), np.bool_)
    precision = {}
    for name in names:
        signals: Floats64 = doubles(table[f"signal.{name}"])
        there = ~np.isnan(signals)
        known = labels[there]
        if known.any() and not known.all():
            precision[name] = ranking(known, signals[there]).average_precision
    return precision


async def _keep_in_service(context: RenewalContext, renewal: Renewal, names: Sequence[str]) -> None:
    """Say on the control topic what runs, where it does not: a worker that starts takes the newest.

    What is registered here may not get into service by a restart.
    """
    pipeline = context.pipeline
    async with context.control() as control:
        promoter = Promoter(control, context.file, context.registry, by=name_of(renewal))
        await control.catch_up()
        reason = f"{name_of(renewal)}: stays in service while others are trained"
        for name in names:
            if control.state.deployment(name).champion is not None:
                continue
            runs = promoter.in_service(name)
            if runs is None:
                raise NothingInService(pipeline.name, name)
            await context.still_ours()
            await promoter.promote(name, runs.version, reason)
        learned = pipeline.weighting.fixed_weights is None
        if learned and control.state.weights is None:
            await context.still_ours()
            await promoter.promote_weights(promoter.begun(WEIGHTS), reason)


async def _same_dataset(context: RenewalContext, renewal: Renewal) -> Path:
    """The data set that the log names. Raises DatasetChanged."""
    path, named = context.dataset(renewal), renewal.done("dataset").digest
    digest = await asyncio.to_thread(_digest, path)
    if digest != named:
        raise DatasetChanged(path, digest, str(named))
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{file_digest(file, 'sha256').hexdigest()}"
