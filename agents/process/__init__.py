"""A process of workers: put together, started, watched, stopped.

`active_pipeline` (what runs), `worker_apps` (each worker and its Faust app), `runner` (all of them,
from start to stop), `supervision` with `liveness` (whether they get on), `status_writer` (what is
reported of them), `http_port` and `refusal` (what the outside is told). `child_process` runs them
beside a command, `tasks` waits for several things at once. Modules are imported one by one: some
load Faust.
"""
