"""The libraries that the bits of a model depend on."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

_LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")


@cache
def library_versions() -> dict[str, str]:
    """Library → its version in this process."""
    return {name: version(name) for name in _LIBRARIES}
