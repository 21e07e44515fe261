"""How good scores are that decided, by outcomes that came, or before they come.

`weighted_figures` has the figures of rows that count by what they stand for, `bootstrap` between
which bounds they lie, `estimate` what they will be before outcomes are there (CBPE). Arrays in,
numbers out; nothing here needs scikit-learn, which images that serve do not have: tests hold each
figure against it.
"""

from models.quality.bootstrap import Figure, judged_figures
from models.quality.estimate import Calibration, estimated_figures
from models.quality.weighted_figures import EDGES, HIGHER_IS_BETTER, Judgement

__all__ = [
    "EDGES", "HIGHER_IS_BETTER", "Calibration", "Figure", "Judgement", "estimated_figures",
    "judged_figures",
]  # fmt: skip
