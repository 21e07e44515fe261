"""The two pipelines of a rollout, as commands are told of them."""

from __future__ import annotations

from typing import Annotated

import typer

AfterArgument = Annotated[
    str,
    typer.Argument(
        metavar="NEW",
        help="The changed pipeline: name of a file in deploy/pipelines, or path of one.",
    ),
]
BeforeOption = Annotated[
    str, typer.Option("--from", metavar="OLD", help="The pipeline whose place it takes.")
]
