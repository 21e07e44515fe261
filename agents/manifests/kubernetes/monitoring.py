"""How a pipeline is watched: by Prometheus' operator, and by Grafana's sidecar for dashboards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from agents.manifests.kubernetes.names import Cluster, Manifest, labels, manifest, selector
from topics.errors import AnabranchError
from topics.pipeline import Pipeline

API = "monitoring.coreos.com/v1"
DASHBOARD_LABEL = {"grafana_dashboard": "1"}
"""By which Grafana's sidecar, as its Helm charts set it up, finds ConfigMaps."""


class NotToBeEmbedded(AnabranchError):
    """A file is not what can stand in a manifest."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


def read_rules(path: Path) -> dict[str, Any]:
    """Prometheus' rules in a file. Raises NotToBeEmbedded."""
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as exc:
        raise NotToBeEmbedded(path, f"it is no YAML: {exc}") from exc
    if not isinstance(content, dict) or not isinstance(content.get("groups"), list):
        raise NotToBeEmbedded(path, "it has no `groups:`, as Prometheus' rules have")
    return content


def read_dashboards(folder: Path) -> Mapping[str, Any]:
    """File name → dashboard, of all `*.json` in *folder*. Raises NotToBeEmbedded."""
    dashboards: dict[str, Any] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            dashboards[path.name] = json.loads(path.read_text())
        except ValueError as exc:
            raise NotToBeEmbedded(path, f"it is no JSON: {exc}") from exc
    if not dashboards:
        raise NotToBeEmbedded(folder, "there is no dashboard, no *.json, in it")
    return dashboards


def pod_monitor(pipeline: Pipeline, cluster: Cluster) -> Manifest:
    """A PodMonitor, not a ServiceMonitor: a pod that is not ready yet is scraped too.

    Alerts and dashboards go by jobs with `anabranch` in their name.
    """
    spec = {
        "selector": {"matchLabels": selector(pipeline)},
        "podMetricsEndpoints": [{"port": "metrics", "path": "/metrics", "interval": "15s"}],
    }
    return _resource("PodMonitor", pipeline, cluster, spec)


def prometheus_rule(pipeline: Pipeline, cluster: Cluster, rules: dict[str, Any]) -> Manifest:
    """The PrometheusRule with the groups of a file of Prometheus' rules."""
    return _resource("PrometheusRule", pipeline, cluster, {"groups": rules["groups"]})


def _resource(kind: str, pipeline: Pipeline, cluster: Cluster, spec: Manifest) -> Manifest:
    labelled = {**labels(pipeline), **cluster.monitor_labels}
    name = f"anabranch-{pipeline.name}"
    return manifest(API, kind, name, {"spec": spec}, labelled=labelled)
