"""Training a pipeline: every stage on what it will see in service, weighed, refitted.

`training_plan` (what can be wrong before the first fit), `train` (the way of it), `splits` (who sees which
rows), `fit` on an engine of `engines`, `export` (scikit-learn to ONNX), `calibration`,
`composition` (weights and how good they are); `tune_pipeline` and `tune` choose parameters. Modules
are imported one by one: most load scikit-learn.
"""
