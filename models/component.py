"""What a component is: `load()` opens what it needs, `transform(batch)` is a pure function.

class Velocity(Component):
    def transform(self, batch: Batch) -> StageOutput:
        amounts = batch.columns["amount"]
        return StageOutput.of_signal(np.clip(amounts / 500, 0, 1))

`KINDS` describes the kinds that come with Anabranch: what training, optimising, fusing and weighing
have to know of one before it is opened. `agents.components` says how each is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topics.events import singles
from topics.pipeline import EVENTS, ComponentSpec

Floats = NDArray[np.floating[Any]]
Column = NDArray[Any]


@dataclass(frozen=True, slots=True)
class StageOutput:
    """What a component says about N rows.

    `output` (N, F), float32 or float64, is what the next stage reads, and has to fit float32,
    in which models compute; `signal` (N,), float32 in [0, 1], is what the weighting agent weighs.
    """

    output: Floats
    signal: NDArray[np.float32]

    @classmethod
    def of_signal(cls, signal: Floats) -> StageOutput:
        """An output of one column that is the signal itself."""
        with np.errstate(over="ignore"):  # to infinity, which is no signal
            values = np.asarray(signal, dtype=np.float32)
        return cls(output=values[:, None], signal=values)


@dataclass(frozen=True, slots=True)
class Batch:
    """N valid rows, as columns.

    `columns` holds the event's fields for a component that reads `events`: float64 for
    number, int64 for integer and timestamp (milliseconds since 1970), bool, str objects,
    and (N, length) float64 for a vector; a missing optional field is NaN or "".
    Windowed features are there too, by the names of their columns.
    `inputs` holds the outputs of the stages that the component reads, by stage name.
    """

    rows: int
    columns: Mapping[str, Column] = field(default_factory=dict)
    inputs: Mapping[str, StageOutput] = field(default_factory=dict)

    def matrix(self) -> NDArray[np.float32]:
        """All inputs' outputs side by side, in the order of `from:`; (N, ΣF), float32.

        Raises BeyondFloat32 for a number that float32 does not hold.
        """
        blocks = [singles(np.asarray(stage.output)) for stage in self.inputs.values()]
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)


class Component:
    """A stage of a pipeline. Subclass it, implement `transform`, name it in the pipeline file."""

    def load(self) -> None:
        """Open what `transform` needs (a model session, a table). Called once, at start."""

    def transform(self, batch: Batch) -> StageOutput:
        """Map rows to outputs, row by row: the same row gives the same bits in any batch.

        It must not change its arguments or keep state. An exception fails the batch; the
        rows that cause it are found by halving, and only they fail.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class ComponentKind:
    """What is known of a kind of component before one is opened.

    These facts are all that may differ between kinds outside of `agents.components`: no other code
    asks for a kind by its name or class.
    """

    reads_events: bool
    """It takes the columns of `events`; otherwise the outputs of other components."""
    passes_on_features: bool
    """What reads it reads features, (N, F); otherwise its signal, (N, 1)."""
    has_model: bool
    """Its signal is what an ONNX model says of what it reads (of its features, where it has them):
    `model:` of the pipeline file is fitted, tuned, optimised and fused. Own code has none."""
    is_novelty: bool
    """Its signal says how unlike the known rows a row is, without having seen labels: it is no
    probability of an outcome, and no quorum."""


KINDS: dict[str, ComponentKind] = {
    "extract_features": ComponentKind(
        reads_events=True, passes_on_features=True, has_model=True, is_novelty=True
    ),
    "assess_risk": ComponentKind(
        reads_events=False, passes_on_features=False, has_model=True, is_novelty=False
    ),
    "decide": ComponentKind(
        reads_events=False, passes_on_features=False, has_model=True, is_novelty=False
    ),
}
"""`kind:` of the pipeline file → its facts."""


def kind_of(spec: ComponentSpec) -> ComponentKind:
    """The facts of a component's kind; those of own code for one with `import:`."""
    if spec.kind is not None:
        return KINDS[spec.kind]
    return ComponentKind(
        reads_events=EVENTS in spec.inputs, passes_on_features=False, has_model=False,
        is_novelty=False,
    )  # fmt: skip
