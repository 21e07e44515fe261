"""The audit: proof from the topics alone that every event ended exactly once.

`topic_audit` fills a `ledger` (in `ledger_chunks`) from `end_batches` and `decision_batches`;
`partition_accounts` keeps what could not be read, `identity_sample` whether decisions are about the
events that stand there, `findings` puts it into sentences.
"""

from agents.audit.ledger import Ledger
from agents.audit.topic_audit import Audit, audit_topics

__all__ = [
    "Audit", "Ledger", "audit_topics",
]  # fmt: skip
