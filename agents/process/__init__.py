"""A process of workers: put together, started, watched, stopped.

`pipeline_runtime` (what runs), `worker_apps` (a worker and its Faust app), `runner` (all of them),
`liveness`, `refusal` and `http_port` (what the outside is told), `status_writer` (what is
reported), `supervision` and `child_process` (several processes). Modules are imported one
by one: some load Faust.
"""
