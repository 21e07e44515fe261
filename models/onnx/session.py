"""One ONNX model, opened once, run many times.

RegistryError
├── ModelUnreadable      the file is missing or no ONNX model
│   └── WeightsElsewhere it does not hold all its weights itself
└── ModelSignatureError  its inputs or outputs are not a component's
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime as ort

from models.arrays import Floats32
from models.onnx.external_data import NotOnnx, external_tensor
from models.registry import ModelVersion, RegistryError, Signature, digest_of
from topics.file_content import read_file

MOST_MODEL_BYTES = 1 << 30
"""A larger file is no model that is run row by row, and would not fit the memory of a worker."""
_FOLDER_OF_WEIGHTS = "session.model_external_initializers_file_folder_path"
_NOWHERE = "/nonexistent"
_VECTOR = 4
"""Values that the vector kernels of onnxruntime take at once."""


class ModelUnreadable(RegistryError):
    """The file is missing or no ONNX model."""

    def __init__(self, path: Path | str, cause: str) -> None:
        super().__init__(f"{path} does not load as an ONNX model: {cause}")


class WeightsElsewhere(ModelUnreadable):
    """The file does not hold all its weights itself."""

    def __init__(self, path: Path | str, tensor: str) -> None:
        super().__init__(
            path,
            f"the bytes of its tensor {tensor} are in another file, so the same model would give "
            "other scores in another place; write it as one file (PyTorch: torch.onnx.export(…, "
            "external_data=False); any: onnx.save(onnx.load(FILE), ONE_FILE))",
        )


class ModelSignatureError(RegistryError):
    """The model's inputs or outputs are not a component's."""

    def __init__(self, path: Path | str, signature: str) -> None:
        super().__init__(
            f"{path} has the wrong signature: it needs one float32 input (N, F) and a float32 "
            f"output called signal, (N,) or (N, 1); it has {signature}"
        )


class ModelSession:
    """An onnxruntime session of one model with the output `signal`."""

    def __init__(
        self, session: ort.InferenceSession, digest: str, n_inputs: int, read: Callable[[], bytes]
    ) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        self.digest = digest
        self.n_inputs = n_inputs
        """Columns of the input."""
        self.read = read
        """The ONNX file's content, read anew: a session does not keep it."""

    @classmethod
    def open(cls, model: ModelVersion | Path) -> Self:
        """Open a registered model, or an ONNX file.

        Raises ModelCorrupt, ModelMissing, ModelUnreadable or ModelSignatureError.
        """
        if not isinstance(model, Path):
            return cls._of(model.read(), model.location, model.read)
        try:
            onnx = read_file(model, MOST_MODEL_BYTES)
        except OSError as exc:
            raise ModelUnreadable(model, exc.strerror or str(exc)) from exc
        return cls._of(onnx, model, lambda: read_file(model, MOST_MODEL_BYTES))

    @classmethod
    def of(cls, onnx: bytes, path: Path | str) -> Self:
        """A session of the model *onnx*; errors name its *path*.

        Raises ModelUnreadable or ModelSignatureError.
        """
        return cls._of(onnx, path, lambda: onnx)

    @classmethod
    def _of(cls, onnx: bytes, path: Path | str, read: Callable[[], bytes]) -> Self:
        session = opened(onnx, path)
        return cls(session, digest_of(onnx), _checked_width(session, path), read)

    @property
    def signature(self) -> Signature:
        """What a card says of the model's input and output."""
        return Signature(input=self._input, width=self.n_inputs, dtype="float32")

    def signal(self, x: Floats32) -> Floats32:
        """The signal (N,) of rows *x*, float32 (N, F).

        A row's bits are the same in any batch, on one kind of processor, for every model that
        `models.training.export` made. An ONNX file of your own must not use ReduceSum, ReduceMean
        or Einsum over four columns or more: see `models.onnx.bit_stability`.
        """
        if x.ndim != 2 or x.shape[1] != self.n_inputs:
            raise ValueError(f"the model has {self.n_inputs} input columns, not shape {x.shape}")
        if len(x) == 0:
            return np.zeros(0, np.float32)
        rows = filled(x)
        signal: Floats32 = self._session.run(["signal"], {self._input: rows})[0]
        return signal.reshape(len(rows))[: len(x)]


def opened(onnx: bytes, path: Path | str) -> ort.InferenceSession:
    """A session on one core, of nothing but the bytes *onnx*; errors name the model's *path*.

    Raises ModelUnreadable, also as WeightsElsewhere.
    """
    try:
        elsewhere = external_tensor(onnx)
    except NotOnnx as exc:
        raise ModelUnreadable(path, str(exc)) from exc
    if elsewhere is not None:
        raise WeightsElsewhere(path, elsewhere)
    options = ort.SessionOptions()
    # Should a file be named all the same, it is not to be found: never in the working directory.
    options.add_session_config_entry(_FOLDER_OF_WEIGHTS, _NOWHERE)
    # With more threads, tree ensembles sum in an order that depends on the batch.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime raises its own types, and RuntimeError
        raise ModelUnreadable(path, str(exc).splitlines()[0]) from exc


def filled(x: Floats32) -> Floats32:
    """Rows *x* and copies of the last one, to a multiple of four.

    onnxruntime runs other kernels, with other bits in the last place, for a lone row
    (matrix-vector instead of matrix product) and for what is left over of a vector of four
    (Log and Softplus: log 7 has two values). So no row is ever alone or left over.
    """
    missing = -len(x) % _VECTOR
    filled = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) if missing else x
    return np.ascontiguousarray(filled)


def _checked_width(session: ort.InferenceSession, path: Path | str) -> int:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    tensors = [("input", tensor) for tensor in inputs] + [("output", tensor) for tensor in outputs]
    declared = ", ".join(f"{kind} {t.name} {t.type} {t.shape}" for kind, t in tensors)
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
        raise ModelSignatureError(path, declared)
    return int(inputs[0].shape[1])
