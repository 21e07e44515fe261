"""Models of neighbouring components as one graph, which one onnxruntime session runs.

RegistryError
└── NotFusable   they make no common graph, or one that says something else
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from models.arrays import Floats32
from models.onnx.session import ModelSession, filled, opened
from models.registry import RegistryError
from topics.pipeline import Pipeline, kind_of

if TYPE_CHECKING:
    import onnx
    import onnxruntime as ort

_TRIED_ROWS = (4, 64, 512)
"""onnxruntime may work small and large batches out in other ways."""
_COLUMN = "as_column"


class NotFusable(RegistryError):
    """Models make no common graph, or one that says something else."""

    def __init__(self, names: Sequence[str], why: str) -> None:
        super().__init__(f"{', '.join(names)} cannot run in one session: {why}")


@dataclass(frozen=True, slots=True)
class FusableModel:
    """One component's model, and what it reads."""

    name: str
    session: ModelSession
    inputs: Sequence[str]
    """Members before it, whose signals it reads, and blocks of columns from outside, in order."""


def block_of(component: str) -> str:
    """What the columns that a component passes on are called in a graph."""
    return f"{component}.output"


def fusable_models(pipeline: Pipeline, sessions: Mapping[str, ModelSession]) -> list[FusableModel]:
    """The models of these components, which follow each other in the order of the flow.

    What passes on more than its signal is a block to those that read it: components from outside,
    and the one that passes on features, whose model itself reads that block.
    """
    specs = {name: pipeline.component(name) for name in sessions}
    signals = {name for name, spec in specs.items() if not kind_of(spec).passes_on_features}

    def tensors(name: str) -> list[str]:
        if name not in signals:
            return [block_of(name)]
        return [source if source in signals else block_of(source) for source in specs[name].inputs]

    return [FusableModel(name, session, tensors(name)) for name, session in sessions.items()]


class FusedSession:
    """One session that gives the signals of several models."""

    def __init__(self, session: ort.InferenceSession, names: Sequence[str]) -> None:
        self._session = session
        self._names = list(names)
        self._blocks = [tensor.name for tensor in session.get_inputs()]

    @classmethod
    def of(cls, members: Sequence[FusableModel], widths: Mapping[str, int]) -> Self:
        """The session of *members*; *widths* are the columns of each block from outside.

        It is tried on random rows, and must give the bits that the models give one by one. Raises
        NotFusable, also where the package `onnx` is missing, and what reading the models raises.
        """
        names = [member.name for member in members]
        try:
            content = merged(members, widths)
        except ImportError as exc:
            raise NotFusable(names, "that needs `pip install anabranch[fuse]`") from exc
        fused = cls(opened(content, " and ".join(names)), names)
        rng = np.random.default_rng(0)
        for rows in _TRIED_ROWS:
            blocks = {
                name: rng.normal(size=(rows, width)).astype(np.float32)
                for name, width in widths.items()
            }
            together, alone = fused.signals(blocks), one_by_one(members, blocks)
            for name in names:
                if (together[name].view(np.int32) != alone[name].view(np.int32)).any():
                    raise NotFusable(names, f"the signal of {name} has other bits then")
        return fused

    def signals(self, blocks: Mapping[str, Floats32]) -> dict[str, Floats32]:
        """Each model's signal (N,) of rows that are given as *blocks* of columns, (N, F) each."""
        rows = len(next(iter(blocks.values())))
        if rows == 0:
            return {name: np.zeros(0, np.float32) for name in self._names}
        signals = self._session.run(
            self._names, {name: filled(blocks[name]) for name in self._blocks}
        )
        return {
            name: signal.reshape(-1)[:rows]
            for name, signal in zip(self._names, signals, strict=True)
        }


def one_by_one(
    members: Sequence[FusableModel], blocks: Mapping[str, Floats32]
) -> dict[str, Floats32]:
    """What `FusedSession.signals` must give: each model run by itself."""
    known, signals = dict(blocks), dict[str, Floats32]()
    for member in members:
        signal = member.session.signal(
            np.concatenate([known[tensor] for tensor in member.inputs], axis=1)
        )
        signals[member.name] = signal
        known[member.name] = signal[:, None]
    return signals


def merged(members: Sequence[FusableModel], widths: Mapping[str, int]) -> bytes:
    """One ONNX graph: an input for each block, an output (N, 1) with each member's name.

    Raises NotFusable, and what reading the models raises.
    """
    from onnx import checker, helper, numpy_helper

    names = [member.name for member in members]
    models = _of_one_version([_renamed(member) for member in members])
    opsets = _opsets(names, models)
    nodes: list[onnx.NodeProto] = []
    constants = [numpy_helper.from_array(np.array([-1, 1], np.int64), _COLUMN)]
    for member, model in zip(members, models, strict=True):
        reads = model.graph.input[0].name
        nodes.append(
            helper.make_node("Concat", list(member.inputs), [reads], axis=1)
            if len(member.inputs) > 1
            else helper.make_node("Identity", list(member.inputs), [reads])
        )
        nodes += model.graph.node
        constants += model.graph.initializer
        signal = _prefixed(member.name, "signal")
        nodes.append(helper.make_node("Reshape", [signal, _COLUMN], [member.name]))
    graph = helper.make_graph(
        nodes, "fused",
        [_single(name, width) for name, width in widths.items()],
        [_single(name, 1) for name in names],
        constants,
    )  # fmt: skip
    version = max(model.ir_version for model in models)
    whole = helper.make_model(graph, opset_imports=opsets, ir_version=version)
    checker.check_model(whole)
    content: bytes = whole.SerializeToString()
    return content


def _single(name: str, width: int) -> onnx.ValueInfoProto:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])


def _prefixed(member: str, tensor: str) -> str:
    return f"{member}/{tensor}"


def _renamed(member: FusableModel) -> onnx.ModelProto:
    """The member's model with its name in front of every other name."""
    import onnx
    from onnx import compose

    from models.registry import digest_of

    content = member.session.read()
    if digest_of(content) != member.session.digest:
        raise NotFusable([member.name], "its file has changed since it was loaded")
    model = onnx.load_from_string(content)
    if model.functions or model.graph.sparse_initializer:
        raise NotFusable([member.name], "its graph has functions or sparse tensors")
    renamed: onnx.ModelProto = compose.add_prefix(model, _prefixed(member.name, ""))
    return renamed


def _of_one_version(models: Sequence[onnx.ModelProto]) -> Sequence[onnx.ModelProto]:
    """The models with the newest version of ONNX's own operators among them."""
    from onnx import version_converter

    versions = [
        {opset.domain: opset.version for opset in model.opset_import}.get("") for model in models
    ]
    newest = max(version or 0 for version in versions)
    return [
        model if version in (None, newest) else version_converter.convert_version(model, newest)
        for model, version in zip(models, versions, strict=True)
    ]


def _opsets(
    names: Sequence[str], models: Sequence[onnx.ModelProto]
) -> Sequence[onnx.OperatorSetIdProto]:
    """The operator sets of all models, which must agree."""
    opsets: dict[str, onnx.OperatorSetIdProto] = {}
    for model in models:
        for opset in model.opset_import:
            known = opsets.setdefault(opset.domain, opset)
            if known.version != opset.version:
                versions = f"{known.version} and {opset.version}"
                raise NotFusable(names, f"they use versions {versions} of {opset.domain}")
    return list(opsets.values())
