"""Variants of a component's model: smaller or faster forms of it, kept only where they pay.

`variant_kinds` names them; `builder` makes them (`fp16`, `int8`, `pruning`, `graph_optimisation`,
all on `graphs`) and measures them (`speed`, `memory`, decisions on an `offline_pipeline`), the
`gate` chooses, `optimisation` does it for a pipeline, with what `fusion_speed` says of fused
components; `model_source` opens them, `plot` draws them. Modules are imported one by one: some load
scikit-learn.
"""
