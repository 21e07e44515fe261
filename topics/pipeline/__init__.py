"""The pipeline file: what flows, through which components, and how it is weighed.

Read `schema` first (`Pipeline`, what a file holds), then `fields` and `event_schema` (what a
feature and an event are), `component_kinds`, `policy`, and `file` (a text becomes a
`Pipeline`, or all its mistakes at once: those of one field in `schema`, those of the whole in
`checks`, words that YAML takes for something else in `unquoted_words`; `yaml_text` bounds what is
read). `topology` names the topics, `retention` says how long they keep what is on them, `readers`
says which workers there are and what they read. `edits` changes a file as its author would.
`explain_settings`, `explanation_groups`, `reason_texts` and `text_template` are what explanations
go by; `call_settings`, `learning_settings` and `renewal_settings` say what they are called by.
"""

from topics.pipeline.call_settings import Calls
from topics.pipeline.checks import Finding, Location
from topics.pipeline.component_kinds import kind_of
from topics.pipeline.edits import rewrite, threshold_text, with_parameters, with_thresholds
from topics.pipeline.event_schema import (
    NUMBER_PICTURE,
    CsvFormat,
    DataMapping,
    EventField,
    EventSchema,
)
from topics.pipeline.explain_settings import Explain, ReasonTexts
from topics.pipeline.explanation_groups import explained_groups, is_recorded
from topics.pipeline.fields import (
    EVENTS,
    NEVER_MISSING,
    OUTCOME,
    OUTCOME_KNOWN_AT,
    OUTCOME_SOURCE,
    OUTCOMES,
    Feature,
    FieldType,
    Scalar,
    Strict,
    Transform,
    duration_ms,
    instant,
)
from topics.pipeline.file import (
    PipelineFile,
    PipelineFileError,
    PipelineNotFound,
    find_pipeline,
    load_pipeline,
    load_policy,
    pipeline_of,
)
from topics.pipeline.policy import DecisionCost, Explore, Policy, Tolerances
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
from topics.pipeline.reason_texts import (
    ENGLISH,
    LANGUAGES,
    ColumnValue,
    FieldValue,
    NamedValues,
    event_fields,
    texts_of,
)
from topics.pipeline.renewal_settings import Renew, renewable
from topics.pipeline.schema import ComponentSpec, ModelSpec, Pipeline
from topics.pipeline.text_template import Template, Value
from topics.pipeline.topic_retention import outcomes_kept_ms, reach_ms
from topics.pipeline.topology import EXPLAINER, MONITOR, TRAINER, WEIGH, Topology, lane_of
from topics.pipeline.yaml_text import scalar

__all__ = [
    "ENGLISH", "EVENTS", "EXPLAINER", "KEYED", "LANGUAGES", "MONITOR", "NEVER_MISSING",
    "NUMBER_PICTURE", "OUTCOME", "OUTCOMES", "OUTCOME_KNOWN_AT", "OUTCOME_SOURCE", "TRAINER",
    "WEIGH", "Calls", "ColumnValue", "ComponentSpec", "CsvFormat", "DataMapping", "DecisionCost",
    "EventField", "EventSchema", "Explain", "Explore", "Feature", "FieldType", "FieldValue",
    "Finding", "Location", "ModelSpec", "NamedValues", "Pipeline", "PipelineFile",
    "PipelineFileError", "PipelineNotFound", "Policy", "Reader", "ReasonTexts", "Renew",
    "Scalar", "Strict", "Template", "Tolerances", "Topology", "Transform", "Value",
    "duration_ms", "event_fields", "explained_groups", "find_pipeline", "fused_members",
    "in_generations", "in_order", "inputs_of", "instant", "is_recorded", "kind_of", "lane_of",
    "load_pipeline", "load_policy", "outcomes_kept_ms", "pipeline_of", "reach_ms", "renewable",
    "rewrite", "scalar", "texts_of", "threshold_text", "with_parameters", "with_thresholds",
    "worker_name", "workers",
]  # fmt: skip
