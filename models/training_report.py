"""What training reached, on rows that no model was fitted on."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from models.weights import CLIP

Share = Annotated[float, Field(ge=0, le=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ranking(_Record):
    """How well numbers rank the positives first."""

    auc: Share
    """Area under the ROC curve; 0.5 is chance."""
    average_precision: Share
    """Area under precision against recall; the share of positives is chance."""


class ComponentReport(Ranking):
    """One component's signal, on the last 20 % of the rows."""

    version: int | None
    """Its version in the registry; None for an ONNX file and for a component without a model."""
    digest: str | None


class ComposedReport(Ranking):
    """The weighted score, on rows that the weights were not learned on either."""

    log_loss: Annotated[float, Field(ge=0)]


class Cutoffs(_Record):
    """Weighted scores of held-out rows to start a policy from, by the share that reaches them."""

    as_many: Share
    """Reached by as many rows as are positive."""
    twice_as_many: Share


class TrainingReport(_Record):
    """What `train` did and how good the result is."""

    pipeline: str
    rows: int
    positives: int
    components: dict[str, ComponentReport]
    weights: dict[str, Share]
    weights_version: int | None
    """None for weights that are fixed in the pipeline file."""
    composed: ComposedReport
    cutoffs: Cutoffs
    seconds: float


def ranking(labels: NDArray[np.bool_], values: NDArray[np.floating]) -> Ranking:
    """How well *values* (N,) rank *labels* (N,), of which there must be both."""
    auc, precision = roc_auc_score(labels, values), average_precision_score(labels, values)
    return Ranking(auc=float(auc), average_precision=float(min(precision, 1.0)))


def cutoffs(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> Cutoffs:
    """Cut-offs by the *scores* (N,) of held-out rows, *labels* (N,) of which are positive."""
    positives = float(labels.mean())
    once, twice = np.quantile(scores, [1 - positives, max(0.0, 1 - 2 * positives)])
    return Cutoffs(as_many=float(once), twice_as_many=float(twice))


def composed(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> ComposedReport:
    """The quality of weighted scores (N,) in [0, 1]."""
    loss = log_loss(labels, np.clip(scores, CLIP, 1 - CLIP))
    return ComposedReport(**ranking(labels, scores).model_dump(), log_loss=float(loss))
