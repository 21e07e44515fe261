"""The running system: workers, and the command line that starts and looks after them.

    components/ workers/ join/ windows/ stages/ weigh/    what happens to a row
    recovery/ identity/ redrive/     after a restart; when a topic is another one; when a row died
    process/ control/ service/       a process of workers; versions in service
    broker/ audit/ status/ publish/  beside the workers: reading and writing topics
    demo/ capacity/ manifests/ commands/                  what people call

Packages import only what stands below them in `[tool.importlinter]` of pyproject.toml.
"""
