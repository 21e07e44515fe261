"""Kafka's own commands, and its JMX exporter, as their jars come from Maven."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from tests.kafka_nodes import need

_POM = Path(__file__).parent / "pom.xml"
_CACHE = Path(__file__).parents[3] / ".kafka" / "broker-tools"
_COMMANDS = {
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
}


@cache
def _jars() -> Path:
    """The folder of the jars, fetched where it is missing or another pom's."""
    need("java", "mvn")
    libs, copy = _CACHE / "libs", _CACHE / "pom.xml"
    if not copy.is_file() or copy.read_text() != _POM.read_text():
        subprocess.run(
            ["mvn", "--quiet", "--batch-mode", "--file", _POM, "dependency:copy-dependencies",
             "-DincludeScope=runtime", f"-DoutputDirectory={libs}"], check=True,
        )  # fmt: skip
        copy.write_text(_POM.read_text())
    return libs


def jmx_agent() -> Path:
    """The exporter's jar."""
    (jar,) = _jars().glob("jmx_prometheus_javaagent-*.jar")
    return jar


def put_commands(folder: Path) -> None:
    """Kafka's commands in *folder*, by the names that they have in Kafka's bin directory."""
    for name, main in _COMMANDS.items():
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec java -cp "{_jars()}/*" {main} "$@"\n')
        command.chmod(0o755)
