"""Versions in service: promoted, challenged, swapped while events flow.

`promotion` writes what is to be in service, `hot_swap` takes it over in running workers,
`open_pipeline` and `open_version` open it at a start. A challenger is followed and judged by the
`challenger_…` modules; `gc_protection` says which versions the registry must keep.
"""

from agents.service.challenger_follower import following
from agents.service.challenger_result import Comparison, Judged
from agents.service.challenger_score import Comparer
from agents.service.gc_protection import protected_by
from agents.service.hot_swap import Swapper
from agents.service.open_pipeline import check_trained, check_weighed_models, is_trained, open_parts
from agents.service.open_version import open_weights
from agents.service.promotion import Promoter

__all__ = [
    "Comparer", "Comparison", "Judged", "Promoter", "Swapper", "check_trained",
    "check_weighed_models", "following", "is_trained", "open_parts", "open_weights",
    "protected_by",
]  # fmt: skip
