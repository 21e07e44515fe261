"""Components and their models: fitted, exported, registered, measured, run; no Kafka in here.

    component, weighting, learned_weights, live_weights/   a component's contract, y = Σ α·y
    arrays, errors                            names of array types; what training raises
    features/ onnx/ registry/ calls/          what serving needs
    data/ schema/ training/ report/           from a data file to registered models
    variants/ simulators/                     smaller or faster models; streams to start with
    explain/ quality/ drift/                  why a score is so; how good; have inputs moved

`agents` may import all of it. It imports `topics`.
"""
