"""One ONNX model, opened once, run many times.

RegistryError
├── ModelUnreadable      the file is missing or no ONNX model
└── ModelSignatureError  its inputs or outputs are not a component's
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.registry import ModelVersion, RegistryError, digest_of

Singles = NDArray[np.float32]


class ModelUnreadable(RegistryError):
    """The file is missing or no ONNX model."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(f"{path} does not load as an ONNX model: {cause}")


class ModelSignatureError(RegistryError):
    """The model's inputs or outputs are not a component's."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"{path} has the wrong signature: it needs one float32 input (N, F) and a float32 "
            f"output called signal, (N,) or (N, 1); it has {found}"
        )


class ModelSession:
    """An onnxruntime session of one model with the output `signal`."""

    def __init__(self, session: ort.InferenceSession, digest: str, n_inputs: int) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        self.digest = digest
        self.n_inputs = n_inputs
        """Columns of the input."""

    @classmethod
    def open(cls, model: ModelVersion | Path) -> Self:
        """Open a registered model, or an ONNX file.

        Raises ModelCorrupt, ModelUnreadable or ModelSignatureError.
        """
        path = model if isinstance(model, Path) else model.path
        try:
            onnx = model.read_bytes() if isinstance(model, Path) else model.read()
        except OSError as exc:
            raise ModelUnreadable(path, exc.strerror or str(exc)) from exc
        options = ort.SessionOptions()
        # With more threads, tree ensembles sum in an order that depends on the batch.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # onnxruntime raises its own types, and RuntimeError
            raise ModelUnreadable(path, str(exc).splitlines()[0]) from exc
        return cls(session, digest_of(onnx), _checked_width(session, path))

    def signal(self, x: Singles) -> Singles:
        """The signal (N,) of rows *x*, float32 (N, F); a row's bits are the same in any batch."""
        if x.ndim != 2 or x.shape[1] != self.n_inputs:
            raise ValueError(f"the model has {self.n_inputs} input columns, not shape {x.shape}")
        if len(x) == 0:
            return np.zeros(0, np.float32)
        # A lone row takes another kernel (matrix-vector) than rows of a batch, with other
        # bits in the last place: it is run as a batch of two.
        rows = np.repeat(x, 2, axis=0) if len(x) == 1 else np.ascontiguousarray(x)
        made: Singles = self._session.run(["signal"], {self._input: rows})[0]
        return made.reshape(len(rows))[: len(x)]


def _checked_width(session: ort.InferenceSession, path: Path) -> int:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    tensors = [("input", tensor) for tensor in inputs] + [("output", tensor) for tensor in outputs]
    found = ", ".join(f"{kind} {t.name} {t.type} {t.shape}" for kind, t in tensors)
    signal = next((output for output in outputs if output.name == "signal"), None)
    fits = (
        len(inputs) == 1
        and inputs[0].type == "tensor(float)"
        and len(inputs[0].shape) == 2
        and isinstance(inputs[0].shape[1], int)
        and signal is not None
        and signal.type == "tensor(float)"
        and (len(signal.shape) == 1 or signal.shape[1:] == [1])
    )
    if not fits:
        raise ModelSignatureError(path, found)
    return int(inputs[0].shape[1])
