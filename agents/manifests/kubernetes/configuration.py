"""What of a pipeline file concerns one worker, so that a change of it restarts that worker alone.

Each worker mounts the whole file from a ConfigMap of its own, whose name ends with a digest of what
concerns it. Where that changes, the name in its StatefulSet does, and its pods are replaced one by
one; where something else changes, the ConfigMap gets the new text under the old name, and a pod
reads that whenever it starts next.

Everything concerns every worker, but for what is left out here on purpose:

- of another component, what it computes and by which model. A worker knows of it that it is there,
  what it reads and by which key; and of what it reads itself, the columns.
- weights, quorum, thresholds and what is late: the weighting agent's.
- what is explained, and what of it may not be said: the explainer's, whom every component concerns.
- what is for training, optimising, people and topics alone.
- what equals the schema's default: a release that knows one setting more restarts nobody by it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel

from agents.manifests.kubernetes.names import Manifest, workload_name
from topics.pipeline import EXPLAINER, WEIGH, ComponentSpec, Pipeline, inputs_of, workers

_DIGITS = 10
_OF_NO_WORKER = {"description", "data", "explain", "optimise", "renew", "retention"}
_SENSITIVE = {"event": {"fields": {"__all__": {"sensitive"}}}}
_OF_THE_WEIGHTING_AGENT = {"inputs", "weights", "late", "quorum", "missing"}


def config_name(pipeline: Pipeline, component: str) -> str:
    """The ConfigMap that the worker of *component* mounts. Raises names.NameUnusable."""
    text = json.dumps(concern(pipeline, component), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    return f"{workload_name(pipeline, component)}-{digest}"


def concern(pipeline: Pipeline, component: str) -> Manifest:
    """Those parts of the pipeline file that the worker of *component* goes by."""
    if component == EXPLAINER:
        return _explained(pipeline)
    members = workers(pipeline).get(component, ())
    read = inputs_of(pipeline, members) if members else list(pipeline.weighting.inputs)
    of_others = {*_OF_NO_WORKER, "components", "fuse"}
    if component != WEIGH:
        of_others |= {"weighting", "policy"}
    content = _written(pipeline, exclude={**dict.fromkeys(of_others, True), **_SENSITIVE})
    if component != WEIGH:
        content["weighting"] = _written(pipeline.weighting, exclude=_OF_THE_WEIGHTING_AGENT)
    content["members"] = list(members)
    content["components"] = [
        _written(spec)
        if spec.name in members
        else {**_seen(pipeline, spec), **({"columns": _columns(spec)} if spec.name in read else {})}
        for spec in pipeline.components
    ]
    return content


def _explained(pipeline: Pipeline) -> Manifest:
    """What the explainer goes by; models, weights and policy are those that a decision names."""
    of_others = {*_OF_NO_WORKER, "components", "fuse", "weighting", "policy"} - {"explain"}
    return {
        **_written(pipeline, exclude=of_others),
        "weighted": list(pipeline.weighting.inputs),
        "components": [
            {
                **_seen(pipeline, spec),
                **_written(spec, include={"features"}),
                "path": spec.model.path if spec.model is not None else None,
            }
            for spec in pipeline.components
        ],
    }


def _seen(pipeline: Pipeline, spec: ComponentSpec) -> Manifest:
    """What another worker knows of a component."""
    return {
        **_written(spec, include={"name", "kind", "import_path", "inputs", "key"}),
        "has_model": spec.model is not None,
        "windowed": bool(spec.windowed),
        "reads_outcomes": pipeline.reads_outcomes(spec.name),
    }


def _columns(spec: ComponentSpec) -> list[str]:
    return [column for feature in spec.features or () for column in feature.columns]


def _written(part: BaseModel, **selection: Any) -> Manifest:
    return part.model_dump(mode="json", exclude_defaults=True, **selection)
