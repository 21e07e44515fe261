"""What is known of a component's kind is complete, and says what its component does."""

from __future__ import annotations

from pkgutil import resolve_name

import pytest

from topics.pipeline.component_kinds import KINDS, kind_of
from topics.pipeline.fields import EVENTS
from topics.pipeline.schema import ComponentSpec


def test_every_kind_that_a_pipeline_file_may_name_is_described() -> None:
    named, _ = ComponentSpec.model_json_schema()["properties"]["kind"]["anyOf"]
    assert named == {"enum": [*KINDS], "type": "string"}


@pytest.mark.parametrize("name", KINDS)
def test_what_makes_a_component_of_each_kind_can_be_imported(name: str) -> None:
    assert callable(resolve_name(KINDS[name].implementation))


@pytest.mark.parametrize("source", [EVENTS, "features"])
def test_own_code_is_known_by_what_it_reads_and_has_no_model_of_ours(source: str) -> None:
    spec = ComponentSpec.model_validate({"name": "own", "import": "a:B", "from": [source]})
    kind = kind_of(spec)
    assert kind.reads_events == (source == EVENTS)
    assert not any([kind.has_model, kind.passes_on_features, kind.is_novelty])


def test_the_signal_of_a_novelty_is_no_quorum() -> None:
    for name, kind in KINDS.items():
        features = [{"name": "a", "of": "a"}] if kind.passes_on_features else None
        spec = ComponentSpec.model_validate(
            {"name": "own", "kind": name, "from": [EVENTS], "features": features,
             "model": {"path": "a.onnx"}}
        )  # fmt: skip
        assert spec.is_labelled != kind.is_novelty
