"""Labelled events through a running pipeline: `anabranch demo`, `evaluate` and what they show.

`event_stream` follows each event to its end, `demo` simulates them, `evaluation` scores decisions
of `evaluation_data`, `live_view` is the terminal. Modules are imported one by one: some load
scikit-learn.
"""
