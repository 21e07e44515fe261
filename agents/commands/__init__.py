"""The commands of the command line, one module each; `…_view` modules are what they print.

Those of two words are in packages: `models`, `dead_letters`, `deploy`. `options` has the options
that several take, `terminal` is where they print, `event_loop` where they wait. `agents.cli`
imports them one by one; what a command needs it imports when it runs, or `--help` would load all.
"""
