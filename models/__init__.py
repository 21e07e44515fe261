"""Components, training, weights, ONNX export, sessions, explanations and data."""
