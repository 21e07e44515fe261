"""The command line: `anabranch`, and all its commands."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from agents.commands.audit import audit
from agents.commands.check import check
from agents.commands.dataset import dataset
from agents.commands.dead_letters.list import list_letters
from agents.commands.dead_letters.redrive import redrive
from agents.commands.dead_letters.redrive_outcomes import redrive_outcomes
from agents.commands.dead_letters.show import show as show_letter
from agents.commands.demo import demo
from agents.commands.deploy.compose import compose
from agents.commands.deploy.grafana import grafana
from agents.commands.deploy.kubernetes import kubernetes
from agents.commands.deploy.prometheus import prometheus
from agents.commands.evaluate import evaluate
from agents.commands.evidence import evidence
from agents.commands.explain import explain
from agents.commands.export import export
from agents.commands.features import features
from agents.commands.gateway import gateway
from agents.commands.init import init
from agents.commands.models.compare import compare
from agents.commands.models.diff import diff
from agents.commands.models.gc import gc
from agents.commands.models.import_file import import_file
from agents.commands.models.list import list_versions
from agents.commands.models.log import log
from agents.commands.models.optimise import optimise
from agents.commands.models.service import canary, promote, rollback, shadow
from agents.commands.models.show import show as show_model
from agents.commands.models.verify import verify as verify_versions
from agents.commands.monitor import monitor
from agents.commands.plan import plan
from agents.commands.publish import publish
from agents.commands.renew import renew
from agents.commands.replay import replay
from agents.commands.report import report
from agents.commands.rollout.acls import acls
from agents.commands.rollout.compare import compare as compare_pipelines
from agents.commands.rollout.copy import copy
from agents.commands.rollout.switch import back, switch
from agents.commands.run import run
from agents.commands.score import score
from agents.commands.serve import serve
from agents.commands.simulate import simulate
from agents.commands.status import status
from agents.commands.terminal import configure_logging, stderr
from agents.commands.topics import topics
from agents.commands.trace import trace
from agents.commands.train import train
from agents.commands.tune import tune
from agents.commands.verify import verify
from agents.commands.watch import watch
from topics.errors import AnabranchError

_Commands = Mapping[str, Callable[..., None]]

COMMANDS = (
    demo, init, train, tune, check, score, features, plan, run, gateway, serve, status, publish,
    simulate, watch, topics, monitor, report, audit, explain, trace, replay, dataset, export,
    renew, evidence, verify, evaluate,
)  # fmt: skip
DEAD_LETTERS: _Commands = {
    "list": list_letters, "show": show_letter, "redrive": redrive,
    "redrive-outcomes": redrive_outcomes,
}  # fmt: skip
DEPLOY: _Commands = {
    "compose": compose, "kubernetes": kubernetes, "grafana": grafana, "prometheus": prometheus,
}  # fmt: skip
MODELS: _Commands = {
    "list": list_versions, "show": show_model, "diff": diff, "verify": verify_versions, "gc": gc,
    "import": import_file, "optimise": optimise, "promote": promote, "rollback": rollback,
    "shadow": shadow, "canary": canary, "compare": compare, "log": log,
}  # fmt: skip
ROLLOUT: _Commands = {
    "copy": copy, "compare": compare_pipelines, "switch": switch, "back": back, "acls": acls,
}  # fmt: skip

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


def _help(command: Callable[..., None]) -> str:
    """Its docstring; examples keep their lines, so that they can be copied from the terminal."""
    text, heading, lines = (inspect.getdoc(command) or "").partition("\n\nExample")
    if not heading:
        return text
    examples = lines.replace("\n\n", "\n")
    return f"{text}\n\n\b\nExample{examples}"  # click wraps no paragraph behind a backspace


def _add_group(name: str, text: str, commands: _Commands) -> None:
    group = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)
    for word, command in commands.items():
        group.command(word, help=_help(command))(command)
    app.add_typer(group, name=name)


for top_level in COMMANDS:
    app.command(help=_help(top_level))(top_level)
_add_group(
    "dead-letters", "See what is dead and why, and send it through the pipeline again.",
    DEAD_LETTERS,
)  # fmt: skip
_add_group("deploy", "Write the files that run a pipeline elsewhere.", DEPLOY)
_add_group(
    "models", "See, compare, check, import and clean up the versions of models and weights.",
    MODELS,
)  # fmt: skip
_add_group(
    "rollout", "Let a changed pipeline take the place of the one that runs, and go back.", ROLLOUT
)


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
