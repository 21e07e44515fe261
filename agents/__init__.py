"""The running system: workers, and the command line that starts and looks after them.

    components/ workers/ join/ windows/ stages/ weigh/ explainer/ spans/   what happens to a row
    recovery/ identity/ redrive/     after a restart; when a topic is another one; when a row died
    process/ control/ service/ renewal/   a process of workers; versions in service, renewed
    broker/ audit/ status/ publish/ gateway/ monitor/ quality/ drift/ learning/   beside workers
    rollout/ explanations/ trace/ evidence/ replay/   another pipeline; why, how, proven, again
    demo/ capacity/ manifests/ contract/ report/ commands/   what people call, files for others

Packages import only what stands below them in `[tool.importlinter]` of pyproject.toml.
"""
