"""Operators of ai.onnx.ml, as converters of classic machine learning write them: maps, scalers, models of rows.

Maps are pointwise. A model of rows ``[rows, features]`` looks at one row at a time, so that rows may be frames; what
scales or selects features treats the frames on every other axis alike: ``out [a, b) <- in [a, b)``. Time as the axis of
features is refused.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from pulsify.facts import Plan, WireFact
from pulsify.ops._families import AxisMap, AxisRule, axis_plan, same_axes
from pulsify.ops._rule import NodeView, register

ML = "ai.onnx.ml"


class Mapped(AxisRule):
    """Element by element."""

    def dtype(self, n: NodeView) -> ir.DataType:
        return n.fact(0).dtype

    def infer(self, n: NodeView) -> list[WireFact]:
        return [WireFact(self.dtype(n), n.shape(0))]

    def axes(self, n: NodeView) -> AxisMap:
        return [same_axes(len(n.shape(0)), ())]


class LabelEncoder(Mapped):
    """Keys to values; the first version maps strings to their number in a list, or back."""

    def dtype(self, n: NodeView) -> ir.DataType:
        tensor = n.node.attributes.get("values_tensor")
        if tensor is not None:
            return tensor.as_tensor().dtype
        for name, dtype in (("strings", ir.DataType.STRING), ("int64s", ir.DataType.INT64), ("floats", ir.DataType.FLOAT)):
            if n.attr(f"values_{name}") is not None:
                return dtype
        return ir.DataType.INT64 if n.fact(0).dtype == ir.DataType.STRING else ir.DataType.STRING


class Binarizer(Mapped):
    """``x > threshold`` as a number. Written out, as the operator itself stops at a NaN, which garbage may hold."""

    def plan(self, n: NodeView) -> Plan:
        return axis_plan(self, n, kind="custom", lower=_above)


def _above(low: Any) -> list[ir.Value]:
    dtype = low.facts[0].dtype
    bound = low.const(low.node.attributes.get_float("threshold", 0.0), dtype.numpy())
    return [low.op("Cast", [low.op("Greater", [low.inputs[0], bound], "above")], "binary", to=int(dtype))]


class Features(AxisRule):
    """Every feature, on the last axis, by numbers of its own or by all of them."""

    status, note = "conditions", "time on any axis but the last, that of features"

    def infer(self, n: NodeView) -> list[WireFact]:
        return [WireFact(n.fact(0).dtype if self.keeps(n) else ir.DataType.FLOAT, n.shape(0))]

    def keeps(self, n: NodeView) -> bool:
        """Whether the result has the type of the input; else it is float."""
        return n.op == "Imputer"

    def axes(self, n: NodeView) -> AxisMap:
        rank = len(n.shape(0))
        return [same_axes(rank, (rank - 1,))]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return "it treats every feature by itself, and time is the axis of features"


class Pick(Features):
    """``out[.., k] = in[.., indices[k]]``."""

    def infer(self, n: NodeView) -> list[WireFact]:
        shape, index = n.shape(0), n.shape(1)
        rows = shape[:-1] if len(shape) > 1 else (1,)
        return [WireFact(n.fact(0).dtype, (*rows, index[-1] if index else 1))]


class Rows(AxisRule):
    """A model of rows: ``[rows, features]`` to ``[rows, targets]``, for a classifier behind the labels ``[rows]``."""

    status, note = "conditions", "time along the rows"

    def infer(self, n: NodeView) -> list[WireFact]:
        shape = n.shape(0)
        if len(shape) != 2:
            n.refuse(f"its input has {len(shape)} axes, not those of rows and features")
        if not n.op.endswith("Classifier"):
            targets = n.attr("targets" if n.op == "LinearRegressor" else "n_targets", 1)
            return [WireFact(ir.DataType.FLOAT, (shape[0], targets))]
        words = n.attr("classlabels_strings")
        labels = words or n.attr("classlabels_ints") or n.attr("classlabels_int64s")
        if labels is None:
            n.refuse("it names no classes", hint="check the model with onnx.checker")
        kind = ir.DataType.STRING if words else ir.DataType.INT64
        return [WireFact(kind, (shape[0],)), WireFact(ir.DataType.FLOAT, (shape[0], len(labels)))][: len(n.node.outputs)]

    def axes(self, n: NodeView) -> AxisMap:
        return [[((0, 0),), *[()] * (out.rank - 1)] for out in n.outputs]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return "it needs all features of a row at once, and time is their axis"


register(LabelEncoder(), "LabelEncoder", domain=ML)
register(Binarizer(), "Binarizer", domain=ML)
register(Features(), "Scaler", "Imputer", "Normalizer", domain=ML)
register(Pick(), "ArrayFeatureExtractor", domain=ML)
register(
    Rows(), "LinearRegressor", "LinearClassifier", "SVMRegressor", "SVMClassifier", "TreeEnsembleRegressor",
    "TreeEnsembleClassifier", domain=ML,
)  # fmt: skip
