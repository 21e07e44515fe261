"""`anabranch models optimise`: variants of a pipeline's models, measured, and the best kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.options import (
    SIMULATED_ROWS,
    DataOption,
    JsonOption,
    RowsOption,
    open_registry,
    pipeline_file,
)
from agents.commands.terminal import counting_bars, percent_bars, print_json, stdout

if TYPE_CHECKING:
    from rich.console import JustifyMethod

    from models.registry import ComponentVariants, FusionResult, OptimiseReport, Variant


def optimise(
    target: Annotated[
        str,
        typer.Argument(
            metavar="PIPELINE[/COMPONENT]",
            help="Path of a .yaml or .yml file, or name of one in deploy/pipelines.",
        ),
    ],
    data: DataOption = None,
    rows: RowsOption = SIMULATED_ROWS,
    seed: Annotated[int, typer.Option(min=0, help="Seed of simulator and calibration.")] = 0,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=65_536,
            metavar="ROWS",
            help="Batch size to be fast at (may be given several times); else the file's.",
        ),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Register what is chosen as new versions.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the times: .svg, .png or .pdf.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make variants of each model, measure them on this machine, and choose.

    Made are: the graph that onnxruntime optimises, fp16, int8 (dynamic, and static with
    scales from real rows), and networks with a quarter to three quarters of their hidden units
    pruned. Chosen is the fastest that is faster than fp32 beyond noise, stays within the
    tolerances of the pipeline file (optimise:), flips no more of the pipeline's decisions
    than they allow, and gives a row the same bits in any batch. Often that is fp32. Components
    that the file fuses (fuse:) are also measured as one session against one by one.

    Times are processor time of one thread, in turns with fp32. The rows are those of
    `anabranch train` with the same --data or --seed: the first 60 % calibrate, the last 20 %
    judge. A registered model was fitted on all of them in the end: give other --data, or
    another --seed, to see what a variant loses on rows that are new to it.

    Examples:
      anabranch models optimise card-fraud

      anabranch models optimise card-fraud/risk-linear --batch 1 --batch 64 --plot times.svg

      anabranch models optimise churn.yaml --data churn.csv --apply
    """
    from agents.commands.labelled_events import training_rows
    from agents.components import open_component
    from agents.service.open_version import open_weights
    from models.variants.model_source import ModelSource
    from models.variants.optimisation import optimise as measured_variants
    from models.variants.optimisation import register
    from models.variants.plot import check_drawable, draw

    if plot is not None:
        check_drawable(plot)
    name, only = _pipeline_and_component(target)
    file, registry = pipeline_file(name), open_registry()
    pipeline = file.pipeline
    if batch is not None:
        tolerances = pipeline.optimise.model_copy(update={"batch": sorted(set(batch))})
        pipeline = pipeline.model_copy(update={"optimise": tolerances})
    weights = open_weights(pipeline, registry).values
    source = ModelSource(pipeline, file.path.parent, registry, weights, open_component)
    with counting_bars() as bars:
        training = training_rows(file.pipeline, data, rows=rows, seed=seed, bars=bars)
        report, models = measured_variants(
            source, training, only=only, seed=seed, progress=percent_bars(bars)
        )
    if apply:
        report = register(source, report, models)
    if as_json:
        print_json(report.model_dump_json())
    else:
        print_report(report)
    if plot is not None:
        draw(report, plot)


def _pipeline_and_component(target: str) -> tuple[str, str | None]:
    """The pipeline and the component of `PIPELINE[/COMPONENT]`, where PIPELINE may be a path."""
    pipeline, slash, component = target.rpartition("/")
    if not slash or target.endswith((".yaml", ".yml")):
        return target, None
    return pipeline, component


def print_report(report: OptimiseReport) -> None:
    """Print a table for each component, and what is chosen."""
    for component in report.components:
        _print_component(component, report)
    for fused in report.fused:
        stdout.print(_fused_in_words(fused), highlight=False, soft_wrap=True)
    stdout.print(
        f"{report.machine}: {report.rows:,} held-out rows, {report.calibration_rows:,} to "
        f"calibrate; µs of one thread a row, and × fp32; {report.seconds:.1f} s"
    )
    if sum(component.chosen != "fp32" for component in report.components) > 1:
        stdout.print(f"with all of them in place {report.flips_together:,} decisions flip")


def _print_component(component: ComponentVariants, report: OptimiseReport) -> None:
    from rich.table import Table

    batches = next(
        variant.speed.us_per_row for variant in component.variants if variant.speed is not None
    )
    title = f"{component.component}@{component.version}"
    stdout.print(f"{title} (fp32 seems {component.noise:.1%} from itself)", style="italic")
    speed = ("variant", *(f"µs at {size}" for size in batches), "× fp32", "kB", "memory kB")
    losses = ("variant", "max |Δ|", "Δ AUC", "Δ AP", "flips", "")
    for columns, cells in ((speed, _speed_cells), (losses, _loss_cells)):
        table = Table(box=None, pad_edge=False)
        for column in columns:
            side: JustifyMethod = "left" if column in ("variant", "") else "right"
            table.add_column(column, justify=side, overflow="fold")
        for variant in component.variants:
            chosen = variant.name == component.chosen
            row = [variant.name, *cells(variant, len(columns) - 1)]
            table.add_row(*row, style="bold" if chosen else None)
        stdout.print(table)
    stdout.print(_chosen_in_words(component, report.pipeline), soft_wrap=True)
    stdout.print()


def _fused_in_words(fused: FusionResult) -> str:
    names = ", ".join(fused.components)
    if fused.speed is None:
        return f"{names}: fused, but one by one: {fused.refused}"
    times = ", ".join(f"{ratio:.2f} at {size}" for size, ratio in fused.speed.ratio.items())
    return f"{names} in one session, as fused: the same bits; × one by one: {times} rows"


def _speed_cells(variant: Variant, cells: int) -> list[str]:
    if variant.speed is None:
        return ["-"] * cells
    memory = "-" if variant.memory is None else f"{variant.memory / 1024:,.0f}"
    return [
        *(f"{us:.2f}" for us in variant.speed.us_per_row.values()),
        f"{variant.speed.overall:.2f}", f"{(variant.bytes or 0) / 1024:,.1f}", memory,
    ]  # fmt: skip


def _loss_cells(variant: Variant, cells: int) -> list[str]:
    words, losses = "; ".join(variant.words), variant.losses
    if variant.speed is None or losses is None:
        return [*["-"] * (cells - 1), words]
    return [
        f"{losses.max_delta:.2g}", f"{0 - losses.auc_loss:+.4f}", f"{0 - losses.ap_loss:+.4f}",
        f"{losses.flips:,}", words,
    ]  # fmt: skip


def _chosen_in_words(component: ComponentVariants, pipeline: str) -> str:
    if component.chosen == "fp32":
        return "stays: no variant is both within tolerance and faster beyond noise"
    if component.registered is None:
        return f"chosen: {component.chosen} (--apply registers it)"
    return (
        f"chosen: {component.chosen}, registered as {component.component}@{component.registered} "
        f"of {pipeline}"
    )
