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
from agents.renewal.incremental_training import continue_training, planned_increments, since_ms_of
from agents.renewal.named_versions import NamedVersions
from agents.renewal.renewal_ledger import Renewal
from agents.renewal.served_training import doubles, labelled_rows, stood_for
from agents.renewal.step_process import in_process
from agents.renewal.step_result import RenewalContext, StepResult, TrainingWork, name_of
from agents.replay.recorded_range import SourceRange
from agents.service.decided_by import keep_decided_by
from agents.service.open_version import open_weights
from agents.service.promotion import Promoter
from models.arrays import Bools, Floats64, Ints
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


def incremental_components(pipeline: Pipeline, names: Sequence[str]) -> list[str]:
    """Those of *names* that go on learning instead of being fitted anew."""
    return [name for name in names if name in pipeline.renew.incremental]


async def build_dataset(context: RenewalContext, renewal: Renewal) -> StepResult:
    """What was served of the newest days that have outcomes, as a file.

    Where all that is renewed goes on learning, of the days since it has learned last. Where it was
    built before and is gone, of the same events.
    """
    pipeline = context.pipeline
    await check_topics(context.settings, Topology.of(pipeline))
    before = renewal.steps.get("dataset")
    if before is not None and before.state == "done":
        offsets, planned = sorted(before.offsets.items()), dict(before.figures)
        ranges, mature_ms = [SourceRange(at, *span) for at, span in offsets], int(planned[_MATURE])
    else:
        names = renewed_components(pipeline)
        going_on = incremental_components(pipeline, names)
        planned = await planned_increments(context, going_on)
        anew = len(going_on) < len(names)
        ranges, mature_ms = await _matured_events(context, since_ms_of(planned), anew=anew)
        if not ranges:
            return StepResult("no event has got an outcome since the last fit", ends="undecided")
    path = context.dataset(renewal)
    path.parent.mkdir(parents=True, exist_ok=True)
    builder = DatasetBuilder(context.settings, pipeline, context.tail)
    summary = await builder.build(ranges, path, mature_before_ms=mature_ms, labelled_only=True)
    if not summary.labelled and since_ms_of(planned):
        return StepResult("no event has got an outcome since the last fit", ends="undecided")
    if not summary.labelled:
        raise NoMaturedEvents(pipeline.name, pipeline.outcomes.delay)
    return StepResult(
        f"{summary.labelled:,} events with outcomes, {summary.positives:,} of them true",
        offsets={of.partition: (of.start, of.end) for of in ranges},
        digest=await asyncio.to_thread(_digest, path),
        figures={
            **planned, "rows": summary.labelled, "positives": summary.positives,
            "without_outcome": summary.unlabelled, _MATURE: mature_ms,
        },
    )  # fmt: skip


async def _matured_events(
    context: RenewalContext, learned_ms: Sequence[int], *, anew: bool
) -> tuple[list[SourceRange], int]:
    """Where the events stand that are trained on, and the event time before which they are.

    What goes on learning has learned up to *learned_ms*; with *anew* something is fitted anew.
    Nothing where none of these is new.
    """
    pipeline = context.pipeline
    clock_ms = await context.clock.now_ms()
    if clock_ms is None:
        raise NoMaturedEvents(pipeline.name, pipeline.outcomes.delay)
    mature_ms = clock_ms - duration_ms(pipeline.outcomes.delay)
    since_ms = [mature_ms - duration_ms(context.renew.over)] if anew else []
    ranges = await context.clock.range_ms(min([*since_ms, *learned_ms]), mature_ms)
    if not ranges and anew:
        raise NoMaturedEvents(pipeline.name, pipeline.outcomes.delay)
    return ranges, mature_ms


async def train_versions(context: RenewalContext, renewal: Renewal) -> StepResult:
    """New versions of the components, and weights for them, in the registry."""
    work = await _work(context, renewal)
    names = renewed_components(context.pipeline)
    await _keep_in_service(context, renewal, names)
    result = await in_process(_trained, work, names, renewal.done("dataset").figures)
    keep_decided_by(context.registry, context.file)
    return result


def _trained(work: TrainingWork, names: Sequence[str], planned: Mapping[str, float]) -> StepResult:
    going_on = incremental_components(work.file.pipeline, names)
    anew = [name for name in names if name not in going_on]
    parts = [_fitted_anew(work, anew)] if anew else []
    parts += [continue_training(work, going_on, planned)] if going_on else []
    versions, figures = dict[str, int](), dict[str, float]()
    for part in parts:
        versions |= part.versions
        figures |= part.figures
    return StepResult(
        "; ".join(part.reason for part in parts), versions=versions, figures=figures,
        weights=parts[0].weights, ends=None if versions else "undecided",
    )  # fmt: skip


def _fitted_anew(work: TrainingWork, names: Sequence[str]) -> StepResult:
    pipeline, renew = work.file.pipeline, work.file.pipeline.renew
    data = work.rows_of(pipeline, work.path)
    times: Ints = np.asarray(data.columns[pipeline.event.time], np.int64)
    data = data.picked(times >= work.mature_ms - duration_ms(renew.over))
    with open_engine(renew.engine, renew.address, rows=data.rows) as engine:
        report = train(
            pipeline, work.file.path.parent, data, work.registry, open_component=open_component,
            only=names, engine=engine,
        )  # fmt: skip
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
    return await in_process(_optimised, await _work(context, renewal), versions)


def _optimised(work: TrainingWork, versions: Mapping[str, int]) -> StepResult:
    pipeline, registry = work.file.pipeline, work.registry
    weights = open_weights(pipeline, registry).values
    data = work.rows_of(pipeline, work.path)
    chosen, words = dict(versions), []
    for name in versions:
        source = ModelSource(
            pipeline.with_version(name, versions[name]), work.file.path.parent, registry,
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
    newest = {
        name: int(trained.get(f"{name}.judged_rows", trained.get("judged_rows", 0)))
        for name in renewal.versions
    }
    served = await asyncio.to_thread(served_precision, path, newest)
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


def served_precision(path: Path, newest: Mapping[str, int]) -> dict[str, float]:
    """Component → average precision of the signals served, on its *newest* labelled rows.

    Outcomes count by what they stand for. Without those components whose signals are not there, or
    where all outcomes are the same.
    """
    table = labelled_rows(path, [f"signal.{name}" for name in newest])
    labels: Bools = np.array(table[OUTCOME].to_numpy(), np.bool_)
    weights = stood_for(table)
    precision = {}
    for name, rows in newest.items():
        signals: Floats64 = doubles(table[f"signal.{name}"])
        there = ~np.isnan(signals) & (weights > 0)
        there[: max(0, len(labels) - rows)] = False
        known = labels[there]
        if known.any() and not known.all():
            ranked = ranking(known, signals[there], weights[there])
            precision[name] = ranked.average_precision
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


async def _work(context: RenewalContext, renewal: Renewal) -> TrainingWork:
    """What trains: with the data set that the log names. Raises DatasetChanged."""
    path, dataset = await _same_dataset(context, renewal), renewal.done("dataset")
    return TrainingWork(
        context.file, NamedVersions(context.registry, name_of(renewal)), path,
        dataset.digest or "", int(dataset.figures[_MATURE]), context.rows_of, context.blocks_of,
    )  # fmt: skip


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
