"""The models of the benchmark: trained by the product, exported for everybody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice, pairwise
from pathlib import Path
from shutil import rmtree

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agents.commands.labelled_events import collected
from agents.components.catalogue import open_component
from models.registry.registry import Registry
from models.simulators import SIMULATORS
from models.training.train import train
from tests.benchmarks.card_events import STAGES, extra_fields
from topics.pipeline.file import PipelineFile, load_pipeline

PIPELINE = Path(__file__).with_name("card-fraud.yaml")
_ROWS, _SEED = 60_000, 3
_WIDTHS = (784, 32, 32, 32, 32, 10)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where the models are."""

    home: Path
    """The pipeline's registry is in it."""
    exported: Path
    """features.onnx, risk.onnx, decision.onnx, ffnn.onnx and pipeline.json."""


def prepared(folder: Path) -> ModelFiles:
    """The models for the pipeline file as it is, made once in *folder*."""
    home = folder / sha256(PIPELINE.read_bytes()).hexdigest()[:12]
    files = ModelFiles(home, home / "exported")
    if not (files.exported / "pipeline.json").exists():
        rmtree(home, ignore_errors=True)
        files.exported.mkdir(parents=True)
        (files.exported / "ffnn.onnx").write_bytes(network())
        _train(load_pipeline(PIPELINE), files)
    return files


def _train(file: PipelineFile, files: ModelFiles) -> None:
    registry = Registry(files.home / "registry")
    data = collected(file.pipeline, islice(_labelled(), _ROWS))
    train(file.pipeline, file.path.parent, data, registry, open_component=open_component)
    models: dict[str, dict[str, str]] = {}
    for stage in STAGES:
        version = registry.get(file.pipeline.name, stage, None)
        (files.exported / f"{stage}.onnx").write_bytes(version.read())
        models[stage] = {
            "model": f"{stage}@{version.version}",
            "digest": version.digest,
            "variant": version.card.variant,
        }
    about = {**_weighing(file), "models": models}
    (files.exported / "pipeline.json").write_text(json.dumps(about, indent=2))


def _weighing(file: PipelineFile) -> dict[str, object]:
    """How signals become a decision."""
    pipeline = file.pipeline
    return {
        "pipeline": pipeline.name,
        "policy": f"{pipeline.name}@{pipeline.policy.version}",
        "weights_version": 0,
        "weights": pipeline.weighting.weights,
        "otherwise": pipeline.policy.otherwise,
        "thresholds": pipeline.policy.thresholds,
    }


def _labelled() -> Iterator[tuple[dict[str, object], bool]]:
    for number, labelled in enumerate(SIMULATORS["card-fraud"](_SEED)):
        yield {**labelled.event, **extra_fields(number)}, labelled.label


def network() -> bytes:
    """Crayfish's network 784→32→32→32→32→10 with ReLU and softmax, of random weights.

    Source: Horchidan et al., *Crayfish: Navigating the Labyrinth of Machine Learning Inference
    in Stream Processing Systems*, EDBT 2024.
    """
    nodes, constants = _layers()
    graph = helper.make_graph(
        nodes, "ffnn",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["rows", _WIDTHS[0]])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["rows", _WIDTHS[-1]])],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _layers() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """From `input` to `prediction`: nodes, and their weights."""
    rng = np.random.default_rng(5)
    nodes, constants, last = list[onnx.NodeProto](), list[onnx.TensorProto](), "input"
    for number, (wide, narrow) in enumerate(pairwise(_WIDTHS)):
        weights = rng.normal(0, np.sqrt(2 / wide), (wide, narrow)).astype(np.float32)
        bias = rng.normal(0, 0.1, narrow).astype(np.float32)
        constants.append(numpy_helper.from_array(weights, f"w{number}"))
        constants.append(numpy_helper.from_array(bias, f"b{number}"))
        nodes.append(helper.make_node("Gemm", [last, f"w{number}", f"b{number}"], [f"z{number}"]))
        last = f"z{number}"
        if number < len(_WIDTHS) - 2:
            nodes.append(helper.make_node("Relu", [last], [f"a{number}"]))
            last = f"a{number}"
    nodes.append(helper.make_node("Softmax", [last], ["prediction"], axis=1))
    return nodes, constants
