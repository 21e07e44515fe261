"""What topics are set to on the broker, and what is said where they keep records too short."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from topics.kafka import client_options
from topics.pipeline import Topology
from topics.settings import BrokerSettings

_RETENTION = "retention.ms"
_DAY_MS = 86_400_000
_FOREVER = -1

Settings = Mapping[str, str]
"""A topic's settings by name, with the broker's defaults."""


async def topic_settings(settings: BrokerSettings, topics: Iterable[str]) -> Mapping[str, Settings]:
    """Topic → its settings; without those that do not exist, and those that we may not ask about.

    That is a right of its own, DescribeConfigs, which the rights of workers do not include; the
    embedded broker knows no settings.
    """
    if settings.embedded:
        return {}
    wanted = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        answers = await admin.describe_configs(wanted)
    except KafkaError:
        return {}
    finally:
        await admin.close()
    return {
        topic: {name: value or "" for name, value, *_ in entries}
        for answer in answers
        for error, _, _, topic, entries in answer.resources
        if not error
    }


async def retention_findings(settings: BrokerSettings, topology: Topology) -> list[str]:
    """Sentences about topics that keep less than the pipeline file needs; none if all is well."""
    topics = [topic for topic in topology.all if topic not in topology.compacted]
    return list(too_short(topology, await topic_settings(settings, topics)))


def too_short(topology: Topology, by_topic: Mapping[str, Settings]) -> Iterator[str]:
    """Sentences about those of *by_topic* that keep less than the pipeline file needs."""
    needed = topology.retention_ms
    alter = "kafka-configs.sh --bootstrap-server BROKER --alter --entity-type topics --entity-name"
    for topic, given in by_topic.items():
        if "delete" not in given.get("cleanup.policy", "delete"):
            continue  # compacted by hand: the audit says what that does
        kept = int(given.get(_RETENTION) or _FOREVER)
        if _FOREVER < kept < needed:
            yield (
                f"topic {topic} keeps records for {days(kept)}, the pipeline file needs "
                f"{days(needed)} (its longest window and retention): windows that are lost could "
                f"not be made again; set it with `{alter} {topic} --add-config "
                f"{_RETENTION}={needed}`, or shorten the windows"
            )
        size = int(given.get("retention.bytes") or _FOREVER)
        if size > _FOREVER:
            yield (
                f"topic {topic} keeps at most {size:,} bytes a partition (retention.bytes), "
                f"whatever their age, and the pipeline file needs {days(needed)}: take the bound "
                f"away with `{alter} {topic} --add-config retention.bytes=-1`, and let "
                f"{_RETENTION} delete"
            )


def days(ms: int) -> str:
    """*ms* for people: `37 d`, `12.5 d`, `for ever`.

    >>> days(604800000), days(1080000000), days(-1)
    ('7 d', '12.5 d', 'for ever')
    """
    return "for ever" if ms == _FOREVER else f"{ms / _DAY_MS:.4g} d"
