"""Weights that move while events flow: learned from outcomes, lowered for components that err.

`fixed_share` learns α from outcomes that come late, and states its regret bound; `experts` are the
weight vectors that it shares its belief among, `weight_bounds` the floor and the cap of a stage.
`decision_shares` moves thresholds with the weights, so that each decision stays as frequent as it
was. `quarantine` finds components that fail or say the same of every row.

Arrays in, arrays out: what is done with it is in `agents.learning`.
"""

from models.live_weights.decision_shares import (
    ScoreWindow,
    ThresholdMove,
    decision_shares,
    guarded_thresholds,
)
from models.live_weights.fixed_share import FixedShare, LabelledRows, LearningRate, LossSums
from models.live_weights.quarantine import (
    Quarantine,
    QuarantineRule,
    StageRows,
    StageVerdict,
    without_quarantined,
)

__all__ = [
    "FixedShare", "LabelledRows", "LearningRate", "LossSums", "Quarantine", "QuarantineRule",
    "ScoreWindow", "StageRows", "StageVerdict", "ThresholdMove", "decision_shares",
    "guarded_thresholds", "without_quarantined",
]  # fmt: skip
