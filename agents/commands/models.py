"""`anabranch models`: the versions of a pipeline's models, and what becomes of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands import models_view as view
from agents.commands.shared import JsonOption, PipelineArgument, stderr, stdout

if TYPE_CHECKING:
    from datetime import datetime

    from models.registry import ModelVersion, Registry

app = typer.Typer(
    help="See, compare, check, import and clean up the versions of models and weights.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE/COMPONENT[@V]", help="A version, the newest without @V; @weights too."
    ),
]


def open_registry() -> Registry:
    """The registry that the environment names."""
    from models.registry import Registry
    from topics.settings import HomeSettings

    return Registry(HomeSettings().registry)


def find_version(registry: Registry, model: str, beside: str | None = None) -> ModelVersion:
    """The version that *model* names; `@2` is of the component of *beside*."""
    from agents.commands.model_names import BadModelName, parsed, parsed_beside, registered_as
    from models.registry import WEIGHTS

    name = parsed(model) if beside is None else parsed_beside(model, parsed(beside))
    if name.component == WEIGHTS:
        raise BadModelName(model, "PIPELINE/COMPONENT@VERSION: weights are no model")
    return registry.get(registered_as(name.pipeline), name.component, name.version)


@app.command("list")
def list_versions(pipeline: PipelineArgument, as_json: JsonOption = False) -> None:
    """Every version of every component, and of the weights.

    A version whose card cannot be read is shown as that; `anabranch models verify` says why. The
    newest weights say so when they were learned for other models than would start now.

    Examples:
      anabranch models list card-fraud

      anabranch models list card-fraud --json | jq '.models[-1].digest'
    """
    from agents.commands.model_list import listed
    from agents.commands.model_names import file_of, registered_as
    from models.registry import NothingRegistered

    registry, name = open_registry(), registered_as(pipeline)
    found = listed(registry, name, file_of(pipeline))
    if not found["models"] and not found["weights"]:
        raise NothingRegistered(pipeline, registry.root)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        view.print_list(found)


@app.command()
def show(model: ModelArgument, as_json: JsonOption = False) -> None:
    """All that is known of one version: its card, its files and its probe rows.

    Examples:
      anabranch models show card-fraud/decision

      anabranch models show card-fraud/decision@3 --json

      anabranch models show card-fraud/@weights
    """
    from agents.commands.model_list import described, described_weights
    from agents.commands.model_names import parsed, registered_as
    from models.registry import WEIGHTS

    registry, name = open_registry(), parsed(model)
    pipeline = registered_as(name.pipeline)
    if name.component == WEIGHTS:
        found = described_weights(registry.weights(pipeline, name.version))
    else:
        found = described(registry.get(pipeline, name.component, name.version))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        view.print_facts(found)


@app.command()
def diff(
    before: ModelArgument,
    after: Annotated[
        str, typer.Argument(metavar="PIPELINE/COMPONENT[@V]|@V", help="The other; @V: same model.")
    ],
    as_json: JsonOption = False,
) -> None:
    """What differs between two versions, and how far their signals are apart.

    Signals are compared on the probe rows of both versions, when they read the same columns.

    Examples:
      anabranch models diff card-fraud/decision@1 @2

      anabranch models diff card-fraud/risk-linear card-fraud/risk-forest --json
    """
    from dataclasses import asdict

    from models.onnx.version_diff import compare

    registry = open_registry()
    one, other = find_version(registry, before), find_version(registry, after, before)
    found = compare(one, other)
    if as_json:
        typer.echo(json.dumps({"before": one.name, "after": other.name, **asdict(found)}))
    else:
        view.print_difference(one.name, other.name, found)


@app.command()
def verify(
    pipeline: Annotated[
        str, typer.Argument(metavar="PIPELINE[/COMPONENT]", help="What to look at.")
    ],
    run: Annotated[
        bool,
        typer.Option("--run/--no-run", help="Run each model on its probe rows, on this machine."),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Check every card, model and probe against its digest, and run the models.

    Exit code 1 if one is wrong.
    Each model is run on the rows that were recorded with it, and must give the same signals, to
    the bit. Another kind of processor, or another onnxruntime, may round the last bits in another
    way: that is said with by how much.

    Examples:
      anabranch models verify card-fraud

      anabranch models verify card-fraud/decision --no-run
    """
    from agents.commands.model_names import parsed, registered_as
    from models.onnx.verify import verify as check
    from models.registry import NothingRegistered

    component, registry = None, open_registry()
    if "/" in pipeline and not pipeline.endswith((".yaml", ".yml")):
        name = parsed(pipeline)
        pipeline, component = name.pipeline, name.component
    checked = list(check(registry, registered_as(pipeline), component, run=run))
    if not checked:
        raise NothingRegistered(pipeline, registry.root)
    wrong = [it for it in checked if it.wrong is not None]
    if as_json:
        bad = [{"model": f"{it.component}@{it.version}", "wrong": it.wrong} for it in wrong]
        typer.echo(json.dumps({"versions": len(checked), "wrong": bad}))
    else:
        for it in wrong:
            stdout.print(
                f"{it.component}@{it.version}: {it.wrong}", highlight=False, soft_wrap=True
            )
        stderr.print(f"{len(checked)} versions checked, {len(wrong)} wrong", highlight=False)
    if wrong:
        raise typer.Exit(1)


@app.command()
def gc(
    pipeline: PipelineArgument,
    keep: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Old versions go too, but for the newest N."),
    ] = None,
    protect: Annotated[
        list[str] | None,
        typer.Option(metavar="COMPONENT@V", help="A version that stays (several times)."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without, only say what.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove files that no version names, and with --keep old versions that nothing needs.

    Of every component and of the weights there stay: the newest N, what the pipeline file pins
    and what is in service, the versions those were made of, and the models that kept weights
    weigh. Files younger than an hour stay: they may be of a version that is being added.

    Examples:
      anabranch models gc card-fraud

      anabranch models gc card-fraud --keep 3 --yes
    """
    from agents.commands.model_names import version_in
    from agents.service.gc_protection import protected_by
    from models.registry import plan_removal, remove
    from topics.pipeline import find_pipeline, load_pipeline

    file, registry = load_pipeline(find_pipeline(pipeline)), open_registry()
    stay = protected_by(file) | {version_in(it) for it in protect or []}
    removal = plan_removal(registry, file.pipeline.name, keep=keep, protected=stay)
    if yes:
        remove(registry, file.pipeline.name, removal)
    if as_json:
        typer.echo(json.dumps(view.removal_facts(removal, done=yes)))
    else:
        view.print_removal(removal, done=yes)


@app.command("import")
def import_file(
    model: Annotated[str, typer.Argument(metavar="PIPELINE/COMPONENT", help="Whose model it is.")],
    file: Annotated[str, typer.Argument(metavar="FILE.onnx", help="The model.")],
    rows: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Rows to check it on: Parquet, CSV or JSONL with the component's input columns, "
            "or an (N, F) array as .npy. [default: random ones]",
        ),
    ] = None,
    note: Annotated[str, typer.Option(help="Why there is this version, for people.")] = "",
    trained_until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="When the newest event happened that it was trained on, such as "
            "2026-01-31T00:00:00Z, or a whole day: anabranch train measures and weighs it on later "
            "events alone. [default: now, as it cannot know what comes]",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Register an ONNX file, from PyTorch, TensorFlow or others, as a component's newest model.

    It needs one float32 input (rows, F), F being the component's columns in their order, and a
    float32 output called signal, (rows,) or (rows, 1), in [0, 1]. It is run: any number of rows
    must do, and a row's bits must not depend on its batch. From PyTorch:

      torch.onnx.export(net.eval(), (x,), "net.onnx", input_names=["x"],
                        output_names=["signal"], dynamic_axes={"x": {0: "rows"}}, dynamo=False)

    The next `anabranch run` uses it. `anabranch train` makes newer versions, unless the pipeline
    file keeps the component on this one (model: {version: N}).

    Examples:
      anabranch models import card-fraud/decision net.onnx --rows features.parquet
    """
    from agents.commands.model_import import imported

    made = imported(open_registry(), model, file, rows, note, _time(trained_until))
    if as_json:
        from agents.commands.model_list import described

        typer.echo(json.dumps(described(made)))
    else:
        stdout.print(f"{file} is {made.name} now, {made.digest}", highlight=False, soft_wrap=True)


def _time(text: str | None) -> datetime | None:
    from topics.pipeline import instant

    try:
        return None if text is None else instant(text)
    except ValueError as exc:
        raise typer.BadParameter(
            f"{text!r} is no time such as 2026-01-31T00:00:00Z", param_hint="--trained-until"
        ) from exc
