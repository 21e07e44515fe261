"""The one file of two toy kinds: one is fitted and reads components, one is code on events."""

from __future__ import annotations

import numpy as np

from models.component import Batch, Component, StageOutput
from models.onnx.model_component import ModelComponent
from models.onnx.session import ModelSession
from topics.pipeline import ComponentSpec

opened: list[str] = []
"""The components that were opened here."""


class Large(Component):
    """Says how large an amount is."""

    def transform(self, batch: Batch) -> StageOutput:
        return StageOutput.of_signal(np.clip(batch.columns["amount"] / 500, 0, 1))


def judge(spec: ComponentSpec, session: ModelSession | None) -> Component:
    assert session is not None
    opened.append(spec.name)
    return ModelComponent(session)


def large(spec: ComponentSpec, session: ModelSession | None) -> Component:
    assert session is None
    opened.append(spec.name)
    return Large()
