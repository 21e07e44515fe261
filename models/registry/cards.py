"""What is known of a model, the libraries that its bits depend on among it, and of weights."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.registry.variant_table import Variant

_SUM_TOLERANCE = 1e-9  # as for weights that a pipeline file fixes
_LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")
"""Those that the bits of a model depend on."""


WeightsOrigin = Literal["training", "outcomes", "quarantine"]


class Card(BaseModel):
    """Facts that are written once."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Signature(Card):
    """The one input (N, width) and the one output (N,) that a model's file declares."""

    input: str
    width: int
    dtype: str
    """Of input and output, as ONNX calls it: `float32`."""
    output: str = "signal"


class Continuation(Card):
    """The rows that a model was fitted on beyond those of the version that it went on from."""

    version: int
    since: str
    """The time of the first of them (RFC 3339)."""
    until: str
    """The time of the last of them."""
    rows: int


class ModelCard(Card):
    """What is known of a model."""

    estimator: str
    """Import path of the estimator; `onnx` for a model that was imported as a file."""
    parameters: dict[str, bool | int | float | str | None]
    inputs: list[str]
    """Names of its input columns."""
    n_inputs: int
    rows: int
    """Rows that it was fitted on."""
    data_hash: str
    created_at: str
    metrics: dict[str, float]
    libraries: dict[str, str]
    variant: str = "fp32"
    parent: int | None = None
    """The version that it was made of: a variant's original. None for one that was trained."""
    note: str = ""
    """For people: why there is this version."""
    source: str | None = None
    """The file that it was imported from."""
    changes: list[str] = []
    """What was done to that file to make it a component's model."""
    signature: Signature | None = None
    """None on cards that were written before there was one."""
    variants: list[Variant] = []
    """What `anabranch models optimise` measured when it chose this variant."""
    trained_until: str | None = None
    """The time of the newest event that it was fitted on; None where that is not known."""
    continues: Continuation | None = None
    """Of an incremental fit: what it went on from, and by which rows."""

    @property
    def seen_until(self) -> str:
        """The time of the newest event that it may have been fitted on: at most its own."""
        return self.trained_until or self.created_at


class WeightsCard(Card):
    """Learned weights α, by stage."""

    values: dict[str, Annotated[float, Field(ge=0, le=1)]]
    rows: int
    created_at: str
    metrics: dict[str, float]
    models: dict[str, str]
    """Component → digest of the model whose signals they weigh."""
    parent: int | None = None
    """The version of the weights that they were made of; None for learned ones."""
    not_learned: list[str] = []
    """Stages with an equal share instead of a learned weight: there were no rows to learn it on."""
    origin: WeightsOrigin = "training"
    """What they come of: a monitor's have a `parent`, the trained weights that it went on from."""
    quarantined: list[str] = []
    """Stages that weigh nothing because they failed, or said the same of every row."""
    thresholds: dict[str, float] = {}
    """Of the policy that moved with them, where one did."""
    note: str = ""

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        if abs(sum(self.values.values()) - 1) > _SUM_TOLERANCE:
            raise ValueError(f"weights must sum to 1, these sum to {sum(self.values.values()):g}")
        return self


@cache
def library_versions() -> dict[str, str]:
    """Library → its version in this process."""
    return {name: version(name) for name in _LIBRARIES}
