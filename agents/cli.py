"""The command line: `anabranch`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from agents.commands.audit import audit
from agents.commands.check import check
from agents.commands.compare import compare
from agents.commands.dead_letters import app as dead_letters
from agents.commands.demo import demo
from agents.commands.deploy import app as deploy
from agents.commands.evaluate import evaluate
from agents.commands.init import init
from agents.commands.models import app as models
from agents.commands.optimise import optimise
from agents.commands.plan import plan
from agents.commands.publish import publish
from agents.commands.run import run
from agents.commands.service import canary, promote, rollback, shadow
from agents.commands.service_log import log
from agents.commands.shared import configure_logging, stderr
from agents.commands.simulate import simulate
from agents.commands.status import status
from agents.commands.topics import topics
from agents.commands.train import train
from agents.commands.tune import tune
from agents.commands.watch import watch
from topics.errors import AnabranchError

app = typer.Typer(
    name="anabranch",
    help="Event-streaming composable inference: components as Faust agents on Kafka topics, "
    "rejoined into one weighted decision, y = Σ α·y.",
    epilog="Start with: anabranch demo. Exit codes: 0 done, 1 failed, 2 wrong usage.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")] = False,
) -> None:
    """Options of every command."""
    configure_logging(verbose=verbose)


for command in (
    demo, init, train, tune, check, plan, run, status, publish, simulate, watch, topics, audit,
    evaluate,
):  # fmt: skip
    app.command()(command)
app.add_typer(dead_letters, name="dead-letters")
app.add_typer(deploy, name="deploy")
for about_models in (optimise, promote, rollback, shadow, canary, compare, log):
    models.command()(about_models)
app.add_typer(models, name="models")


def main() -> None:
    """Run a command; an error that a user can cause is one message and exit code 1."""
    try:
        app()
    except AnabranchError as exc:
        for line in exc.lines:
            stderr.print(line, style="red", highlight=False, soft_wrap=True)
        _leave(1)
    except KeyboardInterrupt:
        _leave(1)


def _leave(code: int) -> None:
    """End the process now: what hangs in a client or a thread may not keep it alive."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
