"""Who reads a pipeline, by the names that consumer groups have."""

from __future__ import annotations

from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.readers import Reader, readers
from topics.pipeline.topology import Topology

PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline


def test_a_repartitioned_component_has_two_and_the_weighting_agent_reads_the_weighed_stages() -> (
    None
):
    found = readers(PIPELINE)
    assert found["terminals.keyed"] == Reader(
        "terminals", ("terminals",), ("card-fraud.events", "card-fraud.outcomes")
    )
    assert found["terminals"].topics == ("card-fraud.terminals.keyed",)
    assert found["weigh"] == Reader(
        "weigh", ("weigh",), tuple(f"card-fraud.{each}" for each in PIPELINE.weighting.inputs)
    )


def test_components_that_are_fused_are_one_that_is_started_by_any_of_their_names() -> None:
    fused = PIPELINE.model_copy(update={"fuse": [["risk-linear", "risk-forest", "decision"]]})
    found = readers(fused)
    name = "risk-linear-risk-forest-decision"
    assert found[name].members == ("risk-linear", "risk-forest", "decision")
    assert found[name].component in found[name].members
    assert set(found[name].topics) == {"card-fraud.features", "card-fraud.terminals"}
    assert "risk-forest" not in found


def test_every_topic_that_is_read_is_one_of_the_pipeline() -> None:
    topology = Topology.of(PIPELINE)
    for name, reader in readers(PIPELINE).items():
        assert reader.topics, name
        assert set(reader.topics) <= set(topology.all)
