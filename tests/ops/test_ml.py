"""Operators of ai.onnx.ml over time."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from pulsify.api import convert
from pulsify.errors import Refusal
from tests.contract_check import check
from tests.graphs import G

ML = "ai.onnx.ml"

MAPS: dict[str, dict[str, Any]] = {
    "Scaler": {"offset": [0.1, 0.2, 0.3], "scale": [2.0, 3.0, 4.0]},
    "Normalizer": {"norm": "L2"},
    "Binarizer": {"threshold": 0.2},
    "Imputer": {"imputed_value_floats": [9.0], "replaced_value_float": 0.0},
    "LinearRegressor": {"coefficients": [0.5, -1.0, 2.0, 1.0, 1.0, 1.0], "intercepts": [0.5, 1.0], "targets": 2},
}


def modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """With version 3 of the domain."""
    next(o for o in model.opset_import if o.domain == ML).version = 3
    return model


def over_rows(op: str, attributes: dict[str, Any]) -> onnx.ModelProto:
    """Behind a look back by two frames, and before another by one."""
    g = G()
    y = g("Conv", g.input("x", [1, 3, "S"]), g.weight(3, 3, 3), pads=[2, 0])
    rows = g("Squeeze", g("Transpose", y, perm=[2, 0, 1]), g.ints(1))
    z = g(op, rows, domain=ML, **attributes)
    wide = 2 if op == "LinearRegressor" else 3
    z = g("Transpose", g("Unsqueeze", z, g.ints(0)), perm=[0, 2, 1])
    return g.model(g("Conv", z, g.weight(2, wide, 2), pads=[1, 0]))


@pytest.mark.parametrize("op", MAPS)
def test_frames_are_rows(op: str) -> None:
    check(over_rows(op, MAPS[op]), "S", (1, 3, "P"), lengths=(1, 2, 5, 9))


def test_labels_and_features() -> None:
    g = G()
    x = g.input("x", [1, "S"], TensorProto.INT64)
    codes = g("LabelEncoder", x, domain=ML, keys_int64s=[0, 1, 2], values_floats=[0.5, 1.5, -1.0], default_float=0.25)
    y = g("Conv", g("Unsqueeze", codes, g.ints(1)), g.weight(3, 1, 2), pads=[1, 0])
    picked = g("ArrayFeatureExtractor", g("Transpose", y, perm=[0, 2, 1]), g.const([2, 0], np.int64), domain=ML)
    check(modern(g.model(picked)), "S", (2, "P"))


def test_a_classifier_of_frames() -> None:
    g = G()
    x = g.input("x", ["S", 3])
    label, scores = g(
        "LinearClassifier", x, n=2, domain=ML, coefficients=[1.0, 2.0, 3.0, -1.0, 0.5, 1.0, 2.0, -2.0, 0.0], intercepts=[0.1, 0.2, 0.3],
        classlabels_ints=[5, 6, 7], post_transform="SOFTMAX",
    )  # fmt: skip
    check(g.model(label, scores, **{label: TensorProto.INT64}), "S", (1, 4))


def test_words_become_numbers() -> None:
    g = G()
    x = g.input("x", ["S"], TensorProto.STRING)
    codes = g("LabelEncoder", x, domain=ML, keys_strings=["a", "b"], values_int64s=[3, 4], default_int64=-1)
    done = convert(modern(g.model(codes, **{codes: TensorProto.INT64})), axis="S", pulse=2)
    assert done.verify().lengths


def test_time_as_features_is_refused() -> None:
    g = G()
    model = g.model(g("Scaler", g.input("x", [4, "S"]), domain=ML, offset=[0.5], scale=[2.0]))
    with pytest.raises(Refusal, match="time is the axis of features"):
        convert(model, axis="S", pulse=1)
    g = G()
    model = g.model(g("LinearRegressor", g.input("x", [4, "S"]), domain=ML, coefficients=[0.5], intercepts=[0.5]))
    with pytest.raises(Refusal, match="time is their axis"):
        convert(model, axis="S", pulse=1)
