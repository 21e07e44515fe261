"""The kinds of variants there are, by the names that cards and decisions give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from models.arrays import Floats32
from models.registry import FP32
from models.variants.fp16 import halved, halved_in_words
from models.variants.graph_optimisation import optimised, optimised_in_words
from models.variants.graphs import VariantEffect
from models.variants.int8 import dynamic, int8_in_words, static
from models.variants.pruning import pruned_in_words, without_units

__all__ = ["FP32", "VARIANT_KINDS", "VariantKind"]


class VariantKind(NamedTuple):
    """How a variant is made of a model, and what can be said of it."""

    build: Callable[[bytes, Floats32], bytes]
    """From the fp32 model and the rows (N, F) that it may be calibrated on. Raises DoesNotApply."""
    in_words: Callable[[Any, Any], VariantEffect]
    """From the graphs that sessions of the variant, and of fp32, run."""


VARIANT_KINDS: Mapping[str, VariantKind] = {
    "graph-optimised": VariantKind(optimised, optimised_in_words),
    "fp16": VariantKind(halved, halved_in_words),
    "int8-dynamic": VariantKind(dynamic, int8_in_words),
    "int8-static": VariantKind(static, int8_in_words),
    "pruned-25": VariantKind(without_units(0.25), pruned_in_words),
    "pruned-50": VariantKind(without_units(0.5), pruned_in_words),
    "pruned-75": VariantKind(without_units(0.75), pruned_in_words),
}
"""All but fp32, which is the model as it is."""
