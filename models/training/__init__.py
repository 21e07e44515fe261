"""Training a pipeline: every stage on what it will see in service, weighed, refitted.

`train` is the way of it: `training_plan` (what can be wrong before the first fit), `data` (labelled
rows), `splits` (who sees which), `unseen_rows` (what may be judged), `first_fits` (components, in
the order of the flow, on `stage_outputs`) by `fit` of `estimators` on one of `engines`, `export`
(scikit-learn to ONNX, with `skl2onnx_fixes`), `calibration`, `composition` (weights and how good
they are). `tune_pipeline` and `tune` choose parameters. Modules are imported one by one: most load
scikit-learn.
"""
