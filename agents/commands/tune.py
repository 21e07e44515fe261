"""`anabranch tune`: which of the pipeline file's candidates rank best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.options import (
    SIMULATED_ROWS,
    AddressOption,
    DataOption,
    EngineName,
    EngineOption,
    JsonOption,
    PipelineArgument,
    RowsOption,
    check_engine,
    open_registry,
    pipeline_file,
)
from agents.commands.terminal import counting_bars, print_json, stderr, stdout

if TYPE_CHECKING:
    from models.training.tune import TuningResult
    from topics.pipeline import PipelineFile

_SHOWN = 20


def tune(
    pipeline: PipelineArgument,
    data: DataOption = None,
    component: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Tune only this component (may be given several times)."),
    ] = None,
    rows: RowsOption = SIMULATED_ROWS,
    most: Annotated[
        int, typer.Option(min=1, help="Try at most so many combinations, drawn at random.")
    ] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Seed of simulator, draw and estimators.")] = 0,
    write: Annotated[
        bool, typer.Option("--write", help="Put the best parameters into the pipeline file.")
    ] = False,
    engine: EngineOption = "local",
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try parameters of components on folds that go forward in time; register nothing.

    Candidates stand in the pipeline file, beside what training uses until told otherwise:

      model: {estimator: sklearn.tree.DecisionTreeClassifier, parameters: {max_depth: 4},
              candidates: {max_depth: [4, 8], min_samples_leaf: [5, 20]}}

    All are tried on few rows, the best third of them on three times as many, and so on. Each
    fold is fitted on rows before those that it is judged on, by average precision; the rows
    that training learns weights and reports on are not looked at.

    Examples:
      anabranch tune card-fraud --component risk-forest

      anabranch tune churn.yaml --data churn.csv --write
    """
    check_engine(engine, address)
    file = pipeline_file(pipeline)
    tuned = _tuned(
        file, data, rows=rows, seed=seed, most=most, only=component, engine=engine, address=address
    )
    if as_json:
        print_json("[" + ", ".join(result.model_dump_json() for result in tuned) + "]")
    for result in tuned:
        if not as_json:
            _print(result)
    if write:
        _write(file, tuned)


def _tuned(
    file: PipelineFile,
    data: str | None,
    *,
    rows: int,
    seed: int,
    most: int,
    only: list[str] | None,
    engine: EngineName,
    address: str | None,
) -> list[TuningResult]:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from agents.commands.labelled_events import training_rows
    from agents.components import open_component
    from models.training.engines import open_engine
    from models.training.tune_pipeline import tune as search

    registry = open_registry()
    with counting_bars() as bars:
        training = training_rows(file.pipeline, data, rows=rows, seed=seed, bars=bars)
    with Progress(
        SpinnerColumn(), TextColumn("{task.description:<24}"), TextColumn("{task.fields[round]}"),
        TimeElapsedColumn(), console=stderr,
    ) as bars:  # fmt: skip
        rounds: dict[str, int] = {}
        task = bars.add_task("fitting what comes before", round="")

        def on_round(name: str) -> None:
            rounds[name] = rounds.get(name, 0) + 1
            bars.update(task, description=name, round=f"round {rounds[name]}")

        with open_engine(engine, address, rows=training.rows) as opened:
            return search(
                file.pipeline, file.path.parent, training, registry, most=most, only=only,
                open_component=open_component, engine=opened, seed=seed, on_round=on_round,
            )  # fmt: skip


def _print(tuned: TuningResult) -> None:
    """The candidates as a table, and lines to paste."""
    from rich.table import Table

    from topics.pipeline import scalar

    names = list(tuned.best.parameters)
    table = Table(box=None, pad_edge=False, title=tuned.component, title_justify="left")
    for column in (*names, "average precision", "±", "rows", ""):
        table.add_column(column, justify="right")
    for candidate in tuned.candidates[:_SHOWN]:
        table.add_row(
            *(scalar(candidate.parameters[name]) for name in names),
            f"{candidate.average_precision:.4f}", f"{candidate.spread:.4f}",
            f"{candidate.rows:,}", "in the file" if candidate.in_file else "",
        )  # fmt: skip
    stdout.print(table)
    if (left := len(tuned.candidates) - _SHOWN) > 0:
        stdout.print(f"and {left} that rank lower (--json has all)")
    if tuned.best.in_file:
        stdout.print("the parameters of the file rank best: keep them")
        return
    stdout.print("best, for the component's model:")
    chosen = ", ".join(
        f"{scalar(name)}: {scalar(value)}" for name, value in tuned.best.parameters.items()
    )
    stdout.print(f"parameters: {{{chosen}}}", highlight=False, markup=False, soft_wrap=True)


def _write(file: PipelineFile, tuned: list[TuningResult]) -> None:
    """Put the best parameters into the file, unless it has them; all of them, or none."""
    from topics.pipeline import rewrite, with_parameters

    better = [result for result in tuned if not result.best.in_file]
    if not better:
        stderr.print(f"{file.path} is left as it was: its parameters rank best", soft_wrap=True)
        return

    def edited(text: str) -> str:
        for result in better:
            text = with_parameters(text, result.component, result.best.parameters)
        return text

    rewrite(file.path, edited)
    names = ", ".join(result.component for result in better)
    stderr.print(f"{file.path} has the best parameters of {names} now", soft_wrap=True)
