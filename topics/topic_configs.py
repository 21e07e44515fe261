"""How the broker keeps each topic of a pipeline, where that is not the broker's own default."""

from __future__ import annotations

from collections.abc import Mapping

from topics.topology import Topology

_MAX_EVENT_BYTES = 16 * 2**20
_LARGE = {"max.message.bytes": str(_MAX_EVENT_BYTES)}
_COMPACTED = {"cleanup.policy": "compact", "segment.bytes": str(64 * 2**20)}
_REPORTS = {
    "cleanup.policy": "compact",
    # Written every few seconds and read whole: only a segment that is full is compacted.
    "segment.bytes": str(2**20),
    # One clock tells how old a report is, whatever the workers' clocks say.
    "message.timestamp.type": "LogAppendTime",
}


def topic_configs(topology: Topology) -> Mapping[str, Mapping[str, str]]:
    """Topic → its settings; a topic that is not in there has none of its own.

    What carries whole events takes large ones; snapshots of windows, what is in service and what
    workers say of themselves are compacted.
    """
    configs = dict.fromkeys((topology.events, topology.dead_letters, topology.redrive), _LARGE)
    compacted = (topology.control, *(topology.state(name) for name in topology.stateful))
    return configs | dict.fromkeys(compacted, _COMPACTED) | {topology.reports: _REPORTS}
