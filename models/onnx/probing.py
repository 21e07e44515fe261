"""Whether a loaded model says of its probe rows what it said when it was registered.

To the bit where somebody can still choose (`models verify`, a promotion). At a start the last
bits may differ, and that is logged: another kind of processor, or another onnxruntime, rounds in
another way. Signals that are further apart than rounding are never run.

RegistryError
└── ProbeFailed   it does not
"""

from __future__ import annotations

import logging

import numpy as np

from models.arrays import Floats32
from models.onnx.session import ModelSession
from models.registry import Probe, RegistryError, spread_rows

log = logging.getLogger(__name__)

ROUNDING = 1e-5
"""Signals no further apart than this may be of one model: as an export may differ (README)."""


class ProbeFailed(RegistryError):
    """A model does not say of its probe rows what its card says."""

    def __init__(self, digest: str, cause: str) -> None:
        super().__init__(
            f"the model {digest} is not what was registered: {cause}; it may have been made on "
            "another kind of processor or with another onnxruntime (`anabranch models show` has "
            "its libraries): train or import it where it will run"
        )


def probe_of(session: ModelSession, rows: Floats32) -> Probe:
    """Some of *rows* (N, F), N > 0, with their signals as *session* has them."""
    chosen = spread_rows(rows)
    return Probe(chosen, session.signal(chosen))


def check_probe(session: ModelSession, probe: Probe, *, tolerance: float = 0.0) -> None:
    """Raise ProbeFailed unless *session* gives every probe row its signal.

    To the bit, or with a *tolerance* no further apart than that: then other bits are logged.
    """
    if session.n_inputs != probe.rows.shape[1]:
        cause = f"it reads {session.n_inputs} columns, its probe has {probe.rows.shape[1]}"
        raise ProbeFailed(session.digest, cause)
    try:
        signals = session.signal(probe.rows)
    except Exception as exc:  # onnxruntime raises its own types
        raise ProbeFailed(session.digest, f"it fails: {str(exc).splitlines()[0]}") from exc
    other = signals.view(np.int32) != probe.signals.view(np.int32)
    if other.any():
        most = float(np.abs(signals - probe.signals)[other].max())
        cause = f"{other.sum()} of {len(other)} probe rows have other signals, by up to {most:.2g}"
        if not most <= tolerance:  # also NaN
            raise ProbeFailed(session.digest, cause)
        log.warning(
            "the model %s rounds in another way here than where it was registered: %s; a replay "
            "gives the same bits only on one kind of processor", session.digest, cause,
        )  # fmt: skip
