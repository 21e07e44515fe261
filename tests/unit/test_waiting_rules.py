"""What a pipeline file says of stages that are late or missing, and what comes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agents.join.stage_rows import JoinedRows, Reason, StageRows
from agents.weigh.decision_records import Weights
from agents.weigh.decision_rule import Scorer
from agents.workers.wiring import TimeOutsDoNotFit, check_time_outs
from tests.unit.stage_batches import rows_of
from tests.unit.test_pipeline_file import MINIMAL
from topics.pipeline.file import PipelineFileError, load_pipeline
from topics.pipeline.schema import Pipeline
from topics.settings import BrokerSettings

ALPHA = {"features": 0.2, "risk": 0.5, "own": 0.3}


def pipeline_with(home: Path, *lines: str) -> Pipeline:
    """The minimal pipeline, its weighting with more lines."""
    path = home / "parcels.yaml"
    more = "".join(f"  {line}\n" for line in lines)
    path.write_text(MINIMAL.replace("policy:\n", f"{more}policy:\n"))
    return load_pipeline(path).pipeline


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["late: sometimes"], r"parcels\.yaml:39: weighting\.late: .*'wait' or 'degrade'"),
        (["late: {fallback: send}"], r":39: weighting\.late\.fallback: 'send' is none of .*stop"),
        (["missing: fail", "quorum: 0.5"], r":36: weighting: missing: fail wants every stage"),
        (["missing: fail", "late: degrade"], r":36: weighting: late: degrade decides without"),
        (["quorum: 1.5"], r":39: weighting\.quorum"),
        (["stall_timeout_s: 0"], r":39: weighting\.stall_timeout_s"),
    ],
)
def test_rules_that_do_not_fit_are_refused_with_their_line(
    tmp_path: Path, lines: list[str], said: str
) -> None:
    with pytest.raises(PipelineFileError, match=said):
        pipeline_with(tmp_path, *lines)


def test_a_stage_must_not_be_given_up_while_its_worker_is_replaced(tmp_path: Path) -> None:
    check_time_outs(pipeline_with(tmp_path), BrokerSettings())
    check_time_outs(pipeline_with(tmp_path, "stall_timeout_s: 30"), BrokerSettings())
    with pytest.raises(TimeOutsDoNotFit, match="set stall_timeout_s to 30 or more"):
        check_time_outs(pipeline_with(tmp_path, "stall_timeout_s: 29"), BrokerSettings())


def joined(present: list[str], unanswered: Reason = "down", *, overdue: bool = False) -> JoinedRows:
    """One row, answered by the stages that are *present*."""
    stages = {}
    for name in ALPHA:
        there = np.array([name in present])
        signal = there.astype(np.float32)
        stages[name] = StageRows(there, signal[:, None], signal, (), (), there, unanswered)
    return JoinedRows(rows_of([7]), stages, {}, 7, 0, 7 if overdue else -1)


@pytest.mark.parametrize(
    ("lines", "present", "enough"),
    [
        ([], ["features"], False),
        ([], ["risk"], True),
        ([], ["own"], True),
        (["quorum: 0.5"], ["risk"], True),
        (["quorum: 0.5"], ["features", "own"], True),
        (["quorum: 0.6"], ["features", "own"], False),
        (["quorum: labelled"], ["features"], False),
        (["missing: fail"], ["risk", "own"], False),
        (["missing: fail"], ["features", "risk", "own"], True),
    ],
)
def test_a_quorum_is_a_stage_fitted_on_labels_or_a_share_or_all(
    tmp_path: Path, lines: list[str], present: list[str], enough: bool
) -> None:
    scale = Scorer(pipeline_with(tmp_path, *lines), Weights(ALPHA, 0))
    assert scale.score(joined(present)).decidable.tolist() == [enough]


def test_a_stage_without_a_weight_is_no_quorum(tmp_path: Path) -> None:
    alpha = {"features": 0.5, "risk": 0.0, "own": 0.5}
    scale = Scorer(pipeline_with(tmp_path), Weights(alpha, 0))
    assert scale.score(joined(["risk"])).decidable.tolist() == [False]


@pytest.mark.parametrize("unanswered", ["late", "down"])
def test_a_row_without_a_quorum_by_its_deadline_gets_the_fallback_and_does_not_die(
    tmp_path: Path, unanswered: Reason
) -> None:
    scale = Scorer(pipeline_with(tmp_path, "late: {fallback: review}"), Weights(ALPHA, 0))
    verdict = scale.score(joined(["features"], unanswered, overdue=True))
    assert (verdict.decidable.tolist(), verdict.fallback.tolist()) == ([True], [True])
    verdict = scale.score(joined(["features", "risk"], "down", overdue=True))
    assert verdict.fallback.tolist() == [False], "what is there decides"
