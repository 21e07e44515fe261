"""The pipeline file: what flows, through which components, and how it is weighed.

Read `schema` first (`Pipeline`, what a file holds), then `fields` and `event_schema` (what a
feature and an event are), `component_kinds`, `policy`, and `file` (a text becomes a `Pipeline`, or
all its mistakes at once: those of one field in `schema`, those of the whole in `checks`, words that
YAML takes for something else in `unquoted_words`; `yaml_text` bounds what is read). `topology`
names the topics, `readers` says which workers there are and what they read. `edits` changes a file
as its author would.
"""

from topics.pipeline.checks import Finding, Location
from topics.pipeline.component_kinds import kind_of
from topics.pipeline.edits import rewrite, threshold_text, with_parameters, with_thresholds
from topics.pipeline.event_schema import EventField, EventSchema
from topics.pipeline.fields import (
    EVENTS,
    NEVER_MISSING,
    OUTCOMES,
    Feature,
    FieldType,
    Scalar,
    Strict,
    Transform,
    duration_ms,
    instant,
)
from topics.pipeline.file import PipelineFile, PipelineNotFound, find_pipeline, load_pipeline
from topics.pipeline.policy import DecisionCost, Policy, Tolerances
from topics.pipeline.readers import (
    KEYED,
    Reader,
    fused_members,
    in_generations,
    in_order,
    inputs_of,
    worker_name,
    workers,
)
from topics.pipeline.schema import ComponentSpec, ModelSpec, Pipeline
from topics.pipeline.topology import WEIGH, Topology, lane_of
from topics.pipeline.yaml_text import scalar

__all__ = [
    "EVENTS", "KEYED", "NEVER_MISSING", "OUTCOMES", "WEIGH", "ComponentSpec", "DecisionCost",
    "EventField", "EventSchema", "Feature", "FieldType", "Finding", "Location", "ModelSpec",
    "Pipeline", "PipelineFile", "PipelineNotFound", "Policy", "Reader", "Scalar", "Strict",
    "Tolerances", "Topology", "Transform", "duration_ms", "find_pipeline", "fused_members",
    "in_generations", "in_order", "inputs_of", "instant", "kind_of", "lane_of", "load_pipeline",
    "rewrite", "scalar", "threshold_text", "with_parameters", "with_thresholds", "worker_name",
    "workers",
]  # fmt: skip
