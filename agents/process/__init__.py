"""A process of workers: put together, started, watched, stopped.

`pipeline_runtime` (what runs), `worker_apps` (a worker and its Faust app), `runner` (all of them),
`liveness`, `refusal` and `http_port` (what the outside is told), `status_writer` (what is
reported), `supervision` and `child_process` (several processes).
"""

from agents.process.child_process import Status, WorkerProcess, worker_process
from agents.process.http_port import serving
from agents.process.liveness import Liveness, guard
from agents.process.pipeline_runtime import Parts
from agents.process.refusal import TOLD_FOR_S, told
from agents.process.runner import Running, running
from agents.process.supervision import first_of, interruptible, raise_failure, raise_stuck

__all__ = [
    "TOLD_FOR_S", "Liveness", "Parts", "Running", "Status", "WorkerProcess", "first_of",
    "guard", "interruptible", "raise_failure", "raise_stuck", "running", "serving", "told",
    "worker_process",
]  # fmt: skip
