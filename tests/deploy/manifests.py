"""Manifests of a folder, and what a Kustomize build makes of an overlay."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.manifests.kubernetes.files import base, overlays, write
from agents.manifests.kubernetes.names import Cluster
from topics.pipeline.file import find_pipeline
from topics.pipeline.schema import Pipeline

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "deploy" / "kubernetes" / "card-fraud"
FUSED = "card-fraud, fused"
NAMES = ("card-fraud", FUSED, "machine-maintenance", "road-risk", "tumour-triage")

Manifest = dict[str, Any]


def source(name: str) -> str:
    """The text of a pipeline file."""
    if name == FUSED:
        return source("card-fraud") + "\nfuse: [risk-linear, risk-forest, decision]\n"
    return find_pipeline(name).read_text()


def pipeline(name: str) -> Pipeline:
    return Pipeline.model_validate(yaml.safe_load(source(name)))


def generated(name: str) -> Mapping[str, str]:
    """Path → content of everything that is written for pipeline *name*."""
    made = pipeline(name)
    return {**base(made, source(name), Cluster()), **overlays(made, Cluster())}


def resources(name: str) -> list[Manifest]:
    """What the base of pipeline *name* declares."""
    files = generated(name)
    (kustomization,) = yaml.safe_load_all(files["base/kustomization.yaml"])
    return [
        found
        for path in kustomization["resources"]
        for found in yaml.safe_load_all(files[f"base/{path}"])
    ]


def of_kind(found: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


def written(name: str, folder: Path) -> Path:
    write(folder, pipeline(name), source(name), Cluster())
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
