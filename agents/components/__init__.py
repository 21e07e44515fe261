"""The components that a pipeline file can name, and running one over rows.

`catalogue` makes a component of a file's entry; the built-in kinds are `extract_features`,
`assess_risk` and `decide`. `running` keeps a bad row from costing its batch, `inference` the event
loop from waiting, `active_component` says which version runs now and replaces it between two
batches.
"""

from agents.components.active_component import (
    Challenge,
    Made,
    Note,
    Slot,
    exchanged,
    in_share,
    made_by,
)
from agents.components.catalogue import OpenComponent, import_component, open_component
from agents.components.extract_features import ExtractFeatures
from agents.components.inference import Inference
from agents.components.running import INVALID_OUTPUT, Transformed, checked, spread

__all__ = [
    "INVALID_OUTPUT", "Challenge", "ExtractFeatures", "Inference", "Made", "Note",
    "OpenComponent", "Slot", "Transformed", "checked", "exchanged", "import_component",
    "in_share", "made_by", "open_component", "spread",
]  # fmt: skip
