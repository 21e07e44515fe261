"""The Open Inference Protocol: the pipeline as a model, over REST and gRPC.

`open_inference` has what both share, `tensors` reads and writes them, `open_inference_routes` is
REST, `grpc_service` gRPC, on the port of `grpc_port`. The messages are generated from
`open_inference.proto`. Its modules are imported one by one: gRPC takes time to load.
"""
