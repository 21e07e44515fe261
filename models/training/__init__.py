"""Training a pipeline: every stage on what it will see in service, weighed, refitted.

`train` is the way of it: `training_plan` (what can be wrong before the first fit), `splits` (who
sees which rows), `unseen_rows` (what may be judged), `first_fits` (components in the order of the
flow) by `fit` on an engine of `engines`, `export` (scikit-learn to ONNX), `calibration`,
`composition` (weights and how good they are). `tune_pipeline` and `tune` choose parameters. Modules
are imported one by one: most load scikit-learn.
"""
