"""The kinds of variants there are, by the names that cards and decisions give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from models.arrays import Floats32
from models.registry import FP32
from models.variants.fp16 import halved, halved_in_words
from models.variants.graph_optimisation import optimised, optimised_in_words
from models.variants.graphs import Said
from models.variants.int8 import dynamic, int8_in_words, static
from models.variants.pruning import pruned_in_words, without_units

__all__ = ["FP32", "KINDS", "Kind"]


class Kind(NamedTuple):
    """How a variant is made of a model, and what can be said of it."""

    build: Callable[[bytes, Floats32], bytes]
    """From the fp32 model and the rows (N, F) that it may be calibrated on. Raises DoesNotApply."""
    in_words: Callable[[Any, Any], Said]
    """From the graphs that sessions of the variant, and of fp32, run."""


KINDS: Mapping[str, Kind] = {
    "graph-optimised": Kind(optimised, optimised_in_words),
    "fp16": Kind(halved, halved_in_words),
    "int8-dynamic": Kind(dynamic, int8_in_words),
    "int8-static": Kind(static, int8_in_words),
    "pruned-25": Kind(without_units(0.25), pruned_in_words),
    "pruned-50": Kind(without_units(0.5), pruned_in_words),
    "pruned-75": Kind(without_units(0.75), pruned_in_words),
}
"""All but fp32, which is the model as it is."""
