"""How the broker keeps each topic of a pipeline, where that is not the broker's own default."""

from __future__ import annotations

from collections.abc import Mapping

from topics.pipeline import Topology

_MAX_EVENT_BYTES = 16 * 2**20
_LARGE = {"max.message.bytes": str(_MAX_EVENT_BYTES)}
_COMPACTED = {"cleanup.policy": "compact", "segment.bytes": str(64 * 2**20)}
_STATE = {**_COMPACTED, **_LARGE}
_DAY_MS = 24 * 3600 * 1000
_READ_WHOLE = {
    # Whoever starts reads all of it. Only a segment that is closed is compacted, and a tombstone
    # goes a day after that: within two days, whether much is written or little.
    "cleanup.policy": "compact",
    "segment.bytes": str(2**20),
    "max.compaction.lag.ms": str(_DAY_MS),
    "delete.retention.ms": str(_DAY_MS),
    "min.cleanable.dirty.ratio": "0.1",
}
_REPORTS = {
    **_READ_WHOLE,
    # One clock tells how old a report is, whatever the workers' clocks say.
    "message.timestamp.type": "LogAppendTime",
}


def topic_configs(topology: Topology) -> Mapping[str, Mapping[str, str]]:
    """Topic → its settings; a topic that is not in there has none of its own.

    What carries whole events takes large ones, and so do snapshots of windows: a key's past is one
    record. These, what is in service and what workers say of themselves are compacted.
    """
    configs = dict.fromkeys((topology.events, topology.dead_letters, topology.redrive), _LARGE)
    states = dict.fromkeys(map(topology.state, topology.stateful), _STATE)
    return configs | states | {topology.control: _READ_WHOLE, topology.reports: _REPORTS}
