"""The `optimise:` part of a pipeline file: how far a variant of a model may stray from fp32."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from topics.pipeline.field_types import Strict

Share = Annotated[float, Field(ge=0, le=1)]


def _ascending(sizes: list[int]) -> list[int]:
    return sorted(set(sizes))


BatchSizes = Annotated[
    list[Annotated[int, Field(ge=1, le=65_536)]], Field(min_length=1), AfterValidator(_ascending)
]


class Tolerances(Strict):
    """What `anabranch models optimise` lets a variant cost, on held-out rows."""

    max_delta: Share = 0.05
    """The largest difference between a row's signal and that of fp32."""
    max_flips: Share = 0.001
    """The share of the pipeline's decisions that may be others with the variant in place."""
    max_auc_loss: Share = 0.001
    """How much AUC ROC the component's signal may lose."""
    max_ap_loss: Share = 0.005
    """How much average precision it may lose."""
    batch: BatchSizes = Field(default=[1, 16, 256, 4096])
    """Rows a batch: a variant has to be faster over all of these, each counting the same."""
