"""What the bits of a signal depend on beside the model: libraries, and the processor."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

_Text = Annotated[str, Field(max_length=200)]


class Environment(BaseModel):
    """Of a process that computes."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # as in the manifest

    anabranch: _Text
    python: _Text
    numpy: _Text
    onnxruntime: _Text
    machine: _Text
    """The processor's architecture."""
    cpu_features: Annotated[list[_Text], Field(max_length=200)]
    """The extensions of its instruction set that libraries may choose among, as numpy sees them."""

    @classmethod
    def of_this_process(cls) -> Environment:
        """That of the caller."""
        extensions = np.show_config(mode="dicts")["SIMD Extensions"]
        features = [*extensions.get("baseline", ()), *extensions.get("found", ())]
        return cls(
            anabranch=version("anabranch"), python=platform.python_version(),
            numpy=np.__version__, onnxruntime=version("onnxruntime"), machine=platform.machine(),
            cpu_features=features,
        )  # fmt: skip

    def gives_bits_of(self, other: Environment) -> bool:
        """Whether a model says the same of a row in both, to the bit."""
        return (self.onnxruntime, self.machine, self.cpu_features) == (
            other.onnxruntime, other.machine, other.cpu_features,
        )  # fmt: skip
