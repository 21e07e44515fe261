"""The pipeline file: what flows, through which components, and how it is weighed.

Read `schema` first (`Pipeline`, what a file holds), then `fields` and `event_schema` (what an event
and a feature are), `component_kinds`, `policy`, and `file` (a text becomes a `Pipeline`, or all its
mistakes at once: those of one field in `schema`, those of the whole in `checks` and `fuse_checks`).
`topology` names the topics, `order` and `readers` say which workers there are and what they read.
The `…_edit` modules change a file as its author would.
"""

from topics.pipeline.component_kinds import KINDS, ComponentKind, kind_of
from topics.pipeline.edit import rewrite
from topics.pipeline.event_schema import EventField, EventSchema
from topics.pipeline.field_types import Scalar, Strict, instant
from topics.pipeline.fields import (
    EVENTS,
    NEVER_MISSING,
    OUTCOMES,
    Feature,
    FieldType,
    Transform,
    duration_ms,
)
from topics.pipeline.file import PipelineFile, PipelineNotFound, find_pipeline, load_pipeline
from topics.pipeline.finding import Finding, Location
from topics.pipeline.flow import in_generations, in_order
from topics.pipeline.order import fused_members, inputs_of, worker_name, workers
from topics.pipeline.parameters_edit import with_parameters
from topics.pipeline.policy import DecisionCost, Policy
from topics.pipeline.policy_edit import with_thresholds
from topics.pipeline.readers import KEYED, Reader
from topics.pipeline.schema import ComponentSpec, ModelSpec, Pipeline
from topics.pipeline.tolerances import Tolerances
from topics.pipeline.topology import WEIGH, Topology, lane_of
from topics.pipeline.yaml_text import scalar

__all__ = [
    "EVENTS", "KEYED", "KINDS", "NEVER_MISSING", "OUTCOMES", "WEIGH", "ComponentKind",
    "ComponentSpec", "DecisionCost",
    "EventField", "EventSchema", "Feature", "FieldType", "Finding", "Location", "ModelSpec",
    "Pipeline", "PipelineFile", "PipelineNotFound", "Policy", "Reader", "Scalar", "Strict",
    "Tolerances", "Topology", "Transform", "duration_ms", "find_pipeline", "fused_members",
    "in_generations", "in_order", "inputs_of", "instant", "kind_of", "lane_of", "load_pipeline",
    "rewrite",
    "scalar", "with_parameters", "with_thresholds", "worker_name", "workers",
]  # fmt: skip
