"""Variants of a component's model: smaller or faster forms of it, kept only where they pay.

`kinds` names them; `builder` makes them (`fp16`, `int8`, `pruning`, `graph_optimisation`, `fusion`)
and measures them (`speed`, `memory`, and decisions on an `offline_pipeline`), the `gate` chooses,
`optimisation` does it for a pipeline. Modules are imported one by one: some load scikit-learn.
"""
