"""What every peer is told: workload, broker, where the models are, what its topics are called.

    python -m tests.benchmarks.peers.raw --workload w1 --broker HOST:PORT --models DIR --prefix P

Nothing here or beside it comes from the packages that are measured against the peers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

W1, W2_TEXT, W2_TENSOR = "w1", "w2-text", "w2-tensor"

Singles = NDArray[np.float32]
Model = Callable[[Singles], Singles]
"""Rows (N, F) to what the model says of each, (N,) or (N, K)."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a peer has to run."""

    workload: str
    broker: str
    models: Path
    prefix: str

    def topic(self, name: str) -> str:
        """The full name of one of this run's topics."""
        return f"{self.prefix}.{name}"

    def group(self, stage: str) -> str:
        """The consumer group of a stage."""
        return f"{self.prefix}.{stage}"

    def model(self, name: str) -> Model:
        """The ONNX model *name*, opened with one thread."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        path = self.models / f"{name}.onnx"
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        [given], [made] = session.get_inputs(), session.get_outputs()

        def run(rows: Singles) -> Singles:
            outputs: Singles = session.run([made.name], {given.name: rows})[0]
            return outputs

        return run


def told(description: str | None) -> Task:
    """The task in this process's arguments."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", choices=[W1, W2_TEXT, W2_TENSOR], required=True)
    parser.add_argument("--broker", required=True, help="HOST:PORT")
    parser.add_argument("--models", type=Path, required=True, help="the directory of ONNX files")
    parser.add_argument("--prefix", required=True, help="what topics and groups begin with")
    return Task(**vars(parser.parse_args()))
