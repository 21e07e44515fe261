"""What differs between two versions of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.onnx.session import ModelSession
from models.registry import ModelVersion

Values = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Change:
    """A fact that two cards state differently; None where one does not state it."""

    before: object
    after: object


@dataclass(frozen=True, slots=True)
class SignalChange:
    """How far apart two models' signals are, on the probe rows of both."""

    rows: int
    most: float
    """The largest |Δsignal|."""
    mean: float
    """The mean |Δsignal|."""
    same_bits: int
    """Rows whose signals are equal to the bit."""


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs, by the name of the fact."""

    facts: Mapping[str, Change]
    bytes: Change
    """The sizes of the models' files."""
    signals: SignalChange | None
    """None where the models read other columns, or no version has probe rows."""
    why_no_signals: str | None


_GROUPS = ("metrics", "parameters", "libraries")


def compare(before: ModelVersion, after: ModelVersion) -> Difference:
    """What changes from *before* to *after*. Raises RegistryError when one cannot be read."""
    cards = before.card, after.card
    # How variants were measured is the table of `anabranch models optimise`, not a fact to compare.
    flat = [_flat(card.model_dump(exclude={"variants"})) for card in cards]
    facts = {
        name: Change(flat[0].get(name), flat[1].get(name))
        for name in dict.fromkeys([*flat[0], *flat[1]])
        if flat[0].get(name) != flat[1].get(name)
    }
    contents = before.read(), after.read()
    size = Change(len(contents[0]), len(contents[1]))
    if before.card.inputs != after.card.inputs:
        return Difference(facts, size, None, "they read other columns")
    probes = [probe for probe in (before.probe(), after.probe()) if probe is not None]
    if not probes:
        return Difference(facts, size, None, "neither has probe rows")
    rows = np.unique(np.concatenate([probe.rows for probe in probes]), axis=0)
    sessions = [
        ModelSession.of(content, version.location)
        for content, version in zip(contents, (before, after), strict=True)
    ]
    return Difference(facts, size, _signal_change(sessions[0], sessions[1], rows), None)


def _flat(card: Values) -> dict[str, object]:
    """The facts of a card; those in groups one by one: `metrics.auc`."""
    flat: dict[str, object] = {}
    for name, value in card.items():
        if name in _GROUPS and isinstance(value, Mapping):
            flat |= {f"{name}.{key}": each for key, each in value.items()}
        else:
            flat[name] = value
    return flat


def _signal_change(one: ModelSession, other: ModelSession, rows: np.ndarray) -> SignalChange:
    before, after = one.signal(rows), other.signal(rows)
    distance = np.abs(before.astype(np.float64) - after)
    same = before.view(np.int32) == after.view(np.int32)
    return SignalChange(len(rows), float(distance.max()), float(distance.mean()), int(same.sum()))
