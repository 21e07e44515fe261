"""What windows of outcomes, and windows by another key, do not do is said, and what to do."""

from __future__ import annotations

from typing import Any

from agents.commands.check import _notes
from agents.dataset.backfill import as_served, backfilled_components
from agents.dataset.errors import OtherFeatures
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.schema import Pipeline


def card_fraud(**outcomes: Any) -> Pipeline:
    written = load_pipeline(find_pipeline("card-fraud")).pipeline.model_dump(by_alias=True)
    written["outcomes"] |= outcomes
    return Pipeline.model_validate(written)


def test_a_file_with_sources_and_windows_of_outcomes_has_a_note() -> None:
    (note,) = _notes(card_fraud(sources=["chargeback", "analyst"]))
    assert "windows of outcomes (terminals) count each outcome as it comes" in note
    assert "does not take its place" in note


def test_where_nothing_can_take_anothers_place_there_is_none() -> None:
    assert _notes(card_fraud()) == []
    assert _notes(card_fraud(sources=["chargeback"])) == []


def test_each_extractor_is_computed_anew_or_said_to_be_as_served() -> None:
    pipeline = card_fraud()
    assert as_served(pipeline) == ["terminals"]
    assert [spec.name for spec in backfilled_components(pipeline)] == ["features"]


def test_what_cannot_be_backfilled_is_not_told_to() -> None:
    can = str(OtherFeatures("features", 9, 10, can_be_backfilled=True))
    cannot = str(OtherFeatures("terminals", 3, 4, can_be_backfilled=False))
    assert "--backfill computes those of the file" in can
    assert "--backfill" not in cannot
    assert "terminals has written 3 features, and the pipeline file has 4" in cannot
    assert "Give the file that served" in cannot
