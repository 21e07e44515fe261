"""Manifests of a folder, and what a Kustomize build makes of an overlay."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.manifests.kubernetes.files import Source, base, overlays, write
from agents.manifests.kubernetes.names import Cluster
from topics.pipeline.file import find_pipeline
from topics.pipeline.schema import Pipeline

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "deploy" / "kubernetes" / "card-fraud"
FUSED = "card-fraud, fused"
DEFAULT = Cluster()
NAMES = ("card-fraud", FUSED, "machine-maintenance", "road-risk", "tumour-triage")

Manifest = dict[str, Any]


def source(name: str) -> str:
    """The text of a pipeline file."""
    if name == FUSED:
        return source("card-fraud") + "\nfuse: [risk-linear, risk-forest, decision]\n"
    return find_pipeline(name).read_text()


def pipeline(name: str) -> Pipeline:
    return Pipeline.model_validate(yaml.safe_load(source(name)))


def whole(name: str) -> Source:
    """Pipeline *name* with everything that can be made of it."""
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    dashboards = {
        path.name: json.loads(path.read_text())
        for path in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
    }
    return Source(pipeline(name), source(name), 150_000, rules, dashboards)


def generated(name: str, cluster: Cluster = DEFAULT) -> Mapping[str, str]:
    """Path → content of everything that is written for pipeline *name*."""
    return {**base(whole(name), cluster), **overlays(pipeline(name), cluster)}


def resources(name: str, cluster: Cluster = DEFAULT) -> list[Manifest]:
    """What the base of pipeline *name* declares."""
    return declared(generated(name, cluster))


def declared(files: Mapping[str, str]) -> list[Manifest]:
    """What a base declares, but for the ConfigMaps that Kustomize makes."""
    return [
        found
        for part in ("base/broker", "base/workloads")
        for path in yaml.safe_load(files[f"{part}/kustomization.yaml"])["resources"]
        for found in yaml.safe_load_all(files[f"{part}/{path}"])
    ]


def config_maps(files: Mapping[str, str]) -> dict[str, Manifest]:
    """Name → what Kustomize makes a ConfigMap of; its hash is not in the name yet."""
    content = yaml.safe_load(files["base/workloads/kustomization.yaml"])
    return {each["name"]: each for each in content["configMapGenerator"]}


def of_kind(found: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


def written(name: str, folder: Path, cluster: Cluster = DEFAULT) -> Path:
    write(folder, whole(name), cluster)
    return folder


def built(folder: Path, overlay: str) -> list[Manifest]:
    """What Kustomize makes of an overlay in *folder*."""
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(command[0]) is not None:
            path = folder / "overlays" / overlay
            done = subprocess.run([*command, path], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return list(yaml.safe_load_all(done.stdout))
    pytest.skip("neither kustomize nor kubectl is installed")


def strings(content: Any) -> Iterator[str]:
    """Every string in *content*."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from strings(value)
