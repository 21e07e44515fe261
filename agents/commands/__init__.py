"""The commands of the command line, one module each; `…_view` modules are what they print.

Nothing imports them but `agents.cli`, and each other. `shared` holds the options that several have.
"""
