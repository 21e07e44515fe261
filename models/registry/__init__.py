"""The model registry: immutable versions of models and weights, in a directory or any object store.

`registry` is what others use: it gives versions of `cards` (what is known of a model, sealed by
`card_files`) and of the files that belong to them. They lie in a `store` (or `remote_store`), and
`retention` lets go of what nobody needs. `model_inputs` says whether a model still fits its
pipeline file, `probe` holds rows that tell whether it still says the same, `variant_table` what was
measured of its variants.
"""

from models.registry.card_files import digest_of
from models.registry.cards import ModelCard, Signature, WeightsCard, library_versions
from models.registry.errors import NothingRegistered, RegistryError
from models.registry.model_inputs import ModelOutOfDate, WeightsOutOfDate, columns_of, reads
from models.registry.probe import Probe, spread_rows
from models.registry.registry import WEIGHTS, ModelVersion, Registry, WeightsVersion
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
    "FP32", "WEIGHTS", "ComponentVariants", "FusionResult", "Losses", "ModelCard", "ModelOutOfDate",
    "ModelVersion", "NothingRegistered", "OptimiseReport", "Probe", "Registry", "RegistryError",
    "Removal", "Signature", "Speed", "Variant", "VersionKey", "WeightsCard",
    "WeightsOutOfDate", "WeightsVersion", "columns_of", "digest_of", "library_versions",
    "plan_removal", "reads", "remove", "spread_rows",
]  # fmt: skip
