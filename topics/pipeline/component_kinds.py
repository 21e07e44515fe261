"""The kinds of components that come with Anabranch.

A new kind is one entry in `KINDS` and one file: what its entry names as `implementation`. No other
code asks for a kind by its name or class: what may differ between kinds is said here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from topics.pipeline.fields import EVENTS

if TYPE_CHECKING:
    from topics.pipeline.schema import ComponentSpec


@dataclass(frozen=True, slots=True)
class ComponentKind:
    """What is known of a kind of component before one is opened."""

    reads_events: bool
    """It takes the columns of `events`; otherwise the outputs of other components."""
    passes_on_features: bool
    """It has `features:` in the pipeline file, and what reads it reads these, (N, F); otherwise its
    signal, (N, 1)."""
    has_model: bool
    """Its signal is what an ONNX model says of what it reads (of its features, where it has them):
    `model:` of the pipeline file is fitted, tuned, optimised and fused. Own code has none."""
    needs_model: bool
    """It is nothing without one."""
    is_novelty: bool
    """Its signal says how unlike the known rows a row is, without having seen labels: it is no
    probability of an outcome, and no quorum."""
    implementation: str = "agents.components.catalogue:model_component"
    """What makes one of its entry in the pipeline file and its model, if it has one, as
    `package.module:name`; loaded when one is opened. By default it is its model and no more."""


KINDS: dict[str, ComponentKind] = {
    "extract_features": ComponentKind(
        reads_events=True, passes_on_features=True, has_model=True, needs_model=False,
        is_novelty=True, implementation="agents.components.extract_features:extract_features",
    ),
    "assess_risk": ComponentKind(
        reads_events=False, passes_on_features=False, has_model=True, needs_model=True,
        is_novelty=False,
    ),
    "decide": ComponentKind(
        reads_events=False, passes_on_features=False, has_model=True, needs_model=True,
        is_novelty=False,
    ),
}  # fmt: skip
"""`kind:` of the pipeline file → what is known of it."""


def kind_of(spec: ComponentSpec) -> ComponentKind:
    """What is known of a component's kind; of own code, for one with `import:`."""
    if spec.kind is not None:
        return KINDS[spec.kind]
    return ComponentKind(
        reads_events=EVENTS in spec.inputs, passes_on_features=False, has_model=False,
        needs_model=False, is_novelty=False, implementation=spec.import_path or "",
    )  # fmt: skip


def listed(names: list[str]) -> str:
    """Names as text, the last two with *or* between them.

    >>> listed(["'a'", "'b'", "'c'"])
    "'a', 'b' or 'c'"
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _known(value: object) -> str:
    if isinstance(value, str) and value in KINDS:
        return value
    expected = listed([repr(name) for name in KINDS])
    raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})


KindName = Annotated[
    str, PlainValidator(_known), WithJsonSchema({"enum": [*KINDS], "type": "string"})
]
"""One of `KINDS`."""
