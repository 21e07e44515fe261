"""What `anabranch evaluate PIPELINE FILE` does and prints: figures of a labelled file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.commands.options import open_registry, pipeline_file
from agents.commands.terminal import counting_bars, print_json, stderr, stdout
from topics.errors import AnabranchError, MissingExtra

if TYPE_CHECKING:
    from agents.offline import FileEvaluation, Judge

_PLOTS = (".png", ".svg", ".pdf")
_SHOWN = {
    "auc": "AUC ROC", "average_precision": "avg. precision", "brier": "Brier",
    "calibration_error": "calibration",
}  # fmt: skip


class PlotNotWritable(AnabranchError):
    """The plot cannot be written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is not drawn: {why}")


def evaluate_file(
    pipeline: str, source: str, plot: Path | None, *, seed: int, registry: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Score a labelled file, judge it, print and perhaps draw that."""
    from agents.offline import Judge, Scoring
    from models.data import count_rows
    from models.registry import Registry

    if plot is not None:
        _check_plot(plot)
    loaded = pipeline_file(pipeline)
    opened = Scoring(loaded, open_registry() if registry is None else Registry(registry))
    judge = Judge(loaded.pipeline, opened.rule.policy)
    with counting_bars(disable=not stderr.is_terminal) as bars:
        task = bars.add_task("scored", total=count_rows(source))
        for rows in opened.tables(source, labelled=True):
            judge.take(rows)
            bars.advance(task, rows.table.num_rows + len(rows.dead))
        bars.update(task, total=bars.tasks[task].completed)
    evaluation = judge.evaluation(
        source, models=opened.models, weights=opened.rule.weights.version, seed=seed
    )
    if plot is not None:
        _draw(judge, evaluation, plot)
    if as_json:
        print_json(evaluation.model_dump_json())
    else:
        print_evaluation(evaluation)


def print_evaluation(evaluation: FileEvaluation) -> None:
    """The figures, as two tables of at most 80 columns."""
    from rich.table import Table

    stages = Table(box=None, pad_edge=False)
    stages.add_column("stage", overflow="fold")
    for name in _SHOWN.values():
        stages.add_column(name, justify="right", no_wrap=True)
    rows = {**evaluation.stages, "composed": evaluation.composed}
    for name, figures in rows.items():
        stages.add_row(
            name, *(_figure(figures.get(figure)) for figure in _SHOWN),
            style="bold" if name == "composed" else None,
        )  # fmt: skip
    stdout.print(stages)
    policy = Table(box=None, pad_edge=False)
    for column in ("at the policy's thresholds", "precision", "recall"):
        policy.add_column(column, justify="left" if " " in column else "right")
    composed = evaluation.composed
    names = [name.partition(".")[2] for name in composed if name.startswith("recall.")]
    for name in names:
        policy.add_row(
            f"{name} or beyond", _figure(composed.get(f"precision.{name}")),
            _figure(composed.get(f"recall.{name}")),
        )  # fmt: skip
    if names:
        stdout.print(policy)
    if "cost" in composed:
        stdout.print(f"mean cost of a row {_figure(composed['cost'])}")
    stdout.print(
        f"{evaluation.judged:,} rows judged, {evaluation.positives:,} positive; "
        f"{evaluation.unlabelled:,} without an outcome, {evaluation.dead:,} dead letters; "
        "behind ±: half the 95 % interval",
        highlight=False,
    )  # fmt: skip


def _figure(figure: Any) -> str:
    if figure is None:
        return "-"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} ±{(figure.high - figure.low) / 2:.3f}"


def _check_plot(path: Path) -> None:
    if path.suffix.lower() not in _PLOTS:
        raise PlotNotWritable(path, f"its name must end in one of {', '.join(_PLOTS)}")
    if not path.parent.is_dir():
        raise PlotNotWritable(path, f"there is no folder {path.parent}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as exc:
        raise MissingExtra("--plot", "report") from exc


def _draw(judge: Judge, evaluation: FileEvaluation, path: Path) -> None:
    """ROC, precision against recall, and reliability, of each stage and the composed score."""
    from matplotlib.figure import Figure

    from models.report.quality import curves

    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    for name, (labels, values) in judge.curves().items():
        if labels.all() or not labels.any():
            continue
        width = 2.4 if name == "composed" else 1.0
        drawn = curves(labels, values)
        axes[0].plot(*zip(*drawn.roc, strict=True), label=name, linewidth=width)
        axes[1].plot(*zip(*drawn.precision_recall, strict=True), label=name, linewidth=width)
        bins = [(each.said, each.positives / each.rows) for each in drawn.reliability]
        axes[2].plot(*zip(*bins, strict=True), marker=".", label=name, linewidth=width)
    axes[2].plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    titles = (
        ("ROC", "false positive rate", "true positive rate"),
        ("precision and recall", "recall", "precision"),
        ("reliability", "score", "share of positives"),
    )
    for ax, (title, across, up) in zip(axes, titles, strict=True):
        ax.set(title=title, xlabel=across, ylabel=up, xlim=(0, 1), ylim=(0, 1.02))
    axes[0].legend(fontsize=8)
    figure.suptitle(f"{evaluation.pipeline}: {evaluation.judged:,} rows")
    try:
        figure.savefig(path)
    except OSError as exc:
        raise PlotNotWritable(path, exc.strerror or str(exc)) from exc
