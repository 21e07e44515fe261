"""What stands on each topic of a pipeline, to the byte: these forms outlive a deployment.

`stage_batch` (what one component says about N rows) and `wire` (its bytes), `decision`,
`dead_letter` and `ends` (how source records end), `heartbeat`, `outcome`; then what workers and
operators tell each other: `control` (versions in service), `reports` and `status`. `topic_configs`
says how a broker keeps each topic, `acls` who may read and write it.
"""

from topics.records.acls import Acl, commands
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
from topics.records.dead_letter import Original, cut, digest_of
from topics.records.decision import (
    ATTEMPT,
    SCHEMA,
    Decision,
    Source,
    attempt_of,
    rfc3339,
    rfc3339_all,
    source_id,
)
from topics.records.ends import attempt_at, buried_offset, decided_offset
from topics.records.heartbeat import HEADER, Heartbeat, heartbeat_of
from topics.records.outcome import OUTCOME, outcome_fields, outcome_of, outcome_schema
from topics.records.reports import (
    PARTITION,
    TOPICS,
    FirstOffset,
    Heard,
    InService,
    ReportState,
    StatusReport,
    TopicIds,
    WorkerReport,
    first_key,
    is_report,
    records,
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
from topics.records.status import Awaited, PartitionStatus, State
from topics.records.wire import (
    Codec,
    batch_of_tensors,
    decode,
    described,
    encode,
    tensor_of_list,
    tensors_of,
)

__all__ = [
    "ATTEMPT", "HEADER", "OUTCOME", "PARTITION", "SCHEMA", "TOPICS", "Acl", "Action",
    "AuditEntry", "Awaited", "Bools", "BytesColumn", "Challenger", "Codec", "ControlState",
    "Decision", "Deployment", "Failure", "FirstOffset", "Floats", "Heard", "Heartbeat",
    "InService", "Ints", "ModelRef", "Original", "PartitionStatus", "PolicyDeployment",
    "ReportState", "Rows", "Source", "StageBatch", "State", "StatusReport", "TopicIds",
    "VersionRef", "WeightsDeployment", "WorkerReport", "attempt_at", "attempt_of", "audit_key",
    "batch_of_tensors", "buried_offset", "commands", "concat_failures", "cut", "decided_offset",
    "decode", "deploy_key", "described", "digest_of", "encode", "first_key", "heartbeat_of",
    "is_report", "outcome_fields", "outcome_of", "outcome_schema", "records", "rfc3339",
    "rfc3339_all", "source_id", "status_key", "tensor_of_list", "tensors_of", "worker_key",
]  # fmt: skip
