"""ONNX models: opened, run, compared, fused, proven to say what they said.

`session` runs one. `model_component` is a component around it; `probing` and `version_check` hold
it to its card, `bit_stability` to the same bits in any batch. `fuse` makes one graph of several,
`external_data` finds weights that a file does not hold, `version_diff` tells two apart,
`weighed_models` which models weights were learned for. Modules are imported one by one: some load
`onnx`, which workers do without.
"""
