"""Labelled events through a running pipeline: `anabranch demo`, `evaluate` and what they show.

`event_stream` follows each event to its end: simulated ones in `demo_stream`, those of
`evaluation_data`, whose decisions are scored, in `evaluation_stream`; `live_view` is the terminal.
Modules are imported one by one: some load scikit-learn.
"""
