"""Faust as its documentation has it: one app, an agent per stage, a record per event, JSON.

One worker of the app in w1, whose join must not move; two in w2, as two cores are there. Events
are validated by pydantic, stages exchange `faust.Record`s. Agents take what has come within some
milliseconds, run their model once, and go on when the broker has their output: Faust
acknowledges what they took after that.

Faust's stream joins are not implemented (`stream & stream` raises NotImplementedError), and a
Table would write each stage's record to its changelog again. So the last agent joins in a dict
by source coordinates, which a crash or a rebalance would lose.
"""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

import faust

from tests.benchmarks.peers import children, contract
from tests.benchmarks.peers.contract import Task

WORKERS = {contract.W1: 1, contract.W2_TEXT: 2, contract.W2_TENSOR: 2}
TAKE, WITHIN_S = 500, 0.02

Stream = Any
"""What Faust gives an agent."""


def raw_topic(app: faust.App, *names: str) -> Any:
    """A topic, or several, whose records are bytes."""
    return app.topic(*names, value_serializer="raw", key_serializer="raw")


def app_of(task: Task) -> faust.App:
    """The app of a workload."""
    from tests.benchmarks.peers import stock_faust_card_fraud, stock_faust_crayfish

    app = faust.App(
        task.group("app"), broker=f"kafka://{task.broker}", web_enabled=False,
        datadir=tempfile.mkdtemp(), topic_disable_leader=True,
    )  # fmt: skip
    is_w1 = task.workload == contract.W1
    (stock_faust_card_fraud if is_w1 else stock_faust_crayfish).add_agents(app, task)
    return app


async def sent(sending: list[Any]) -> None:
    """Send all, and wait until the broker has them."""
    await asyncio.gather(*[await each for each in sending])


def work(task: Task) -> None:
    """One worker."""
    faust.Worker(app_of(task), loglevel="WARN").execute_from_commandline()


if __name__ == "__main__":
    told = contract.told(__doc__)
    children.together([(work, (told,))] * WORKERS[told.workload])
