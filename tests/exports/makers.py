"""Writes the exports: `python -m tests.exports.makers TOOL …`, with that tool installed.

Each is a file `NAME.onnx`, and `NAME.npz` with the rows (N, F), float32, and the probabilities (N,)
that the model gave them before it was exported. Columns are `amount`, `hour`, `age`; some have a
fourth, `channel`, as the place of its text among `CHANNELS`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILES = Path(__file__).parent / "files"
NAMES = ("amount", "hour", "age")
CHANNELS = ("chip", "online", "swipe")
_ROWS, _KEPT = 600, 60


def table(seed: int = 3) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows (N, 4) and their classes (N,)."""
    rng = np.random.default_rng(seed)
    rows = np.stack(
        [rng.lognormal(4, 1, _ROWS), rng.integers(0, 24, _ROWS), rng.normal(40, 12, _ROWS),
         rng.integers(0, len(CHANNELS), _ROWS)], axis=1,
    ).astype(np.float32)  # fmt: skip
    risk = np.log(rows[:, 0]) - 4 + (rows[:, 1] < 6) + (rows[:, 3] == 1) + rng.normal(0, 0.7, _ROWS)
    return rows, (risk > 1).astype(np.int64)


def keep(name: str, onnx: bytes, rows: Any, probabilities: Any, **more: Any) -> None:
    """Write the file *name*, and what its maker says of its first rows; *more* arrays."""
    FILES.mkdir(exist_ok=True)
    (FILES / f"{name}.onnx").write_bytes(onnx)
    np.savez_compressed(
        FILES / f"{name}.npz", rows=np.asarray(rows, np.float32)[:_KEPT],
        probabilities=np.asarray(probabilities, np.float64)[:_KEPT], **more,
    )  # fmt: skip
    print(name, len(onnx))


def lightgbm() -> None:
    """With and without categories; as a booster's raw scores."""
    import onnxmltools
    from lightgbm import LGBMClassifier
    from onnxmltools.convert.common.data_types import FloatTensorType

    rows, labels = table()

    def exported(model: Any, width: int, **options: Any) -> bytes:
        kinds = [("input", FloatTensorType([None, width]))]
        made: Any = onnxmltools.convert_lightgbm(
            model, initial_types=kinds, target_opset=15, **options
        )
        return bytes(made.SerializeToString())

    plain = LGBMClassifier(n_estimators=8, num_leaves=7, verbose=-1).fit(rows[:, :3], labels)
    said = np.asarray(plain.predict_proba(rows[:, :3]))[:, 1]
    keep("lightgbm", exported(plain, 3), rows[:, :3], said)
    keep("lightgbm-no-zipmap", exported(plain, 3, zipmap=False), rows[:, :3], said)
    with_category = LGBMClassifier(
        n_estimators=8, num_leaves=7, verbose=-1, min_data_per_group=1, cat_smooth=1
    ).fit(rows, labels, categorical_feature=[3])
    keep("lightgbm-categories", exported(with_category, 4), rows,
         np.asarray(with_category.predict_proba(rows))[:, 1])  # fmt: skip


def xgboost() -> None:
    """A classifier."""
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType
    from xgboost import XGBClassifier

    rows, labels = table()
    model = XGBClassifier(n_estimators=8, max_depth=3).fit(rows[:, :3], labels)
    made: Any = onnxmltools.convert_xgboost(
        model, initial_types=[("input", FloatTensorType([None, 3]))], target_opset=15
    )
    keep("xgboost", made.SerializeToString(), rows[:, :3], model.predict_proba(rows[:, :3])[:, 1])


def catboost() -> None:
    """Its own exporter."""
    from catboost import CatBoostClassifier

    rows, labels = table()
    model = CatBoostClassifier(iterations=10, depth=3, verbose=False, allow_writing_files=False)
    model.fit(rows[:, :3], labels)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catboost.onnx"
        model.save_model(str(path), format="onnx")
        keep("catboost", path.read_bytes(), rows[:, :3], model.predict_proba(rows[:, :3])[:, 1])


def sklearn() -> None:
    """Pipelines: an input for each column, with texts; in double; of three classes."""
    import pandas as pd
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import (
        DoubleTensorType,
        FloatTensorType,
        Int64TensorType,
        StringTensorType,
    )
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rows, labels = table()

    def exported(model: Any, kinds: Any, **options: Any) -> bytes:
        made: Any = to_onnx(model, initial_types=kinds, target_opset=17, **options)
        return bytes(made.SerializeToString())

    frame = pd.DataFrame(rows[:, :3], columns=list(NAMES))
    frame["channel"] = np.array(CHANNELS)[rows[:, 3].astype(int)]
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), list(NAMES)),
         ("texts", OneHotEncoder(handle_unknown="ignore"), ["channel"])]
    )  # fmt: skip
    model = make_pipeline(columns, LogisticRegression()).fit(frame, labels)
    kinds = [(name, FloatTensorType([None, 1])) for name in NAMES]
    kinds += [("channel", StringTensorType([None, 1]))]
    keep(
        "sklearn-columns-and-texts", exported(model, kinds), rows, model.predict_proba(frame)[:, 1]
    )

    whole = frame[["hour", "amount"]].astype({"hour": np.int64})
    both = make_pipeline(StandardScaler(), LogisticRegression()).fit(whole, labels)
    kinds = [("hour", Int64TensorType([None, 1])), ("amount", Int64TensorType([None, 1]))]
    whole["amount"] = whole["amount"].astype(np.int64)
    keep("sklearn-integers", exported(both, kinds), np.trunc(rows[:, :3]),
         both.predict_proba(whole)[:, 1])  # fmt: skip

    double = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows[:, :3], labels)
    kinds = [("X", DoubleTensorType([None, 3]))]
    keep("sklearn-double", exported(double, kinds, options={"zipmap": False}), rows[:, :3],
         double.predict_proba(rows[:, :3])[:, 1])  # fmt: skip

    thirds = np.array(["high", "low", "middle"])[np.digitize(rows[:, 0], [30, 90])]
    three = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows[:, :3], thirds)
    keep("sklearn-three-classes", exported(three, [("X", FloatTensorType([None, 3]))]), rows[:, :3],
         three.predict_proba(rows[:, :3])[:, 0])  # fmt: skip


def pytorch() -> None:
    """The dynamo exporter as it is, with free rows, of logits; half; a transformer block."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    rows, _ = table()
    x = torch.tensor(rows[:, :3])
    scale = torch.tensor([100.0, 24.0, 50.0])

    class Scaled(nn.Module):
        def __init__(self, *layers: Any) -> None:
            super().__init__()
            self.layers = nn.Sequential(*layers)

        def forward(self, x: Any) -> Any:
            return self.layers(x / scale.to(x.dtype))

    class Attention(nn.Module):
        """Each column a token of eight, one block, their mean."""

        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(1, 8)
            self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.head = nn.Linear(8, 1)

        def forward(self, x: Any) -> Any:
            tokens = self.embed((x / scale).unsqueeze(-1))
            return torch.sigmoid(self.head(self.block(tokens).mean(dim=1)))

    def exported(net: Any, example: Any, **options: Any) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.onnx"
            torch.onnx.export(net.eval(), (example,), str(path), external_data=False, **options)
            return path.read_bytes()

    def hidden() -> list[Any]:
        return [nn.Linear(3, 8), nn.ReLU()]

    free = {"dynamic_shapes": ({0: torch.export.Dim("rows")},)}
    with torch.no_grad():
        net = Scaled(*hidden(), nn.Linear(8, 1), nn.Sigmoid())
        keep("pytorch-fixed", exported(net, x[:5]), rows[:, :3], net(x)[:, 0])
        keep("pytorch", exported(net, x[:5], **free), rows[:, :3], net(x)[:, 0])
        one = Scaled(*hidden(), nn.Linear(8, 1))
        keep("pytorch-logit", exported(one, x[:5], output_names=["logits"], **free), rows[:, :3],
             torch.sigmoid(one(x))[:, 0])  # fmt: skip
        two = Scaled(*hidden(), nn.Linear(8, 2))
        keep("pytorch-two-logits", exported(two, x[:5], **free), rows[:, :3],
             torch.softmax(two(x), 1)[:, 1])  # fmt: skip
        half = Scaled(*hidden(), nn.Linear(8, 1), nn.Sigmoid())
        said = half(x)[:, 0]
        keep("pytorch-half", exported(half.half(), x[:5].half(), **free), rows[:, :3], said)
        block = Attention()
        block.eval()
        keep("pytorch-transformer", exported(block, x[:5], **free), rows[:, :3], block(x)[:, 0])
        keep("pytorch-transformer-fixed", exported(block, x[:5]), rows[:, :3], block(x)[:, 0])


def keras() -> None:
    """Keras 3's own exporter, and two inputs of several columns each."""
    import keras as k

    k.utils.set_random_seed(0)
    rows, _ = table()

    def exported(model: Any) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.onnx"
            model.export(str(path), format="onnx", verbose=False)
            return path.read_bytes()

    normal = k.layers.Normalization()
    normal.adapt(rows[:, :3])
    x = k.Input((3,), name="x")
    y = k.layers.Dense(1, activation="sigmoid")(k.layers.Dense(8, activation="relu")(normal(x)))
    model = k.Model(x, y)
    said = model.predict(rows[:, :3], verbose=0)[:, 0]
    # Its exporter leaves the means out, as an input that nothing but this layer has values for.
    keep("keras", exported(model), rows[:, :3], said, means=np.asarray(normal.mean))

    first, second = k.Input((1,), name="amount"), k.Input((2,), name="others")
    joined = k.layers.Concatenate()([first / 100, second / 50])
    y = k.layers.Dense(2, activation="softmax")(k.layers.Dense(8, activation="relu")(joined))
    model = k.Model([first, second], y)
    said = model.predict([rows[:, :1], rows[:, 1:3]], verbose=0)[:, 1]
    keep("keras-two-inputs", exported(model), rows[:, :3], said)


MAKERS: dict[str, Callable[[], None]] = {
    maker.__name__: maker for maker in (lightgbm, xgboost, catboost, sklearn, pytorch, keras)
}


def main() -> None:
    """Make the exports of the tools that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "tools", nargs="+", choices=[*MAKERS], metavar="TOOL", help=", ".join(MAKERS)
    )
    for tool in parser.parse_args().tools:
        MAKERS[tool]()


if __name__ == "__main__":
    main()
