"""ONNX files as other tools export them, made versions of a component's model.

`import_model` takes a file: `adaptation` makes its graph a component's, one float32 input and the
output `signal`, of what `input_columns`, `signal_output` and `batch_axis` change each, and runs
both to show that they agree; `external_weights` reads weights from beside the file, `errors` is
what is refused. Modules are imported one by one: they load `onnx`, which workers do without.
"""
