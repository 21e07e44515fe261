"""Why a score is what it is: exact Shapley values of the whole composed score.

`composed_score` is the function, of what is recorded of an event; `stage_functions` is it where own
code is called; `column_groups` are its players, `shapley` is the game, and `attribution`
plays it with an event against background rows; `libraries` lets shap and lime play it.
"""

from models.explain.attribution import Attributions, Explainer, check_columns
from models.explain.column_groups import ColumnGroups
from models.explain.composed_score import ComposedScore, needed_components, run_components
from models.explain.libraries import Library
from models.explain.stage_functions import PureComponentFailed

__all__ = [
    "Attributions",
    "ColumnGroups",
    "ComposedScore",
    "Explainer",
    "Library",
    "PureComponentFailed",
    "check_columns",
    "needed_components",
    "run_components",
]
