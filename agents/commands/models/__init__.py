"""`anabranch models …`: the versions of models and weights, in the registry and in service.

One module for each command, of its name; but `service` has the four that change what is in service
(promote, rollback, shadow, canary). `model_names` is what people call a model, `onnx_import` what
`import_file` does.
"""
