"""The schemas of Strimzi's resources, made by its own generator from its own types (Java 21)."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

POM = Path(__file__).parent / "strimzi" / "pom.xml"
CACHE = Path(__file__).parents[2] / ".kafka" / "strimzi"
LEAST_JAVA = 21
_TYPES = {
    "KafkaTopic": "io.strimzi.api.kafka.model.topic.KafkaTopic",
    "KafkaUser": "io.strimzi.api.kafka.model.user.KafkaUser",
}


@cache
def java() -> str | None:
    """A Java that is new enough: the one on the path, or another that is installed."""
    installed = sorted(Path("/usr/lib/jvm").glob("*/bin/java"))
    for found in (shutil.which("java"), *map(str, installed)):
        if found is not None and _version(found) >= LEAST_JAVA:
            return found
    return None


def _version(found: str) -> int:
    version = subprocess.run(
        [found, "-version"], capture_output=True, text=True, check=False
    ).stderr
    number = re.search(r'version "(\d+)', version)
    return int(number[1]) if number else 0


@cache
def definitions() -> Mapping[str, Path]:
    """Kind → the file of its CustomResourceDefinition, with API version v1 alone."""
    libs, made = CACHE / "libs", CACHE / "crds"
    if not libs.exists():
        subprocess.run(
            ["mvn", "--quiet", "--batch-mode", "--file", POM, "dependency:copy-dependencies",
             "-DincludeScope=runtime", f"-DoutputDirectory={libs}"], check=True,
        )  # fmt: skip
    made.mkdir(exist_ok=True)
    named = [f"{type_}={made / kind}.yaml" for kind, type_ in _TYPES.items()]
    generator = "io.strimzi.crdgenerator.CrdGenerator"
    subprocess.run(
        [str(java()), "-cp", f"{libs}/*", generator, "--yaml", *named],
        check=True, capture_output=True,
    )  # fmt: skip
    return {kind: made / f"{kind}.yaml" for kind in _TYPES}


@cache
def schemas() -> Mapping[str, dict[str, Any]]:
    """Kind → its schema as of API version v1, with unknown fields refused."""
    return {kind: _schema(path) for kind, path in definitions().items()}


def _schema(path: Path) -> dict[str, Any]:
    (version,) = yaml.safe_load(path.read_text())["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"]["x-kubernetes-preserve-unknown-fields"] = True
    refusing: dict[str, Any] = strict(schema)
    return refusing


def strict(schema: Any) -> Any:
    """*schema* as the API server prunes by it: what it does not name may not be there."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(value) for name, value in schema.items()}
    if made.get("type") == "object" and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made
