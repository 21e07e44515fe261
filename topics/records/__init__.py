"""What stands on each topic of a pipeline, to the byte: these forms outlive a deployment.

`stage_batch` (what one component says about N rows) and `wire` (its bytes), `decision` and
`dead_letter` (how source records end), `heartbeat`, `outcome`; then what operators and workers tell
each other: `control` (versions in service) and `reports`. `broker_setup` says how a broker keeps
each topic, and who may read and write it.
"""

from topics.records.broker_setup import (
    CONSUMER,
    OPERATOR,
    PRODUCER,
    SCALER,
    Acl,
    acl_commands,
    acls,
    topic_configs,
)
from topics.records.bytes_column import BytesColumn
from topics.records.control import (
    Action,
    AuditEntry,
    Challenger,
    ControlState,
    Deployment,
    PolicyDeployment,
    VersionRef,
    WeightsDeployment,
    audit_key,
    deploy_key,
)
from topics.records.dead_letter import (
    Original,
    attempt_at,
    buried_offset,
    cut_dead_letter,
    decided_offset,
    original_digest,
)
from topics.records.decision import (
    ATTEMPT_HEADER,
    DECISION_SCHEMA,
    Decision,
    Source,
    attempt_of,
    rfc3339_time,
    rfc3339_times,
    source_id,
)
from topics.records.heartbeat import HEARTBEAT_HEADER, Heartbeat, heartbeat_of
from topics.records.outcome import OUTCOME, outcome_fields, outcome_of, outcome_schema
from topics.records.reports import (
    PARTITION,
    TOPICS_KEY,
    Awaited,
    FirstOffset,
    Heard,
    InService,
    PartitionStatus,
    ReportState,
    State,
    StatusReport,
    TopicIds,
    WorkerReport,
    first_key,
    is_report,
    keyed_records,
    status_key,
    worker_key,
)
from topics.records.stage_batch import (
    Bools,
    Failure,
    Floats,
    Ints,
    ModelRef,
    Rows,
    StageBatch,
    concat_failures,
)
from topics.records.wire import (
    Codec,
    batch_of_tensors,
    decode,
    encode,
    tensor_header,
    tensor_of_list,
    tensors_of,
)

__all__ = [
    "ATTEMPT_HEADER", "CONSUMER", "DECISION_SCHEMA", "HEARTBEAT_HEADER", "OPERATOR", "OUTCOME",
    "PARTITION", "PRODUCER", "SCALER", "TOPICS_KEY", "Acl", "Action", "AuditEntry", "Awaited",
    "Bools", "BytesColumn", "Challenger", "Codec", "ControlState", "Decision", "Deployment",
    "Failure", "FirstOffset", "Floats", "Heard", "Heartbeat", "InService", "Ints", "ModelRef",
    "Original", "PartitionStatus", "PolicyDeployment", "ReportState", "Rows", "Source",
    "StageBatch", "State", "StatusReport", "TopicIds", "VersionRef", "WeightsDeployment",
    "WorkerReport", "acl_commands", "acls", "attempt_at", "attempt_of", "audit_key",
    "batch_of_tensors", "buried_offset", "concat_failures", "cut_dead_letter", "decided_offset",
    "decode", "deploy_key", "encode", "first_key", "heartbeat_of", "is_report", "keyed_records",
    "original_digest", "outcome_fields", "outcome_of", "outcome_schema", "rfc3339_time",
    "rfc3339_times", "source_id", "status_key", "tensor_header", "tensor_of_list", "tensors_of",
    "topic_configs", "worker_key",
]  # fmt: skip
