"""Feature vectors and windows over an entity's past: the same code for training and for serving.

`vector` (event fields to float32 columns), `windows` (what a pipeline file declares), `history`
(the state behind it) with `entry_store`, `segments` and `aggregates`; `history_chunk` is its
snapshot.
"""

from models.arrays import Ints
from models.features.history import History
from models.features.history_chunk import MalformedChunk
from models.features.vector import FeatureVector
from models.features.windows import WindowPlan, Windows, over_all_rows

__all__ = [
    "FeatureVector", "History", "Ints", "MalformedChunk", "WindowPlan", "Windows",
    "over_all_rows",
]  # fmt: skip
