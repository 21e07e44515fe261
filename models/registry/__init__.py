"""The model registry: immutable versions of models and weights, in a directory or any object store.

`registry` is what others use: it gives versions of `cards` (what is known of a model, sealed by
`card_files`) and of the files that belong to them. They lie in a `store` (or `remote_store`), and
`retention` lets go of what nobody needs. `model_inputs` says whether a model still fits its
pipeline file, `probe` holds rows that tell whether it still says the same, `background` those that
explanations compare events with, `variant_table` what was measured of variants.
"""

from models.registry.background import BACKGROUND_ROWS, Background, RecordedOutput
from models.registry.card_files import StoredWeights, card_digest, digest_of
from models.registry.cards import Continuation, ModelCard, Signature, WeightsCard, library_versions
from models.registry.errors import ContentGone, NothingRegistered, RegistryError
from models.registry.model_inputs import (
    ModelOutOfDate,
    WeightsOutOfDate,
    columns_of,
    reads,
    sources_of,
)
from models.registry.probe import Probe, spread_places, spread_rows
from models.registry.registry import WEIGHTS, ModelVersion, Registry, WeightsVersion, weights_card
from models.registry.retention import Removal, VersionKey, plan_removal, remove
from models.registry.variant_table import (
    FP32,
    ComponentVariants,
    FusionResult,
    Losses,
    OptimiseReport,
    Speed,
    Variant,
)

__all__ = [
    "BACKGROUND_ROWS", "FP32", "WEIGHTS", "Background", "ComponentVariants", "ContentGone",
    "Continuation",
    "FusionResult", "Losses", "ModelCard", "ModelOutOfDate", "ModelVersion",
    "NothingRegistered", "OptimiseReport", "Probe", "RecordedOutput", "Registry",
    "RegistryError", "Removal", "Signature", "Speed", "StoredWeights", "Variant", "VersionKey",
    "WeightsCard", "WeightsOutOfDate", "WeightsVersion", "card_digest", "columns_of",
    "digest_of", "library_versions", "plan_removal", "reads", "remove", "sources_of",
    "spread_places", "spread_rows", "weights_card",
]  # fmt: skip
