"""The running system: workers, and the command line that starts and looks after them.

    components/ workers/ join/ windows/ stages/ weigh/    what happens to a row
    redrive/ identity/               when it went wrong; when a topic is another one
    process/ control/ service/       a process of workers; versions in service
    broker/ audit/ status/ publish/  beside the workers: reading and writing topics
    demo/ capacity/ manifests/ commands/                  what people call

Packages import only what stands before them in `[tool.importlinter]` of pyproject.toml.
"""
