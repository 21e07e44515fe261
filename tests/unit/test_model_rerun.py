"""Signals with another model: of which components, and of which rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.components import OpenComponent
from agents.replay.decision_columns import DecisionColumns
from agents.replay.errors import NotRecomputable
from agents.replay.model_rerun import ModelRerun, reached_components
from agents.replay.pinned_versions import PinnedVersions
from agents.replay.recorded_range import RecordedBlock
from models.component import Batch, Component, StageOutput
from models.registry import Registry, digest_of
from tests.unit.stage_batches import batch_of
from tests.unit.test_decisions import joined_of, parsed, records_of, stage
from tests.unit.test_what_if import columns_of
from topics.pipeline import PipelineFile, find_pipeline, load_pipeline, pipeline_of
from topics.records import ModelRef

CARD_FRAUD = load_pipeline(find_pipeline("card-fraud"))
OFFSETS = [10, 11, 12, 13]


@pytest.mark.parametrize(
    ("changed", "reached"),
    [
        (["risk-forest"], ["risk-forest", "decision"]),
        (["decision"], ["decision"]),
        # What reads features reads these, whatever the model says of them.
        (["features"], ["features"]),
        (["features", "risk-linear"], ["features", "risk-linear", "decision"]),
    ],
)
def test_only_what_lies_downstream_of_a_change_is_reached(
    changed: list[str], reached: list[str]
) -> None:
    assert reached_components(CARD_FRAUD.pipeline, changed) == reached


class Half(Component):
    """Says half of what it reads; of a fifth it can say nothing."""

    def transform(self, batch: Batch) -> StageOutput:
        read = batch.matrix()[:, 0]
        if (abs(read - 0.012) < 1e-6).any():
            raise ValueError("a fifth")
        return StageOutput.of_signal(read / 2)


def two_stages(tmp_path: Path) -> PipelineFile:
    """The stage b reads a, both are weighed."""
    path = tmp_path / "p.yaml"
    path.write_text(
        "pipeline: p\n"
        "event: {id: id, key: id, time: at, fields: {id: {type: string}, at: {type: timestamp}}}\n"
        "components:\n"
        "  - {name: f, kind: extract_features, from: [events], features: [{name: h, of: at, "
        "apply: hour}]}\n"
        "  - {name: a, kind: assess_risk, from: [f], model: {estimator: x.Y}}\n"
        "  - {name: b, kind: decide, from: [a], model: {estimator: x.Y}}\n"
        "weighting: {from: [a, b], weights: {a: 0.25, b: 0.75}}\n"
        "policy: {thresholds: {review: 0.5}}\n"
    )
    return load_pipeline(path)


def decided(b: list[float | None]) -> DecisionColumns:
    """Decisions about the events 10, 11, …, the last at a second attempt."""
    joined = joined_of({"a": stage("a", [0.5] * len(b)), "b": stage("b", b)})
    decisions = [parsed(record) for record in records_of(joined)]
    attempts = [1] * (len(b) - 1) + [2]
    return columns_of(["a", "b"], zip(decisions, attempts, strict=True))


def block_of(*, absent_inputs: tuple[int, ...] = ()) -> RecordedBlock:
    """What a and b said of the events; a's output is the offset's last digits."""
    batches = {
        "a": [batch_of("a", [at for at in OFFSETS if at not in absent_inputs])],
        "b": [batch_of("b", OFFSETS)],
    }
    return RecordedBlock(2, 10, [], np.array(OFFSETS), batches, {}, {})


def rerun(tmp_path: Path, recorded: DecisionColumns, block: RecordedBlock) -> ModelRerun:
    file = two_stages(tmp_path)
    half = OpenComponent(Half(), ModelRef("b@2", "sha256:2", "fp32"))
    pins = PinnedVersions(file, Registry(tmp_path / "registry"))
    again = ModelRerun(file.pipeline, pins, {"b": half}, recorded)
    again.take(block)
    return again


def test_what_a_component_read_goes_through_the_new_model(tmp_path: Path) -> None:
    again = rerun(tmp_path, decided([0.5, None, 0.5, 0.5]), block_of())
    signals, present = again.signals.signals, again.signals.present
    assert signals[:, 0].tolist() == [0.5] * 4, "what does not lie downstream"
    assert signals[0, 1] == np.float32(0.010) / 2
    # Missing in the decision, though the stage has a row: it came too late.
    assert (present[1, 1], signals[1, 1]) == (False, 0)
    # The new model fails on it: then the stage is missing.
    assert (present[2, 1], signals[2, 1]) == (False, 0)
    # Redriven: what travelled with it is not on the stage topics.
    assert (present[3, 1], signals[3, 1]) == (True, 0.5)
    assert again.as_recorded.tolist() == [False, False, False, True]


def test_a_row_whose_input_is_gone_stays_as_recorded(tmp_path: Path) -> None:
    again = rerun(tmp_path, decided([0.5, 0.5, 0.5, 0.5]), block_of(absent_inputs=(11,)))
    assert again.signals.signals[1, 1] == 0.5
    assert again.as_recorded.tolist() == [False, True, False, True]


def test_a_block_of_another_partition_computes_nothing(tmp_path: Path) -> None:
    again = rerun(tmp_path, decided([0.5, 0.5]), replace(block_of(), partition=1))
    assert again.as_recorded.all()


def test_own_code_downstream_is_refused_unless_it_is_deterministic(tmp_path: Path) -> None:
    file, recorded = two_stages(tmp_path), decided([0.5, 0.5])
    model = OpenComponent(Half(), ModelRef("a@2", "sha256:2", "fp32"))

    def rerun_of_own(options: str) -> ModelRerun:
        own = f"import: tests.unit.test_model_rerun:Half, from: [a]{options}"
        content = file.content.decode().replace(
            "kind: decide, from: [a], model: {estimator: x.Y}", own
        )
        changed = pipeline_of(file.path, content.encode())
        pins = PinnedVersions(changed, Registry(tmp_path))
        digest = digest_of(Path(__file__).read_bytes())
        code = ModelRef("b@tests.unit.test_model_rerun:Half", digest, "code")
        said = {"f": [batch_of("f", OFFSETS)], "a": [batch_of("a", OFFSETS)],
                "b": [batch_of("b", OFFSETS, model=code)]}  # fmt: skip
        again = ModelRerun(changed.pipeline, pins, {"a": model}, recorded)
        again.take(replace(block_of(), stages=said))
        return again

    with pytest.raises(NotRecomputable, match="--model b: it reads what changes, and is code of"):
        rerun_of_own("")
    for declared in (", deterministic: true", ", pure: true"):
        signals = rerun_of_own(declared).signals.signals
        assert signals[0].tolist() == [np.float32(0.010) / 2, np.float32(0.010) / 4]
